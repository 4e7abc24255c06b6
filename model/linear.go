// Package model holds what architectures share: the batch that a forward pass
// takes, matrix products, rotary embedding and attention, spread over a team
// of workers.
//
// Everything that a pass writes belongs to a session's scratch, so that
// sessions of one model may run at the same time on teams of their own;
// weights are read only.
package model

import (
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// Acts is the input of matrix products: rows of floats, and the same rows
// quantized if any matrix of the model wants that.
type Acts struct {
	F     []float32 // (rows, Width)
	Width int       // a multiple of kernel.Panel
	Q     []byte    // (rows, Stride)
	// Stride is the size of a quantized row in bytes.
	Stride int
}

// width is the floats of a row of n in memory.
func width(n int) int { return over(n, kernel.Panel) * kernel.Panel }

// NewActs makes room for rows of n floats, which are products' output.
func NewActs(rows, n int) Acts {
	return Acts{Width: width(n), F: make([]float32, rows*width(n))}
}

// Overlay makes room for rows of n floats, and lends the same memory to the floats
// of others, which have none: whoever writes either must be done with the other.
func Overlay(rows, n int, others ...*Acts) Acts {
	size := 0
	for _, a := range others {
		size += rows * a.Width
	}
	over := Acts{Width: width(n)}
	memory := make([]float32, max(size, rows*over.Width))
	over.F = memory[:rows*over.Width]
	for _, a := range others {
		n := rows * a.Width
		a.F, memory = memory[:n:n], memory[n:]
	}
	return over
}

// NewInput makes room for rows of n floats, which are products' input.
func NewInput(set *kernel.Set, rows, n int) Acts {
	a := NewActs(rows, n)
	a.MakeInput(set, rows, n)
	return a
}

// MakeInput makes room for the quantized rows, too.
func (a *Acts) MakeInput(set *kernel.Set, rows, n int) {
	a.Stride = (set.ActBytes(n) + 63) / 64 * 64
	a.Q = make([]byte, rows*a.Stride)
}

// Row returns the n floats of row r.
func (a *Acts) Row(r, n int) []float32 { return a.F[r*a.Width : r*a.Width+n] }

// Quantize makes row r, of n floats, ready for products with quantized
// matrices.
func (a *Acts) Quantize(set *kernel.Set, r, n int) {
	set.Quantize(a.Q[r*a.Stride:(r+1)*a.Stride], a.Row(r, n))
}

// Product is one matrix product of a phase: Dst = rows of the input · Wᵀ.
type Product struct {
	W   *kernel.Matrix
	Dst *Acts
}

// panelBytes is how much of a matrix a worker takes at a time: enough to be worth
// the counter that hands out work, little enough to stay in the second-level cache
// while the rows of a batch pass over it. Half of it is 1 to 2% slower on a model of
// 135 million weights with two workers, and 5% on one of 6 million.
const panelBytes = 48 << 10

// turns is how often each worker takes some of a matrix, at least: a phase ends
// with the last to be done with what it took.
const turns = 2

// Multiply computes products of the same input rows, shared by the workers of
// the team. Every worker calls it; a Sync must follow.
func Multiply(w *par.Worker, set *kernel.Set, in *Acts, rows int, products ...Product) {
	total := 0
	for _, p := range products {
		total += over(p.W.Panels(), p.group(w, set))
	}
	for i := range w.Each(total) {
		for _, p := range products {
			per := p.group(w, set)
			if n := over(p.W.Panels(), per); i >= n {
				i -= n
				continue
			}
			p.Panels(set, in, rows, i*per, min((i+1)*per, p.W.Panels()))
			break
		}
	}
}

// Panels computes the outputs of panels lo … hi-1.
func (p Product) Panels(set *kernel.Set, in *Acts, rows, lo, hi int) {
	m, dst := p.W, p.Dst.F[lo*kernel.Panel:]
	if m.Format.Float() {
		set.MatMulFloat[m.Format](dst, p.Dst.Width, m.Panel(lo, hi), hi-lo, in.F, in.Width, rows, m.Cols)
	} else {
		set.MatMul[m.Format](dst, p.Dst.Width, m.Panel(lo, hi), hi-lo, in.Q, in.Stride, rows, m.Cols)
	}
}

// group is how many panels a worker takes at a time.
func (p Product) group(w *par.Worker, set *kernel.Set) int {
	m := p.W
	per := max(1, min(panelBytes/m.Format.PanelBytes(m.Cols), over(m.Panels(), turns*w.Team())))
	switch {
	case set.Abreast == 0:
	case per < set.Abreast:
		per = set.Abreast / 2
	default:
		per -= per % set.Abreast
	}
	return per
}

// over is a/b, rounded up.
func over(a, b int) int { return (a + b - 1) / b }

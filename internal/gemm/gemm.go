// Package gemm multiplies matrices of floats of any shape, transposed or not,
// with the float kernels of a tier: what training needs besides the products
// of package model, whose weights never change.
//
//	C (m, n) = alpha·A (m, k) · B (k, n) + beta·C
//
// B is packed into panels of 16 columns, side by side; A is read as it is, or
// copied by rows if it comes transposed. Each element of the product is one
// chain of fused multiply-adds for every 1,024 inputs, whose ends are added in
// ascending order: results do not depend on the number of threads.
//
// A Multiplier owns its scratch and belongs to one goroutine at a time. So does
// a Local, of which workers may use one each at the same time.
package gemm

import (
	"unsafe"

	"triforce/internal/kernel"
	"triforce/internal/par"
)

// Matrix is a view of floats by rows: element (i, j) is at i·Stride + j, or at
// j·Stride + i if Trans is set.
type Matrix struct {
	Data   []float32
	Stride int
	Trans  bool
}

// Sizes of what is multiplied at a time: a block of rows of A, of which kernels take
// up to six, stays in the first cache, a block of panels in the second.
const (
	blockRows = 66
	blockK    = 1024
)

// Packed is a B in panels.
type Packed struct {
	data []byte // (blocks of k, panels, k, 16) of float32
	k, n int
}

func (p *Packed) panels() int { return (p.n + kernel.Panel - 1) / kernel.Panel }

// block returns the panels of the inputs from k on.
func (p *Packed) block(k int) []byte { return p.data[4*k*p.panels()*kernel.Panel:] }

// shape makes room for a matrix.
func (p *Packed) shape(k, n int) {
	p.k, p.n = k, n
	size := 4 * k * p.panels() * kernel.Panel
	if cap(p.data) < size {
		p.data = floatBytes(make([]float32, size/4))
	}
	p.data = p.data[:size]
}

// pack fills panels lo … hi-1 of b.
func (p *Packed) pack(b Matrix, lo, hi int) {
	out := bytesFloats(p.data)
	for k0 := 0; k0 < p.k; k0 += blockK {
		kn := min(blockK, p.k-k0)
		for q := lo; q < hi; q++ {
			panel := out[(k0*p.panels()+q*kn)*kernel.Panel:][:kn*kernel.Panel]
			cols := min(kernel.Panel, p.n-q*kernel.Panel)
			if cols < kernel.Panel {
				clear(panel)
			}
			if b.Trans {
				for j := range cols {
					row := b.Data[(q*kernel.Panel+j)*b.Stride+k0:][:kn]
					for k, v := range row {
						panel[k*kernel.Panel+j] = v
					}
				}
				continue
			}
			for k := range kn {
				copy(panel[k*kernel.Panel:][:cols], b.Data[(k0+k)*b.Stride+q*kernel.Panel:])
			}
		}
	}
}

// Local is the scratch of one worker.
type Local struct {
	set  *kernel.Set
	a    []float32 // rows of a transposed A
	tile []float32 // (blockRows, columns)
	b    Packed
}

// NewLocal makes scratch for one worker.
func NewLocal(set *kernel.Set) *Local { return &Local{set: set} }

// Multiply computes the product on the calling goroutine.
func (l *Local) Multiply(m, n, k int, alpha float32, a, b Matrix, beta float32, c Matrix) {
	l.b.shape(k, n)
	l.b.pack(b, 0, l.b.panels())
	if a.Trans {
		to := rowsOf(&l.a, m, k)
		to.turn(a, 0, m, k)
		a = to
	}
	for r := 0; r < m; r += blockRows {
		l.rows(r, min(r+blockRows, m), 0, l.b.panels(), alpha, a, &l.b, beta, c)
	}
}

// rows computes rows lo … hi-1 of panels p0 … p1-1 of C.
func (l *Local) rows(lo, hi, p0, p1 int, alpha float32, a Matrix, b *Packed, beta float32, c Matrix) {
	multiply := l.set.MatMulFloat[kernel.F32]
	n := hi - lo
	col := p0 * kernel.Panel
	cols := min(p1*kernel.Panel, b.n) - col
	width := (p1 - p0) * kernel.Panel
	for k0 := 0; k0 < b.k; k0 += blockK {
		kn := min(blockK, b.k-k0)
		x := a.Data[lo*a.Stride+k0:]
		panels := b.block(k0)[4*p0*kn*kernel.Panel:]
		if b.k <= blockK && alpha == 1 && beta == 0 && cols == width {
			multiply(c.Data[lo*c.Stride+col:], c.Stride, panels, p1-p0, x, a.Stride, n, kn)
			return
		}
		if len(l.tile) < n*width {
			l.tile = make([]float32, blockRows*width)
		}
		multiply(l.tile, width, panels, p1-p0, x, a.Stride, n, kn)
		for r := range n {
			dst, x := c.Data[(lo+r)*c.Stride+col:][:cols], l.tile[r*width:][:cols]
			if alpha == 1 && (k0 > 0 || beta == 1) {
				l.set.Add(dst, x)
			} else {
				merge(dst, x, alpha, beta, k0 == 0)
			}
		}
	}
}

// merge is dst = alpha·x + beta·dst, or dst += alpha·x after the first block.
func merge(dst, x []float32, alpha, beta float32, first bool) {
	switch {
	case !first:
		for i, v := range x {
			dst[i] += alpha * v
		}
	case beta == 0:
		for i, v := range x {
			dst[i] = alpha * v
		}
	default:
		for i, v := range x {
			dst[i] = alpha*v + beta*dst[i]
		}
	}
}

// rowsOf makes room for a matrix by rows. Their distance is no power of two,
// so that a column's elements do not compete for the same places in a cache.
func rowsOf(scratch *[]float32, m, k int) Matrix {
	stride := (k+15)/16*16 + 16
	if len(*scratch) < m*stride {
		*scratch = make([]float32, m*stride)
	}
	return Matrix{Data: *scratch, Stride: stride}
}

// turn copies rows lo … hi-1 of a transposed matrix of k columns.
func (m Matrix) turn(from Matrix, lo, hi, k int) {
	const square = 16
	for k0 := 0; k0 < k; k0 += square {
		kn := min(square, k-k0)
		for r := lo; r < hi; r++ {
			row := m.Data[r*m.Stride+k0:][:kn]
			for i := range row {
				row[i] = from.Data[(k0+i)*from.Stride+r]
			}
		}
	}
}

// Multiplier computes products with a team of workers.
type Multiplier struct {
	team   *par.Team
	locals []*Local
	a      []float32 // rows of a transposed A
	b      Packed
}

// New makes a Multiplier over a team, which must not be in use during a call.
func New(set *kernel.Set, team *par.Team) *Multiplier {
	m := &Multiplier{team: team}
	for range team.Size() {
		m.locals = append(m.locals, NewLocal(set))
	}
	return m
}

// Local returns the scratch of a worker of the team.
func (g *Multiplier) Local(w *par.Worker) *Local { return g.locals[w.ID] }

// Pack brings B into panels, for several products.
func (g *Multiplier) Pack(p *Packed, k, n int, b Matrix) {
	p.shape(k, n)
	g.team.Run(func(w *par.Worker) {
		lo, hi := w.Share(p.panels(), 1)
		p.pack(b, lo, hi)
	})
}

// Multiply computes the product.
func (g *Multiplier) Multiply(m, n, k int, alpha float32, a, b Matrix, beta float32, c Matrix) {
	g.Pack(&g.b, k, n, b)
	g.MultiplyPacked(m, alpha, a, &g.b, beta, c)
}

// groupPanels is how many panels are one worker's at a time.
const groupPanels = 16

// MultiplyPacked computes the product with a packed B.
func (g *Multiplier) MultiplyPacked(m int, alpha float32, a Matrix, b *Packed, beta float32, c Matrix) {
	if b.k == 0 {
		panic("gemm: matrices without inputs")
	}
	if a.Trans {
		to, from := rowsOf(&g.a, m, b.k), a
		g.team.Run(func(w *par.Worker) {
			lo, hi := w.Share(m, 16)
			to.turn(from, lo, hi, b.k)
		})
		a = to
	}
	blocks, groups := (m+blockRows-1)/blockRows, (b.panels()+groupPanels-1)/groupPanels
	g.team.Run(func(w *par.Worker) {
		for i := range w.Each(blocks * groups) {
			lo, p0 := i/groups*blockRows, i%groups*groupPanels
			g.locals[w.ID].rows(lo, min(lo+blockRows, m), p0, min(p0+groupPanels, b.panels()), alpha, a, b, beta, c)
		}
	})
}

// Kernels take packed weights as bytes; both views are aligned for floats.
func floatBytes(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

func bytesFloats(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

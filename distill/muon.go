package distill

import (
	"math"

	"triforce/internal/gemm"
)

// muon makes of a matrix's averaged gradient the step that moves its outputs
// alike in all directions: the nearest matrix with singular values of 1, more or
// less, by five rounds of a Newton-Schulz iteration (Jordan et al. 2024). One
// goroutine uses it.
type muon struct {
	mul             *gemm.Multiplier
	x, y            []float32 // (rows, cols)
	square, quartic []float32 // (n, n) of the shorter side
}

// The iteration's polynomial a·x + b·x³ + c·x⁵.
const (
	muonA, muonB, muonC = 3.4445, -4.7750, 2.0315
	muonRounds          = 5
	muonBeta            = 0.95
	// muonSize is the root mean square of a step's elements, as AdamW's steps
	// have it: then one learning rate serves both (Liu et al. 2025).
	muonSize = 0.2
)

// step returns what to subtract from a matrix of that shape, times the learning
// rate, valid until the next call.
func (o *muon) step(g []float32, rows, cols int) []float32 {
	n := min(rows, cols)
	if len(o.x) < len(g) {
		o.x, o.y = make([]float32, len(g)), make([]float32, len(g))
	}
	if len(o.square) < n*n {
		o.square, o.quartic = make([]float32, n*n), make([]float32, n*n)
	}
	x, y, square, quartic := o.x[:len(g)], o.y[:len(g)], o.square[:n*n], o.quartic[:n*n]
	sum := 0.0
	for _, v := range g {
		sum += float64(v) * float64(v)
	}
	scale := float32(1 / (math.Sqrt(sum) + 1e-20))
	for i, v := range g {
		x[i] = v * scale
	}
	matrix := func(x []float32, stride int, trans bool) gemm.Matrix {
		return gemm.Matrix{Data: x, Stride: stride, Trans: trans}
	}
	wide := rows <= cols
	for range muonRounds {
		o.mul.Multiply(n, n, max(rows, cols), 1, matrix(x, cols, !wide), matrix(x, cols, wide), 0, matrix(square, n, false))
		copy(quartic, square)
		o.mul.Multiply(n, n, n, muonC, matrix(square, n, false), matrix(square, n, false), muonB, matrix(quartic, n, false))
		copy(y, x)
		if wide {
			o.mul.Multiply(rows, cols, n, 1, matrix(quartic, n, false), matrix(x, cols, false), muonA, matrix(y, cols, false))
		} else {
			o.mul.Multiply(rows, cols, n, 1, matrix(x, cols, false), matrix(quartic, n, false), muonA, matrix(y, cols, false))
		}
		x, y = y, x
	}
	times(x, muonSize*float32(math.Sqrt(float64(max(rows, cols)))))
	return x
}

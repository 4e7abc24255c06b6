package distill

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"triforce/internal/cpu"
	"triforce/internal/gemm"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// A step has singular values of about 1 (0.68 to 1.13 is what the polynomial leaves
// of small ones) in the directions of the gradient, whatever the gradient's size,
// and the elements that AdamW's steps have.
func TestMuon(t *testing.T) {
	team := par.NewTeam(2)
	defer team.Close()
	o := muon{mul: gemm.New(kernel.For(cpu.Best()), team)}
	r := rand.New(rand.NewPCG(1, 0))
	for _, shape := range [][2]int{{24, 70}, {70, 24}, {33, 33}, {1, 8}} {
		rows, cols := shape[0], shape[1]
		for _, size := range []float64{1, 1e-6} {
			g, wide := make([]float32, rows*cols), make([]float64, rows*cols)
			for i := range g {
				g[i] = float32(size * r.NormFloat64())
			}
			step := o.step(g, rows, cols)
			along := 0.0
			for i, v := range step {
				wide[i] = float64(v) / (muonSize * math.Sqrt(float64(max(rows, cols))))
				along += wide[i] * float64(g[i])
			}
			nuclear := sum(singular(rows, cols, toDouble(g)))
			if values := singular(rows, cols, wide); values[0] > 1.2 || values[len(values)-1] < 0.65 && rows != cols {
				t.Errorf("%d×%d: singular values are %.3f to %.3f", rows, cols, values[len(values)-1], values[0])
			}
			// The trace norm is what the nearest orthonormal matrix reaches.
			if along < 0.65*nuclear || along > 1.2*nuclear {
				t.Errorf("%d×%d: along the gradient %v of %v", rows, cols, along, nuclear)
			}
		}
	}
	for _, v := range o.step(make([]float32, 6), 2, 3) {
		if v != 0 {
			t.Error("no gradient makes a step")
		}
	}
}

// singular returns the singular values, the largest first.
func singular(rows, cols int, x []float64) []float64 {
	var d mat.SVD
	d.Factorize(mat.NewDense(rows, cols, x), mat.SVDNone)
	return d.Values(nil)
}

func toDouble(x []float32) []float64 {
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	return wide
}

func sum(x []float64) (total float64) {
	for _, v := range x {
		total += v
	}
	return total
}

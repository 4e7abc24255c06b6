package distill

import (
	"math"

	"triforce/internal/kernel"
)

// norm is RMSNorm without weights, a row at a time, and normBack its gradient.
func norm(y, x []float32) {
	r := scaleOf(x)
	for i, v := range x {
		y[i] = v * r
	}
}

func scaleOf(x []float32) float32 {
	var sum [4]float32
	for i := 0; i+4 <= len(x); i += 4 {
		for j, v := range x[i : i+4] {
			sum[j] += v * v
		}
	}
	for _, v := range x[len(x)/4*4:] {
		sum[0] += v * v
	}
	mean := (sum[0] + sum[1] + sum[2] + sum[3]) / float32(len(x))
	return 1 / float32(math.Sqrt(float64(mean+epsilon)))
}

func normBack(dx, x, dy []float32) {
	r, along := scaleOf(x), float32(0)
	for i, v := range x {
		along += v * dy[i]
	}
	along *= r * r * r / float32(len(x))
	for i, v := range x {
		dx[i] = dy[i]*r - v*along
	}
}

// swiGLU is gate·sigmoid(gate)·up of a row that holds both side by side, and
// swiGLUBack its gradient.
func swiGLU(set *kernel.Set, y, x []float32) { set.SwiGLU(y, x[:len(y)], x[len(y):]) }

func swiGLUBack(set *kernel.Set, dx, x, dy []float32) {
	n := len(dy)
	gate, up := x[:n], x[n:]
	e := dx[:n] // for now exp(-|gate|)
	for i, g := range gate {
		e[i] = -float32(math.Abs(float64(g)))
	}
	set.Exp(e, 0)
	for i, g := range gate {
		s := 1 / (1 + e[i])
		if g < 0 {
			s *= e[i]
		}
		dx[i] = dy[i] * up[i] * s * (1 + g*(1-s))
		dx[n+i] = dy[i] * g * s
	}
}

// softmax makes weights of scores in place, their sum being 1.
func softmax(set *kernel.Set, x []float32) {
	r, _ := powers(set, x)
	times(x, r)
}

// powers makes of scores what times scale is their weights, and returns also the
// logarithm of the sum of their exponentials. Weights next to nothing are zero: as
// subnormal floats they would take some processors a hundred times as long to
// multiply.
func powers(set *kernel.Set, x []float32) (scale, logSum float32) {
	top := x[0]
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	sum := set.Exp(x, top)
	return 1 / sum, top + float32(math.Log(float64(sum)))
}

func times(x []float32, scale float32) {
	for i := range x {
		x[i] *= scale
	}
}

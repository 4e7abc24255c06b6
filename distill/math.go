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

// swiGLU is gate·sigmoid(gate)·up of a row that holds both side by side.
func swiGLU(y, x []float32) {
	gate, up := x[:len(y)], x[len(y):]
	for i, g := range gate {
		y[i] = g * sigmoid(g) * up[i]
	}
}

func swiGLUBack(dx, x, dy []float32) {
	n := len(dy)
	gate, up := x[:n], x[n:]
	for i, g := range gate {
		s := sigmoid(g)
		dx[i] = dy[i] * up[i] * s * (1 + g*(1-s))
		dx[n+i] = dy[i] * g * s
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp2(x*-math.Log2E)) }

// exp2 is 2^x with an error of a few units in the last place, for x from -126
// to 126; beyond, it is as at those.
func exp2(x float32) float32 {
	if x < -126 {
		x = -126
	} else if x > 126 {
		x = 126
	}
	t := x + magic
	f := x - (t - magic)
	p := ((((((c6*f+c5)*f+c4)*f+c3)*f+c2)*f + c1) * f) + 1
	return math.Float32frombits(math.Float32bits(p) + math.Float32bits(t)<<23)
}

// Adding magic rounds to an integer, and the coefficients are those of 2^f for f
// from -1/2 to 1/2.
const (
	magic = 3 << 22
	c1    = 6.9314718e-1
	c2    = 2.4022651e-1
	c3    = 5.5504109e-2
	c4    = 9.6181291e-3
	c5    = 1.3333558e-3
	c6    = 1.5403530e-4
)

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

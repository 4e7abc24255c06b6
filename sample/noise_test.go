package sample

import (
	"math"
	"testing"
)

// TestNoiseIsFixed pins the numbers: a seed means the same text in every version.
func TestNoiseIsFixed(t *testing.T) {
	for _, c := range []struct {
		seed   uint64
		stream Stream
		pos    int
		i      uint64
		want   float64
	}{
		{0, Coupling, 0, 0, 0.12964561829974752},
		{1, Coupling, 0, 0, 0.8847898165349132},
		{42, Coupling, 7, 128_000, 0.7126663523858995},
		{42, Rejection, 7, 128_000, 0.18264342157130653},
		{math.MaxUint64, Rejection, 1 << 20, 3, 0.9492811386920749},
	} {
		if got := NoiseAt(c.seed, c.stream, c.pos).Uniform(c.i); got != c.want {
			t.Errorf("seed %d, stream %d, position %d, number %d: %v, want %v", c.seed, c.stream, c.pos, c.i, got, c.want)
		}
	}
}

func TestUniformExtremes(t *testing.T) {
	for _, bits := range []uint64{0, math.MaxUint64} {
		u := uniform(bits)
		if u <= 0 || u >= 1 {
			t.Errorf("bits %x: %v", bits, u)
		}
		if g := -math.Log(-math.Log(u)); g < -3.7 || g > 37 {
			t.Errorf("bits %x: noise %v", bits, g)
		}
	}
}

// TestNoiseQuality looks along each axis of the counter, tokens, positions, seeds
// and streams, for uneven or dependent numbers.
func TestNoiseQuality(t *testing.T) {
	const n = 1 << 16
	axes := map[string]func(i int) float64{
		"tokens":    func(i int) float64 { return NoiseAt(1, Coupling, 5).Uniform(uint64(i)) },
		"positions": func(i int) float64 { return NoiseAt(1, Coupling, i).Uniform(5) },
		"seeds":     func(i int) float64 { return NoiseAt(uint64(i), Coupling, 5).Uniform(5) },
		"diagonal":  func(i int) float64 { return NoiseAt(1, Coupling, i).Uniform(uint64(n - i)) },
		"streams":   func(i int) float64 { return NoiseAt(1, Stream(i%2), i/2).Uniform(0) },
	}
	for name, at := range axes {
		var cells [64]float64
		var pairs [64]float64 // of successive numbers
		var covariance float64
		before := at(n)
		for i := range n {
			u := at(i)
			cells[int(u*64)]++
			pairs[int(before*8)*8+int(u*8)]++
			covariance += (u - 0.5) * (before - 0.5)
			before = u
		}
		for what, counts := range map[string][64]float64{"numbers": cells, "pairs": pairs} {
			var chi float64
			for _, k := range counts {
				chi += (k - n/64) * (k - n/64) / (n / 64)
			}
			if chi < 63-4.5*math.Sqrt(126) || chi > 63+4.5*math.Sqrt(126) { // mean 63, variance 126
				t.Errorf("%s: chi-square of %s %.1f, expected 63", name, what, chi)
			}
		}
		if z := covariance / n * 12 * math.Sqrt(n); math.Abs(z) > 4.5 {
			t.Errorf("%s: correlation of successive numbers is %.1f standard errors", name, z)
		}
	}
}

func TestGumbelMoments(t *testing.T) {
	const n = 1 << 18
	noise := NoiseAt(3, Coupling, 1)
	var sum, squares float64
	for i := range uint64(n) {
		g := noise.Gumbel(i)
		if bound := noise.gumbelBound(i); g > bound {
			t.Fatalf("number %d is %v, above its bound %v", i, g, bound)
		}
		sum += g
		squares += g * g
	}
	mean, variance := sum/n, squares/n-sum*sum/n/n
	if math.Abs(mean-0.5772) > 0.01 || math.Abs(variance-math.Pi*math.Pi/6) > 0.03 {
		t.Errorf("mean %.4f, variance %.4f; expected 0.5772 and 1.6449", mean, variance)
	}
}

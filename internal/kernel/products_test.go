package kernel_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/kernel/kerneltest"
)

// accelerated lists the tiers that are not the judge itself.
func accelerated() []cpu.Tier {
	tiers := cpu.Tiers()
	return tiers[cpu.Portable+1:]
}

func TestProducts(t *testing.T) {
	t.Log("tiers:", cpu.Tiers())
	for _, tier := range accelerated() {
		t.Run("tier="+tier.String(), func(t *testing.T) { kerneltest.Products(t, kernel.For(tier)) })
	}
}

// FuzzMatMul gives every tier the fuzzer's bytes as weights, and activations
// of all magnitudes.
func FuzzMatMul(f *testing.F) {
	for i := range kerneltest.Formats {
		f.Add(uint8(i), uint16(40), uint8(3), uint8(2), uint64(1), []byte{0x00, 0x3c, 0x91, 0x80, 0x07})
	}
	sets := make([]*kernel.Set, 0, 4)
	for _, tier := range accelerated() {
		sets = append(sets, kernel.For(tier))
	}
	f.Fuzz(func(t *testing.T, format uint8, n uint16, rows, panels uint8, seed uint64, data []byte) {
		form := kerneltest.Formats[int(format)%len(kerneltest.Formats)].Format
		length, r, p := int(n)%200+1, int(rows)%20+1, int(panels)%6+1
		rng := rand.New(rand.NewPCG(seed, 0))
		w := kerneltest.Weights(rng, form, length, p, seed%2 == 0)
		for i := range w {
			if i < len(data) {
				w[len(w)-1-i] ^= data[i]
			}
		}
		x := make([]float32, r*length)
		for i := range x {
			x[i] = float32(math.Ldexp(rng.NormFloat64(), rng.IntN(int(seed%64)+1)-32))
		}
		if len(data) >= 4 {
			if v := math.Float32frombits(binary.LittleEndian.Uint32(data)); v-v == 0 {
				x[len(data)%len(x)] = v
			}
		}
		for _, set := range sets {
			kerneltest.Case(t, set, form, w, p, x, r, length)
		}
	})
}

// BenchmarkMatMul multiplies by the matrices of a model of 135 million weights
// on one core: hot ones that fit in the second cache, and cold ones that come
// from memory each time.
func BenchmarkMatMul(b *testing.B) {
	const cold = 128 << 20
	for _, f := range kerneltest.Formats {
		shapes := [][2]int{{576, 576}, {576, 1536}, {1536, 576}}
		if f.Format == kernel.Q8 {
			shapes = append(shapes, [2]int{576, 49152})
		}
		for _, rows := range []int{1, 2, 4, 5, 8, 16, 64} {
			for _, shape := range shapes {
				for _, tier := range accelerated() {
					for _, from := range []string{"cache", "memory"} {
						if from == "memory" && rows > 8 || from == "cache" && shape[1] > 4096 {
							continue
						}
						n, outputs := shape[0], shape[1]
						b.Run(fmt.Sprintf("format=%s/rows=%d/n=%d/outputs=%d/from=%s/tier=%s", f.Name, rows, n, outputs, from, tier), func(b *testing.B) {
							size := cold
							if from == "cache" {
								size = 0
							}
							benchmarkMatMul(b, kernel.For(tier), f.Format, rows, n, outputs, size)
						})
					}
				}
			}
		}
	}
}

// benchmarkMatMul goes in turn through as many copies of a matrix as it takes
// to fill size bytes.
func benchmarkMatMul(b *testing.B, set *kernel.Set, f kernel.Format, rows, n, outputs, size int) {
	rng := rand.New(rand.NewPCG(1, 1))
	panels := outputs / kernel.Panel
	one := kerneltest.Weights(rng, f, n, panels, false)
	copies := max(1, size/len(one))
	w := make([]byte, copies*len(one))
	for i := range copies {
		copy(w[i*len(one):], one)
	}
	x := make([]float32, rows*n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	act := make([]byte, rows*set.ActBytes(n))
	for r := range rows {
		set.Quantize(act[r*set.ActBytes(n):], x[r*n:(r+1)*n])
	}
	dst := make([]float32, rows*outputs)
	b.SetBytes(int64(len(one)))
	i := 0
	for b.Loop() {
		m := w[i*len(one) : (i+1)*len(one)]
		if f.Float() {
			set.MatMulFloat[f](dst, outputs, m, panels, x, n, rows, n)
		} else {
			set.MatMul[f](dst, outputs, m, panels, act, set.ActBytes(n), rows, n)
		}
		i = (i + 1) % copies
	}
	b.ReportMetric(float64(b.N)*float64(rows*n*outputs)/b.Elapsed().Seconds()/1e9, "GMAC/s")
}

func BenchmarkQuantize(b *testing.B) {
	for _, tier := range cpu.Tiers()[1:] {
		b.Run("n=576/tier="+tier.String(), func(b *testing.B) {
			set, x := kernel.For(tier), make([]float32, 576)
			for i := range x {
				x[i] = float32(i)
			}
			dst := make([]byte, set.ActBytes(len(x)))
			for b.Loop() {
				set.Quantize(dst, x)
			}
		})
	}
}

// Tiers of the processor can be asked what it can do at most.
func TestPeak(t *testing.T) {
	for _, tier := range accelerated() {
		set := kernel.For(tier)
		if set.Peak == nil {
			t.Errorf("%v: none", tier)
			continue
		}
		set.Peak(1)
		set.Peak(1000)
	}
}

package kerneltest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"triforce/internal/kernel"
	"triforce/internal/kernel/ref"
	"triforce/internal/testutil/guard"
	"triforce/tensor"
)

// Formats lists the packed formats by name.
var Formats = [...]struct {
	Name   string
	Format kernel.Format
}{
	{"q4", kernel.Q4}, {"q8", kernel.Q8}, {"q8x16", kernel.Q8x16},
	{"f32", kernel.F32}, {"f16", kernel.F16}, {"bf16", kernel.BF16},
}

// Products holds a set to the judge, bit for bit: products with packed
// matrices and the functions around them. All slices that kernels get lie
// against pages that they must not touch.
func Products(t *testing.T, set *kernel.Set) {
	for _, f := range Formats {
		t.Run("MatMul/format="+f.Name, func(t *testing.T) { matMul(t, set, f.Format) })
	}
	t.Run("Allocations", func(t *testing.T) { productAllocations(t, set) })
	t.Run("NotFinite", func(t *testing.T) { notFinite(t, set) })
	t.Run("RMSNorm", func(t *testing.T) { rmsNorm(t, set) })
	t.Run("Rope", func(t *testing.T) { rope(t, set) })
	t.Run("SwiGLU", func(t *testing.T) { swiGLU(t, set) })
	t.Run("Exp", func(t *testing.T) { exp(t, set) })
	t.Run("Add", func(t *testing.T) { add(t, set) })
	t.Run("Sum", func(t *testing.T) { sum(t, set) })
}

func matMul(t *testing.T, set *kernel.Set, f kernel.Format) {
	const maxRows, maxPanels = 33, 5
	lengths := []int{32, 64, 96, 160, 576, 1536}
	if f.Float() {
		lengths = append(lengths, 1, 2, 3, 15, 17, 33, 100)
	} else {
		lengths = append(lengths, 1, 31, 33, 100)
	}
	rowCounts := []int{33}
	for r := range 17 {
		rowCounts = append(rowCounts, r+1)
	}
	for _, n := range lengths {
		for _, special := range []bool{false, true} {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(f)))
			w := Weights(rng, f, n, maxPanels, special)
			x := activations(rng, maxRows*n, special)
			for r := 1; special && r < maxRows; r += 3 { // around the least scale of activations
				row := x[r*n : (r+1)*n]
				for i := range row {
					row[i] = float32(2*rng.Float64()-1) * 0x1p-112
				}
				row[n/2] = 0x1p-112
				if r%2 == 0 {
					row[n/2] = math.Nextafter32(0x1p-112, 0)
				}
			}
			want := judge(f, w, maxPanels, x, maxRows, n)
			for _, rows := range rowCounts {
				for panels := 1; panels <= maxPanels; panels++ {
					end := guard.Ends()[(rows+panels)%2]
					got := product(t, set, f, w[:panels*f.PanelBytes(n)], panels, x[:rows*n], rows, n, end)
					for i, v := range got {
						r, o := i/(panels*kernel.Panel), i%(panels*kernel.Panel)
						if e := want[r*maxPanels*kernel.Panel+o]; !sameBits(v, e) {
							t.Fatalf("n=%d rows=%d panels=%d special=%t: row %d output %d is %v, want %v", n, rows, panels, special, r, o, v, e)
						}
					}
				}
			}
		}
	}
}

// Case holds one product to the judge: w is packed, x (rows, n).
func Case(t *testing.T, set *kernel.Set, f kernel.Format, w []byte, panels int, x []float32, rows, n int) {
	want := judge(f, w, panels, x, rows, n)
	for _, end := range guard.Ends() {
		for i, v := range product(t, set, f, w, panels, x, rows, n, end) {
			if !sameBits(v, want[i]) {
				t.Fatalf("format %d n=%d rows=%d panels=%d: output %d is %v, want %v", f, n, rows, panels, i, v, want[i])
			}
		}
	}
}

// product runs the set's kernel between guards; the result is (rows, outputs).
func product(t *testing.T, set *kernel.Set, f kernel.Format, w []byte, panels int, x []float32, rows, n int, end guard.End) []float32 {
	const canary = 12345.5
	outputs := panels * kernel.Panel
	ldd := outputs + 3
	dst := guard.Slice[float32](t, (rows-1)*ldd+outputs, end)
	for i := range dst {
		dst[i] = canary
	}
	w = guard.Copy(t, w, end)
	if f.Float() {
		set.MatMulFloat[f](dst, ldd, w, panels, guard.Copy(t, x, end), n, rows, n)
	} else {
		size := set.ActBytes(n)
		act := guard.Slice[byte](t, rows*size, end)
		for r := range rows {
			set.Quantize(act[r*size:(r+1)*size], guard.Copy(t, x[r*n:(r+1)*n], end))
		}
		set.MatMul[f](dst, ldd, w, panels, act, size, rows, n)
	}
	got := make([]float32, 0, rows*outputs)
	for r := range rows {
		got = append(got, dst[r*ldd:r*ldd+outputs]...)
		if r < rows-1 {
			for i, v := range dst[r*ldd+outputs : (r+1)*ldd] {
				if v != canary {
					t.Fatalf("n=%d rows=%d panels=%d: %v written %d past row %d", n, rows, panels, v, i, r)
				}
			}
		}
	}
	return got
}

// judge is the product by package ref.
func judge(f kernel.Format, w []byte, panels int, x []float32, rows, n int) []float32 {
	ldd := panels * kernel.Panel
	dst := make([]float32, rows*ldd)
	size := ref.ActBytes(n)
	act := make([]byte, rows*size)
	for r := range rows {
		ref.Quantize(act[r*size:(r+1)*size], x[r*n:(r+1)*n])
	}
	switch f {
	case kernel.Q4:
		ref.MatMulQ4(dst, ldd, w, panels, act, size, rows, n)
	case kernel.Q8:
		ref.MatMulQ8(dst, ldd, w, panels, act, size, rows, n)
	case kernel.Q8x16:
		ref.MatMulQ8x16(dst, ldd, w, panels, act, size, rows, n)
	case kernel.F32:
		ref.MatMulF32(dst, ldd, w, panels, x, n, rows, n)
	case kernel.F16:
		ref.MatMulF16(dst, ldd, w, panels, x, n, rows, n)
	case kernel.BF16:
		ref.MatMulBF16(dst, ldd, w, panels, x, n, rows, n)
	}
	return dst
}

// Weights makes random panels. Special ones have, here and there, zeros of
// both signs, subnormals, and numbers so large that products overflow; codes
// are extreme.
func Weights(rng *rand.Rand, f kernel.Format, n, panels int, special bool) []byte {
	w := make([]byte, panels*f.PanelBytes(n))
	for i := range w {
		w[i] = byte(rng.Uint32())
		if special {
			w[i] = []byte{0x00, 0xff, 0x0f, 0xf0}[rng.IntN(4)]
		}
	}
	half := func(at int) {
		v := float32(rng.NormFloat64() * 0.01)
		if special {
			v = specials[rng.IntN(len(specials))]
		}
		binary.LittleEndian.PutUint16(w[at:], tensor.F32ToF16(v)&0xfbff) // no infinity
	}
	halves := func(size, from, to int) {
		for b := 0; b < len(w); b += size {
			for at := from; at < to; at += 2 {
				half(b + at)
			}
		}
	}
	switch f {
	case kernel.Q4, kernel.Q8x16:
		halves(320, 256, 320)
	case kernel.Q8:
		halves(544, 512, 544)
	case kernel.F16:
		halves(2, 0, 2)
	case kernel.BF16:
		for i, v := range activations(rng, len(w)/2, special) {
			binary.LittleEndian.PutUint16(w[2*i:], tensor.F32ToBF16(v))
		}
	case kernel.F32:
		for i, v := range activations(rng, len(w)/4, special) {
			binary.LittleEndian.PutUint32(w[4*i:], math.Float32bits(v))
		}
	}
	return w
}

// specials are finite floats at which something changes.
var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 2.5, 127.5, 32511.5,
	1e-45, -1e-45, 1e-39, 0x1p-126, -0x1p-126, 0x1p-112, 0x1p-24, 1e-6, -6e-8,
	60000, -65504, 1e10, -1e20, 3e38, -math.MaxFloat32, 88, -88, 126, -126, 127.4,
}

func activations(rng *rand.Rand, n int, special bool) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
		if special && rng.IntN(3) == 0 {
			x[i] = specials[rng.IntN(len(specials))]
		}
	}
	return x
}

// sameBits compares bits; all NaNs are the same.
func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// notFinite checks that infinities and NaNs do not vanish in quantization.
func notFinite(t *testing.T, set *kernel.Set) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for n := 1; n < 100; n += 7 {
			x := activations(rng, n, false)
			x[rng.IntN(n)] = float32(bad)
			w := Weights(rng, kernel.Q8, n, 1, false)
			for i, v := range product(t, set, kernel.Q8, w, 1, x, 1, n, guard.High) {
				if d := v - v; d == 0 {
					t.Fatalf("n=%d, an input is %v: output %d is %v", n, bad, i, v)
				}
			}
		}
	}
}

// productAllocations checks that nothing allocates, with lengths that have tails.
func productAllocations(t *testing.T, set *kernel.Set) {
	const n, rows = 77, 3
	x, weight, dst := make([]float32, rows*n), make([]float32, n), make([]float32, rows*kernel.Panel)
	act := make([]byte, rows*set.ActBytes(n))
	words := make([]uint64, n)
	var w [len(Formats)][]byte
	for i, f := range Formats {
		w[i] = make([]byte, f.Format.PanelBytes(n))
	}
	count := testing.AllocsPerRun(10, func() {
		for i, f := range Formats {
			if f.Format.Float() {
				set.MatMulFloat[f.Format](dst, kernel.Panel, w[i], 1, x, n, rows, n)
			} else {
				set.MatMul[f.Format](dst, kernel.Panel, w[i], 1, act, set.ActBytes(n), rows, n)
			}
		}
		set.Quantize(act, x[:n])
		set.RMSNorm(x[:n], x[:n], weight, 1e-5)
		set.Rope(x, weight, weight)
		set.SwiGLU(x[:n], x[:n], weight)
		set.Add(x[:n], weight)
		set.Exp(x[:n], 1)
		set.Sum(words)
	})
	if count != 0 {
		t.Errorf("%v allocations", count)
	}
}

// lengths are those that elementwise functions are tried at.
func lengths() []int {
	n := []int{127, 128, 129, 576, 1536}
	for i := range 68 {
		n = append(n, i+1)
	}
	return n
}

// elementwise calls try with inputs of every length, plain and special, at
// both ends of guarded memory, and compares what got and want give.
func elementwise(t *testing.T, got, want func(in func(n int) []float32, n int) []float32) {
	t.Helper()
	for _, n := range lengths() {
		for _, special := range []bool{false, true} {
			for _, end := range guard.Ends() {
				inputs := func() func(int) []float32 {
					rng := rand.New(rand.NewPCG(uint64(n), 5))
					return func(n int) []float32 { return guard.Copy(t, activations(rng, n, special), end) }
				}
				g, w := got(inputs(), n), want(inputs(), n)
				for i := range w {
					if !sameBits(g[i], w[i]) {
						t.Fatalf("n=%d special=%t end=%d: element %d is %v, want %v", n, special, end, i, g[i], w[i])
					}
				}
			}
		}
	}
}

func rmsNorm(t *testing.T, set *kernel.Set) {
	for _, inPlace := range []bool{false, true} {
		run := func(f func(dst, x, weight []float32, eps float32)) func(func(int) []float32, int) []float32 {
			return func(in func(int) []float32, n int) []float32 {
				x, weight, dst := in(n), in(n), in(n)
				if inPlace {
					dst = x
				}
				f(dst, x, weight, 1e-5)
				return dst
			}
		}
		elementwise(t, run(set.RMSNorm), run(ref.RMSNorm))
	}
}

func rope(t *testing.T, set *kernel.Set) {
	for _, more := range []int{0, 5} {
		run := func(f func(x, cos, sin []float32)) func(func(int) []float32, int) []float32 {
			return func(in func(int) []float32, n int) []float32 {
				x, cos, sin := in(2*n+more), in(n), in(n)
				f(x, cos, sin)
				return x
			}
		}
		elementwise(t, run(set.Rope), run(ref.Rope))
	}
}

func swiGLU(t *testing.T, set *kernel.Set) {
	for _, inPlace := range []bool{false, true} {
		run := func(f func(dst, gate, up []float32)) func(func(int) []float32, int) []float32 {
			return func(in func(int) []float32, n int) []float32 {
				gate, up, dst := in(n), in(n), in(n)
				if n > 2 {
					gate[0], gate[n/2], gate[n-1] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
				}
				if inPlace {
					dst = gate
				}
				f(dst, gate, up)
				return dst
			}
		}
		elementwise(t, run(set.SwiGLU), run(ref.SwiGLU))
	}
}

func exp(t *testing.T, set *kernel.Set) {
	run := func(f func(x []float32, top float32) float32) func(func(int) []float32, int) []float32 {
		return func(in func(int) []float32, n int) []float32 {
			x := in(n)
			top := float32(math.Inf(-1))
			for _, v := range x {
				if v > top {
					top = v
				}
			}
			if n > 2 {
				x[1] = top - 41.6 // about 2^-60
			}
			return append([]float32{f(x, top)}, x...)
		}
	}
	elementwise(t, run(set.Exp), run(ref.Exp))
}

func add(t *testing.T, set *kernel.Set) {
	run := func(f func(dst, x []float32)) func(func(int) []float32, int) []float32 {
		return func(in func(int) []float32, n int) []float32 {
			dst, x := in(n), in(n)
			f(dst, x)
			return dst
		}
	}
	elementwise(t, run(set.Add), run(ref.Add))
}

func sum(t *testing.T, set *kernel.Set) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 7, 31, 32, 33, 63, 64, 100, 4096, 4103} {
		x := make([]uint64, n)
		for i := range x {
			x[i] = rng.Uint64()
		}
		want := ref.Sum(x)
		for _, end := range guard.Ends() {
			if got := set.Sum(guard.Copy(t, x, end)); got != want {
				t.Errorf("%d words: %#x, want %#x", n, got, want)
			}
		}
	}
}

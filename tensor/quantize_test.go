package tensor

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// fixture reads a file of testdata, whose README is generate.py, and splits it
// into blocks and floats, of which the elements are the first or second part.
func fixture(t *testing.T, kind string, d DType) (blocks []byte, elements []float32) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", kind, d.String()))
	if err != nil {
		t.Fatal(err)
	}
	n := len(data) / (d.BlockBytes() + 4*d.BlockSize())
	if n < 4 {
		t.Fatalf("%d blocks in the fixture of %v", n, d)
	}
	elements = make([]float32, n*d.BlockSize())
	at := n * d.BlockBytes()
	if kind == "quantize" {
		at = len(data) - at
		Dequantize(elements, F32, data[:at])
		return data[at:], elements
	}
	Dequantize(elements, F32, data[at:])
	return data[:at], elements
}

func TestDequantizeAgainstReference(t *testing.T) {
	for _, d := range DTypes() {
		t.Run(d.String(), func(t *testing.T) {
			blocks, want := fixture(t, "dequantize", d)
			got := make([]float32, len(want))
			Dequantize(got, d, blocks)
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("element %d = %g (%#x), want %g (%#x)", i,
						got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
				}
			}
		})
	}
}

func TestQuantizeAgainstReference(t *testing.T) {
	for _, d := range []DType{F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0} {
		t.Run(d.String(), func(t *testing.T) {
			want, x := fixture(t, "quantize", d)
			got := bytes.Repeat([]byte{0xee}, len(want))
			Quantize(got, d, x)
			if !bytes.Equal(got, want) {
				t.Fatalf("blocks differ:\n got %x\nwant %x", got, want)
			}
		})
	}
}

// roundTripError bounds |w − x| by the largest magnitude in a block, before the
// rounding of the block's halves, which adds at most 1/2048.
var roundTripError = map[DType]float64{
	F32: 0, F16: 0, BF16: 1.0 / 256,
	Q4_0: 1.0 / 8, Q4_1: 1.0 / 15, Q5_0: 1.0 / 16, Q5_1: 1.0 / 31, Q8_0: 1.0 / 254,
	Q2_K: 0.45, Q3_K: 0.27, Q4_K: 0.09, Q5_K: 0.05, Q6_K: 0.035,
	IQ4_NL: 0.12, IQ4_XS: 0.14,
}

func TestQuantizeRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, d := range DTypes() {
		n := max(d.BlockSize(), 32)
		x, got := make([]float32, n), make([]float32, n)
		blocks := make([]byte, d.RowBytes(n))
		for trial := range 200 {
			scale := float32(math.Exp2(float64(trial % 10)))
			var top float64
			for i := range x {
				switch trial % 4 {
				case 0:
					x[i] = float32(rng.NormFloat64()) * scale
				case 1: // one sign only
					x[i] = rng.Float32() * scale
				case 2: // quiet sub-blocks beside loud ones
					x[i] = (rng.Float32()*2 - 1) * scale * float32(i/16%3)
				case 3:
					x[i] = -scale
				}
				top = max(top, math.Abs(float64(x[i])))
			}
			Quantize(blocks, d, x)
			Dequantize(got, d, blocks)
			for i := range x {
				if e := math.Abs(float64(got[i] - x[i])); e > roundTripError[d]*top+top/2048 {
					t.Fatalf("%v trial %d: element %d: %g became %g, off by %.4f of the largest, allowed %.4f",
						d, trial, i, x[i], got[i], e/top, roundTripError[d])
				}
			}
		}
		clear(x)
		Quantize(blocks, d, x)
		Dequantize(got, d, blocks)
		for i, v := range got {
			if v != 0 {
				t.Fatalf("%v: zero %d became %g", d, i, v)
			}
		}
	}
}

func TestLengthsMustMatch(t *testing.T) {
	for _, c := range []struct {
		d               DType
		elements, bytes int
	}{{F32, 2, 4}, {Q4_0, 16, 9}, {Q4_0, 32, 17}, {Q6_K, 128, 105}} {
		for name, call := range map[string]func(){
			"Dequantize": func() { Dequantize(make([]float32, c.elements), c.d, make([]byte, c.bytes)) },
			"Quantize":   func() { Quantize(make([]byte, c.bytes), c.d, make([]float32, c.elements)) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s of %d %v elements in %d bytes did not panic", name, c.elements, c.d, c.bytes)
					}
				}()
				call()
			}()
		}
	}
}

func TestRowFollowsOrder(t *testing.T) {
	x := Tensor{DType: F16, Rows: 3, Cols: 2, Data: []byte("aaaabbbbcccc"), Order: []int32{2, 0, 1}}
	if got := fmt.Sprintf("%s %s %s", x.Row(0), x.Row(1), x.Row(2)); got != "cccc aaaa bbbb" {
		t.Errorf("rows %s", got)
	}
	if r := x.Row(0); cap(r) != 4 {
		t.Errorf("a row's capacity is %d", cap(r))
	}
}

// FuzzDequantize checks that any bytes decode, that a sequence of blocks decodes
// like each block alone, and that what is decoded can be encoded again.
func FuzzDequantize(f *testing.F) {
	for _, d := range DTypes() {
		f.Add(uint8(d), bytes.Repeat([]byte{0x9c, 0x3b, 0xff}, d.BlockBytes()))
	}
	f.Fuzz(func(t *testing.T, format uint8, src []byte) {
		d := DType(format % uint8(numDTypes))
		n := len(src) / d.BlockBytes()
		src = src[:n*d.BlockBytes()]
		all, one := make([]float32, n*d.BlockSize()), make([]float32, d.BlockSize())
		Dequantize(all, d, src)
		for b := range n {
			Dequantize(one, d, src[b*d.BlockBytes():(b+1)*d.BlockBytes()])
			for i, v := range one {
				if w := all[b*d.BlockSize()+i]; math.Float32bits(v) != math.Float32bits(w) {
					t.Fatalf("%v: element %d of block %d is %g alone, %g in a row", d, i, b, v, w)
				}
			}
		}
		Quantize(src, d, all) // must not panic, whatever the values
	})
}

func BenchmarkDequantize(b *testing.B) {
	dst := make([]float32, 4096)
	for _, d := range DTypes() {
		src := bytes.Repeat([]byte{0x35}, d.RowBytes(len(dst)))
		b.Run(d.String(), func(b *testing.B) {
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				Dequantize(dst, d, src)
			}
		})
	}
}

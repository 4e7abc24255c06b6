package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/mem"
	"triforce/tensor"
)

// unpack returns w[row][k] as d·c + m, and how far the rounding of d and m to
// halves may have moved it.
func unpack(m *Matrix, row, k int) (w float32, slack float64) {
	j, panel := row%Panel, m.Panel(row/Panel, row/Panel+1)
	switch m.Format {
	case F32:
		return math.Float32frombits(word(panel[(k*Panel+j)*4:])), 0
	case F16:
		return getHalf(panel[(k*Panel+j)*2:]), 0
	case BF16:
		return math.Float32frombits(uint32(panel[(k*Panel+j)*2])<<16 | uint32(panel[(k*Panel+j)*2+1])<<24), 0
	}
	var d, offset float32
	var c int
	switch b, i := k/Block, k%Block; m.Format {
	case Q4:
		block := panel[b*320:]
		d, offset = getHalf(block[256+2*j:]), getHalf(block[288+2*j:])
		c = int(block[i%16/4*64+j*4+i%4] >> (i / 16 * 4) & 15)
	case Q8:
		block := panel[b*544:]
		d, c = getHalf(block[512+2*j:]), int(block[i/4*64+j*4+i%4])-128
	case Q8x16:
		block := panel[b*640+i/16*320:]
		d, offset = getHalf(block[256+2*j:]), getHalf(block[288+2*j:])
		c = int(block[i%16/4*64+j*4+i%4]) - 128
	}
	size := math.Abs(float64(d)*float64(c)) + math.Abs(float64(offset))
	return float32(d*float32(c)) + offset, size*0x1p-11 + float64(abs(c)+1)*0x1p-25
}

func abs(c int) int { return max(c, -c) }

// exact lists the formats whose packed form loses nothing.
var exact = map[tensor.DType]bool{
	tensor.F32: true, tensor.F16: true, tensor.BF16: true,
	tensor.Q4_0: true, tensor.Q4_1: true, tensor.Q5_0: true, tensor.Q5_1: true,
	tensor.Q8_0: true, tensor.IQ4_NL: true,
}

func randomTensor(rng *rand.Rand, t tensor.DType, rows, cols int) *tensor.Tensor {
	x := make([]float32, cols)
	m := &tensor.Tensor{Name: "w", DType: t, Rows: rows, Cols: cols, Data: make([]byte, rows*t.RowBytes(cols))}
	for r := range rows {
		for i := range x {
			x[i] = float32(rng.NormFloat64() + 0.1)
		}
		tensor.Quantize(m.Row(r), t, x)
	}
	return m
}

// TestPack takes packed matrices apart with the drawings of package ref.
func TestPack(t *testing.T) {
	const rows, cols = 37, 512
	for _, dtype := range tensor.DTypes() {
		t.Run(dtype.String(), func(t *testing.T) {
			src := randomTensor(rand.New(rand.NewPCG(1, uint64(dtype))), dtype, rows, cols)
			src.Order = make([]int32, rows)
			for i, r := range rand.New(rand.NewPCG(2, 2)).Perm(rows) {
				src.Order[i] = int32(r)
			}
			m := NewMatrix(FormatOf(dtype), rows, cols, mem.Alloc)
			Pack(m, src, 1, m.Panels())
			Pack(m, src, 0, 1)
			plain := NewMatrix(F32, rows, cols, mem.Alloc)
			PackFloat(plain, src, 0, plain.Panels())

			want := make([]float32, cols)
			for r := range m.Pad() {
				clear(want)
				if r < rows {
					tensor.Dequantize(want, dtype, src.Row(r))
				}
				for k := range want {
					got, slack := unpack(m, r, k)
					if r >= rows || exact[dtype] {
						slack = 0
					}
					if diff := math.Abs(float64(got) - float64(want[k])); !(diff <= slack) {
						t.Fatalf("w[%d][%d] = %g, want %g within %g", r, k, got, want[k], slack)
					}
					if got, _ := unpack(plain, r, k); got != want[k] {
						t.Fatalf("float w[%d][%d] = %g, want %g", r, k, got, want[k])
					}
				}
			}
		})
	}
}

func BenchmarkPack(b *testing.B) {
	for _, dtype := range tensor.DTypes() {
		b.Run("dtype="+dtype.String(), func(b *testing.B) {
			src := randomTensor(rand.New(rand.NewPCG(1, 1)), dtype, 256, 1536)
			m := NewMatrix(FormatOf(dtype), src.Rows, src.Cols, mem.Alloc)
			b.SetBytes(src.Bytes())
			for b.Loop() {
				Pack(m, src, 0, m.Panels())
			}
		})
	}
}

// Rows of types that unpack are what the reference dequantization gives.
func TestRow(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, dtype := range tensor.DTypes() {
		if !Unpacks(dtype) {
			continue
		}
		const rows, cols = 37, 96
		src := tensor.Tensor{DType: dtype, Rows: rows, Cols: cols, Data: make([]byte, rows*dtype.RowBytes(cols))}
		for i := range rows {
			x := make([]float32, cols)
			for k := range x {
				x[k] = float32(r.NormFloat64())
			}
			tensor.Quantize(src.Row(i), dtype, x)
		}
		m := NewMatrix(FormatOf(dtype), rows, cols, mem.Alloc)
		Pack(m, &src, 0, m.Panels())
		got, want := make([]float32, cols), make([]float32, cols)
		for i := range rows {
			m.Row(got, i)
			tensor.Dequantize(want, dtype, src.Row(i))
			if !slices.Equal(got, want) {
				t.Fatalf("%v: row %d is %v, expected %v", dtype, i, got, want)
			}
		}
	}
}

//go:build amd64 && !purego

package kernel

import (
	"math"

	"triforce/internal/cpu"
)

// accelerateProducts installs all kernels but those of attention. Activation
// rows are the same on both tiers, and so are the functions around products.
func accelerateProducts(s *Set, tier cpu.Tier) {
	s.ActBytes, s.Quantize = actBytes, quantize
	s.RMSNorm, s.Rope, s.SwiGLU, s.Add, s.Exp = rmsNorm, rope, swiGLU, add, exp
	switch tier {
	case cpu.AVX2:
		s.Peak, s.Sum = peakAVX2, sumBy(sumAVX2)
		s.MatMul = [numFormats]MatMul{
			Q4:    byRows[byte](Q4, []int{1, 2, 3, 4}, matMulQ4Rows1AVX2, matMulQ4Rows2AVX2, matMulQ4Rows3AVX2, matMulQ4Rows4AVX2),
			Q8:    byRows[byte](Q8, []int{1, 2, 3, 4}, matMulQ8Rows1AVX2, matMulQ8Rows2AVX2, matMulQ8Rows3AVX2, matMulQ8Rows4AVX2),
			Q8x16: byRows[byte](Q8x16, []int{1, 2, 3, 4}, matMulQ8x16Rows1AVX2, matMulQ8x16Rows2AVX2, matMulQ8x16Rows3AVX2, matMulQ8x16Rows4AVX2),
		}
		s.MatMulFloat = [numFormats]MatMulFloat{
			F32:  byRows[float32](F32, []int{1, 2, 4, 6}, matMulF32Rows1AVX2, matMulF32Rows2AVX2, matMulF32Rows4AVX2, matMulF32Rows6AVX2),
			F16:  byRows[float32](F16, []int{1, 2, 4}, matMulF16Rows1AVX2, matMulF16Rows2AVX2, matMulF16Rows4AVX2),
			BF16: byRows[float32](BF16, []int{1, 2, 4}, matMulBF16Rows1AVX2, matMulBF16Rows2AVX2, matMulBF16Rows4AVX2),
		}
	case cpu.AVX512, cpu.AMX:
		s.Peak, s.Sum, s.Abreast = peakAVX512, sumBy(sumAVX512), 4
		sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 16}
		q4 := []product[byte]{matMulQ4Rows1AVX512, matMulQ4Rows2AVX512, matMulQ4Rows3AVX512, matMulQ4Rows4AVX512, matMulQ4Rows5AVX512, matMulQ4Rows6AVX512, matMulQ4Rows7AVX512, matMulQ4Rows8AVX512, matMulQ4Rows16AVX512}
		q8 := []product[byte]{matMulQ8Rows1AVX512, matMulQ8Rows2AVX512, matMulQ8Rows3AVX512, matMulQ8Rows4AVX512, matMulQ8Rows5AVX512, matMulQ8Rows6AVX512, matMulQ8Rows7AVX512, matMulQ8Rows8AVX512}
		if tier == cpu.AMX { // its tiles take over where they are faster
			q4[8], q8 = matMulQ4Rows16AMX, append(q8[:7], matMulQ8Rows8AMX, matMulQ8Rows16AMX)
		}
		s.MatMul = [numFormats]MatMul{
			Q4:    byRows(Q4, sizes, q4...),
			Q8:    byRows(Q8, sizes, q8...),
			Q8x16: byRows[byte](Q8x16, sizes, matMulQ8x16Rows1AVX512, matMulQ8x16Rows2AVX512, matMulQ8x16Rows3AVX512, matMulQ8x16Rows4AVX512, matMulQ8x16Rows5AVX512, matMulQ8x16Rows6AVX512, matMulQ8x16Rows7AVX512, matMulQ8x16Rows8AVX512),
		}
		s.MatMulFloat = [numFormats]MatMulFloat{
			F32:  byRows[float32](F32, []int{1, 2, 4, 8}, matMulF32Rows1AVX512, matMulF32Rows2AVX512, matMulF32Rows4AVX512, matMulF32Rows8AVX512),
			F16:  byRows[float32](F16, []int{1, 2, 4, 8}, matMulF16Rows1AVX512, matMulF16Rows2AVX512, matMulF16Rows4AVX512, matMulF16Rows8AVX512),
			BF16: byRows[float32](BF16, []int{1, 2, 4, 8}, matMulBF16Rows1AVX512, matMulBF16Rows2AVX512, matMulBF16Rows4AVX512, matMulBF16Rows8AVX512),
		}
	}
	if tier != cpu.AMX {
		return
	}
	s.Peak = peakAMX
	s.ActBytes = func(n int) int { return 2 * actBytes(n) }
	s.Quantize = func(dst []byte, x []float32) {
		quantize(dst, x)
		splitBytesAVX512(&dst[actBytes(len(x))], &dst[0], blocksOf(len(x)))
	}
}

func exp(x []float32, top float32) float32 {
	var sums [8]float32
	whole := len(x) &^ 7
	if whole > 0 {
		expAsm(&x[0], top, whole/8, &sums[0])
	}
	if whole < len(x) {
		none := float32(math.Inf(-1))
		last := [8]float32{none, none, none, none, none, none, none, none}
		copy(last[:], x[whole:])
		expAsm(&last[0], top, 1, &sums[0])
		copy(x[whole:], last[:])
	}
	return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}

// Sizes of a block of activations, in a layout that _gen draws, and of what
// follows the last.
const (
	actBlock = 96
	actTail  = 32
)

//go:build arm64 && !purego

package kernel

// accelerateProducts installs all kernels but those of attention.
func accelerateProducts(s *Set) {
	s.ActBytes, s.Quantize = actBytes, quantize
	s.RMSNorm, s.Rope, s.SwiGLU, s.Add = rmsNorm, rope, swiGLU, add
	s.Peak, s.Sum = peakNEON, sumBy(sumNEON)
	s.MatMul = [numFormats]MatMul{
		Q4:    byRows[byte](Q4, []int{1, 2, 4, 8}, matMulQ4Rows1NEON, matMulQ4Rows2NEON, matMulQ4Rows4NEON, matMulQ4Rows8NEON),
		Q8:    byRows[byte](Q8, []int{1, 2, 4, 8}, matMulQ8Rows1NEON, matMulQ8Rows2NEON, matMulQ8Rows4NEON, matMulQ8Rows8NEON),
		Q8x16: byRows[byte](Q8x16, []int{1, 2, 4, 8}, matMulQ8x16Rows1NEON, matMulQ8x16Rows2NEON, matMulQ8x16Rows4NEON, matMulQ8x16Rows8NEON),
	}
	s.MatMulFloat = [numFormats]MatMulFloat{
		F32:  byRows[float32](F32, []int{1, 2, 4}, matMulF32Rows1NEON, matMulF32Rows2NEON, matMulF32Rows4NEON),
		F16:  byRows[float32](F16, []int{1, 2, 4}, matMulF16Rows1NEON, matMulF16Rows2NEON, matMulF16Rows4NEON),
		BF16: byRows[float32](BF16, []int{1, 2, 4}, matMulBF16Rows1NEON, matMulBF16Rows2NEON, matMulBF16Rows4NEON),
	}
}

// Sizes of a block of activations, in a layout that _gen draws, and of what
// follows the last.
const (
	actBlock = 80
	actTail  = 16
)

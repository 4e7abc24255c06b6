//go:build arm64 && !purego

package kernel

import (
	"encoding/binary"
	"math"
)

// accelerateProducts installs all kernels but those of attention.
func accelerateProducts(s *Set) {
	s.ActBytes, s.Quantize = actBytes, quantize
	s.RMSNorm, s.Rope, s.SwiGLU, s.Add = rmsNorm, rope, swiGLU, add
	s.MatMul = [numFormats]MatMul{
		Q4:    byRows[byte](Q4, matMulQ4Rows1NEON, matMulQ4Rows2NEON, matMulQ4Rows4NEON, matMulQ4Rows8NEON),
		Q8:    byRows[byte](Q8, matMulQ8Rows1NEON, matMulQ8Rows2NEON, matMulQ8Rows4NEON, matMulQ8Rows8NEON),
		Q8x16: byRows[byte](Q8x16, matMulQ8x16Rows1NEON, matMulQ8x16Rows2NEON, matMulQ8x16Rows4NEON, matMulQ8x16Rows8NEON),
	}
	s.MatMulFloat = [numFormats]MatMulFloat{
		F32:  byRows[float32](F32, matMulF32Rows1NEON, matMulF32Rows2NEON, matMulF32Rows4NEON),
		F16:  byRows[float32](F16, matMulF16Rows1NEON, matMulF16Rows2NEON, matMulF16Rows4NEON),
		BF16: byRows[float32](BF16, matMulBF16Rows1NEON, matMulBF16Rows2NEON, matMulBF16Rows4NEON),
	}
}

// product multiplies a fixed number of rows; n counts inputs of floats and
// blocks of codes.
type product[X byte | float32] func(dst *float32, ldd int, w *byte, panels int, x *X, ldx, n int)

// groupBytes is how many bytes of panels all rows go through before the next:
// they come from memory once and then stay in the second cache, while the rows
// of a kernel stay in the first.
const groupBytes = 256 << 10

// byRows cuts rows into those of kernels for 1, 2, 4, … rows.
func byRows[X byte | float32](f Format, kernels ...product[X]) func(dst []float32, ldd int, w []byte, panels int, x []X, ldx, rows, n int) {
	return func(dst []float32, ldd int, w []byte, panels int, x []X, ldx, rows, n int) {
		size, length := f.PanelBytes(n), n
		if !f.Float() {
			length = blocksOf(n)
		}
		group := max(1, groupBytes/size)
		for p := 0; p < panels; p += group {
			r := 0
			for i := len(kernels) - 1; i >= 0; i-- {
				for ; rows-r >= 1<<i; r += 1 << i {
					kernels[i](&dst[r*ldd+p*Panel], ldd, &w[p*size], min(group, panels-p), &x[r*ldx], ldx, length)
				}
			}
		}
	}
}

// actBlock is the size of a block of activations, in a layout that _gen draws.
const actBlock = 80

func blocksOf(n int) int { return (n + Block - 1) / Block }

// actBytes is the size of an activation row: blocks and a scale, padded so that
// rows are aligned alike.
func actBytes(n int) int { return blocksOf(n)*actBlock + 16 }

// actMax is the largest magnitude of an activation's integer.
const actMax = 32512

func quantize(dst []byte, x []float32) {
	whole := len(x) / Block
	var last [Block]float32 // the rest, if there is any, with zeros behind
	copy(last[:], x[whole*Block:])
	bits := largestNEON(&last[0], 1)
	if whole > 0 {
		bits = max(bits, largestNEON(&x[0], whole))
	}
	amax, inv := math.Float32frombits(bits), float32(0)
	if amax >= 0x1p-112 {
		inv = actMax / amax
	}
	dst = dst[:actBytes(len(x))]
	if whole > 0 {
		quantizeNEON(&dst[0], &x[0], inv, whole)
	}
	blocks := blocksOf(len(x))
	if whole < blocks {
		quantizeNEON(&dst[whole*actBlock], &last[0], inv, 1)
	}
	binary.LittleEndian.PutUint32(dst[blocks*actBlock:], math.Float32bits(amax/actMax))
}

func rmsNorm(dst, x, weight []float32, eps float32) {
	var lanes [16]float32
	whole := len(x) &^ 15
	if whole > 0 {
		sumSquaresNEON(&lanes, &x[0], whole/16)
	}
	if whole < len(x) {
		var last [16]float32
		copy(last[:], x[whole:])
		sumSquaresNEON(&lanes, &last[0], 1)
	}
	for n := 8; n > 0; n /= 2 {
		for i := range n {
			lanes[i] += lanes[i+n]
		}
	}
	mean := lanes[0] / float32(len(x))
	r := 1 / float32(math.Sqrt(float64(mean+eps)))

	whole = len(x) &^ 7
	if whole > 0 {
		normalizeNEON(&dst[:whole][0], &x[0], &weight[:whole][0], r, whole/8)
	}
	for i := whole; i < len(x); i++ {
		dst[i] = float32(x[i]*r) * weight[i]
	}
}

func rope(x, cos, sin []float32) {
	half := len(cos)
	a, b, sin := x[:half], x[half:2*half], sin[:half]
	whole := half &^ 7
	if whole > 0 {
		ropeNEON(&a[0], &b[0], &cos[0], &sin[0], whole/8)
	}
	if whole < half {
		var last [4][8]float32
		copy(last[0][:], a[whole:])
		copy(last[1][:], b[whole:])
		copy(last[2][:], cos[whole:])
		copy(last[3][:], sin[whole:])
		ropeNEON(&last[0][0], &last[1][0], &last[2][0], &last[3][0], 1)
		copy(a[whole:], last[0][:])
		copy(b[whole:], last[1][:])
	}
}

func swiGLU(dst, gate, up []float32) {
	dst, up = dst[:len(gate)], up[:len(gate)]
	whole := len(gate) &^ 7
	if whole > 0 {
		swiGLUNEON(&dst[0], &gate[0], &up[0], whole/8)
	}
	if whole < len(gate) {
		var last [2][8]float32
		copy(last[0][:], gate[whole:])
		copy(last[1][:], up[whole:])
		swiGLUNEON(&last[0][0], &last[0][0], &last[1][0], 1)
		copy(dst[whole:], last[0][:])
	}
}

func add(dst, x []float32) {
	dst = dst[:len(x)]
	whole := len(x) &^ 7
	if whole > 0 {
		addNEON(&dst[0], &x[0], whole/8)
	}
	for i := whole; i < len(x); i++ {
		dst[i] += x[i]
	}
}

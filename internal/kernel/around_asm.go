//go:build (amd64 || arm64) && !purego

package kernel

import (
	"encoding/binary"
	"math"

	"triforce/internal/kernel/ref"
)

// What surrounds kernels in assembly and is the same for all processors that
// have them. Functions whose names end in Asm are written once a processor.

// product multiplies a fixed number of rows; n counts inputs of floats and
// blocks of codes.
type product[X byte | float32] func(dst *float32, ldd int, w *byte, panels int, x *X, ldx, n int)

// groupBytes is how many bytes of panels all rows go through before the next:
// they come from memory once and then stay in the second cache, while the rows
// of a kernel stay in the first.
const groupBytes = 256 << 10

// byRows cuts rows into those of kernels, each for a number of rows in sizes,
// which ascend.
func byRows[X byte | float32](f Format, sizes []int, kernels ...product[X]) func(dst []float32, ldd int, w []byte, panels int, x []X, ldx, rows, n int) {
	return func(dst []float32, ldd int, w []byte, panels int, x []X, ldx, rows, n int) {
		size, length := f.PanelBytes(n), n
		if !f.Float() {
			length = blocksOf(n)
		}
		group := max(1, groupBytes/size)
		for p := 0; p < panels; p += group {
			r := 0
			for i := len(kernels) - 1; i >= 0; i-- {
				for n := sizes[i]; rows-r >= n; r += n {
					kernels[i](&dst[r*ldd+p*Panel], ldd, &w[p*size], min(group, panels-p), &x[r*ldx], ldx, length)
				}
			}
		}
	}
}

func blocksOf(n int) int { return (n + Block - 1) / Block }

// actBytes is the size of an activation row: blocks and a scale, padded so that
// rows are aligned alike.
func actBytes(n int) int { return blocksOf(n)*actBlock + actTail }

// actMax is the largest magnitude of an activation's integer.
const actMax = 32512

func quantize(dst []byte, x []float32) {
	whole := len(x) / Block
	var last [Block]float32 // the rest, if there is any, with zeros behind
	copy(last[:], x[whole*Block:])
	bits := largestAsm(&last[0], 1)
	if whole > 0 {
		bits = max(bits, largestAsm(&x[0], whole))
	}
	amax, inv := math.Float32frombits(bits), float32(0)
	if amax >= 0x1p-112 {
		inv = actMax / amax
	}
	dst = dst[:actBytes(len(x))]
	if whole > 0 {
		quantizeAsm(&dst[0], &x[0], inv, whole)
	}
	blocks := blocksOf(len(x))
	if whole < blocks {
		quantizeAsm(&dst[whole*actBlock], &last[0], inv, 1)
	}
	binary.LittleEndian.PutUint32(dst[blocks*actBlock:], math.Float32bits(amax/actMax))
}

func rmsNorm(dst, x, weight []float32, eps float32) {
	var lanes [16]float32
	whole := len(x) &^ 15
	if whole > 0 {
		sumSquaresAsm(&lanes, &x[0], whole/16)
	}
	if whole < len(x) {
		var last [16]float32
		copy(last[:], x[whole:])
		sumSquaresAsm(&lanes, &last[0], 1)
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
		normalizeAsm(&dst[:whole][0], &x[0], &weight[:whole][0], r, whole/8)
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
		ropeAsm(&a[0], &b[0], &cos[0], &sin[0], whole/8)
	}
	if whole < half {
		var last [4][8]float32
		copy(last[0][:], a[whole:])
		copy(last[1][:], b[whole:])
		copy(last[2][:], cos[whole:])
		copy(last[3][:], sin[whole:])
		ropeAsm(&last[0][0], &last[1][0], &last[2][0], &last[3][0], 1)
		copy(a[whole:], last[0][:])
		copy(b[whole:], last[1][:])
	}
}

func swiGLU(dst, gate, up []float32) {
	dst, up = dst[:len(gate)], up[:len(gate)]
	whole := len(gate) &^ 7
	if whole > 0 {
		swiGLUAsm(&dst[0], &gate[0], &up[0], whole/8)
	}
	if whole < len(gate) {
		var last [2][8]float32
		copy(last[0][:], gate[whole:])
		copy(last[1][:], up[whole:])
		swiGLUAsm(&last[0][0], &last[0][0], &last[1][0], 1)
		copy(dst[whole:], last[0][:])
	}
}

func add(dst, x []float32) {
	dst = dst[:len(x)]
	whole := len(x) &^ 7
	if whole > 0 {
		addAsm(&dst[0], &x[0], whole/8)
	}
	for i := whole; i < len(x); i++ {
		dst[i] += x[i]
	}
}

// sumBlock is how many words the kernels of Sum add at a time.
const sumBlock = 256 / 8

// sumBy makes Sum of a kernel that adds whole blocks.
func sumBy(blocks func(x *uint64, blocks int) uint64) func(x []uint64) uint64 {
	return func(x []uint64) uint64 {
		whole := len(x) / sumBlock
		sum := ref.Sum(x[whole*sumBlock:])
		if whole > 0 {
			sum += blocks(&x[0], whole)
		}
		return sum
	}
}

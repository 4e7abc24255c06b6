package ref

import (
	"encoding/binary"
	"math"

	"triforce/tensor"
)

// An activation row of n floats, padded with zeros to N = a multiple of Block,
// is kept for the integer kernels as
//
//	q     N int16       round(x/d), d = max|x|/32512 over the row
//	sum   N/16 int32    sums of q over halves of a block
//	d     float32
//
// so that q = 256·hi + lo with hi and lo in -128…127. Sixteen bits cost the
// integer kernels a second product and make the error of activations vanish
// beside that of the weights: with 8 bits and a scale for each block, the
// logits of a small model are off by half a unit. Other tiers may keep a row
// differently; only what the products give counts.

// actMax is the largest |q|: 127·256, so that hi fits in 8 bits.
const actMax = 32512

// ActBytes is the size of an activation row of n floats.
func ActBytes(n int) int {
	n = padBlock(n)
	return 2*n + n/Block*2*4 + 4
}

func padBlock(n int) int { return (n + Block - 1) / Block * Block }

// Quantize fills an activation row from x: inv = actMax/max|x| (0 if that is
// below 2^-112, as it might overflow), q = round(x·inv) to even, d =
// max|x|/actMax. If x is not finite, no product is.
func Quantize(dst []byte, x []float32) {
	n := padBlock(len(x))
	amax := float32(0)
	for _, v := range x {
		amax = max(amax, float32(math.Abs(float64(v))))
	}
	inv := float32(0)
	if amax >= 0x1p-112 {
		inv = actMax / amax
	}
	clear(dst[2*len(x) : 2*n])
	for i, v := range x {
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(int16(roundEven(float32(v*inv)))))
	}
	for h := range n / 16 {
		sum := int32(0)
		for i := range 16 {
			sum += getI16(dst[2*(h*16+i):])
		}
		binary.LittleEndian.PutUint32(dst[2*n+4*h:], uint32(sum))
	}
	putF32(dst[2*n+n/4:], amax/actMax)
}

// A packed matrix is a sequence of panels of 16 output rows. A panel holds its
// blocks of 32 inputs one after another. With j the row in the panel and k the
// input in the block, the packed formats are
//
//	Q4     w = d·c + m, c in 0…15       codes 256 bytes: byte (k%16/4)·64 + j·4 + k%4,
//	                                    low nibble for k < 16, high nibble for the rest
//	                                    d 16 float16, m 16 float16
//	Q8     w = d·c, c in -128…127       codes 512 bytes: byte (k/4)·64 + j·4 + k%4 = c+128
//	                                    d 16 float16
//	Q8x16  w = d·c + m for halves of    twice (k < 16, k ≥ 16): codes 256 bytes as in Q8,
//	       a block                      d 16 float16, m 16 float16
//
// and, without blocks, F32, F16, BF16: element k·16 + j.
//
// Rows past the last are zero, and so are inputs past the last.

// The products below compute, for every activation row r and panel p,
//
//	dst[r·ldd + p·16 + j] = Σ_k x[r][k] · w[p·16+j][k]
//	                      = d[r] · Σ_blocks (w.d·float(Σ c·q) + w.m·float(Σ q))
//
// over `panels` panels of matrices with n inputs; activation row r starts at
// x[r·ldx]. Sums run over k in blocks in ascending order, each output in one
// chain of fused multiply-adds, so that a result does not depend on how many
// rows or panels are done together.

// MatMulQ4 multiplies by a matrix packed as Q4.
func MatMulQ4(dst []float32, ldd int, w []byte, panels int, x []byte, ldx, rows, n int) {
	const size = 256 + 32 + 32
	matmulBlocks(dst, ldd, w, panels, x, ldx, rows, n, size, func(acc float32, w []byte, j int, a act) float32 {
		dot := int32(0)
		for k := range Block {
			c := w[k%16/4*64+j*4+k%4]
			if k < 16 {
				c &= 15
			} else {
				c >>= 4
			}
			dot += int32(c) * getI16(a.q[2*k:])
		}
		acc = FMA(float32(dot), f16(w[256+2*j:]), acc)
		return FMA(float32(a.sum[0]+a.sum[1]), f16(w[288+2*j:]), acc)
	})
}

// MatMulQ8 multiplies by a matrix packed as Q8.
func MatMulQ8(dst []float32, ldd int, w []byte, panels int, x []byte, ldx, rows, n int) {
	const size = 512 + 32
	matmulBlocks(dst, ldd, w, panels, x, ldx, rows, n, size, func(acc float32, w []byte, j int, a act) float32 {
		dot := int32(0)
		for k := range Block {
			dot += (int32(w[k/4*64+j*4+k%4]) - 128) * getI16(a.q[2*k:])
		}
		return FMA(float32(dot), f16(w[512+2*j:]), acc)
	})
}

// MatMulQ8x16 multiplies by a matrix packed as Q8x16.
func MatMulQ8x16(dst []float32, ldd int, w []byte, panels int, x []byte, ldx, rows, n int) {
	const half = 256 + 32 + 32
	matmulBlocks(dst, ldd, w, panels, x, ldx, rows, n, 2*half, func(acc float32, w []byte, j int, a act) float32 {
		for h := range 2 {
			w, q := w[h*half:], a.q[h*32:]
			dot := int32(0)
			for k := range 16 {
				dot += (int32(w[k/4*64+j*4+k%4]) - 128) * getI16(q[2*k:])
			}
			acc = FMA(float32(dot), f16(w[256+2*j:]), acc)
			acc = FMA(float32(a.sum[h]), f16(w[288+2*j:]), acc)
		}
		return acc
	})
}

// act is one block of an activation row.
type act struct {
	q   []byte
	sum [2]int32
}

func matmulBlocks(dst []float32, ldd int, w []byte, panels int, x []byte, ldx, rows, n, size int, add func(float32, []byte, int, act) float32) {
	n = padBlock(n)
	blocks := n / Block
	for r := range rows {
		x := x[r*ldx:]
		d := getF32(x[2*n+n/4:])
		for p := range panels {
			for j := range Panel {
				acc := float32(0)
				for b := range blocks {
					sum := x[2*n+8*b:]
					acc = add(acc, w[(p*blocks+b)*size:], j, act{
						q:   x[2*b*Block : 2*(b+1)*Block],
						sum: [2]int32{getI32(sum), getI32(sum[4:])},
					})
				}
				dst[r*ldd+p*Panel+j] = acc * d
			}
		}
	}
}

// MatMulF32 multiplies by a matrix packed as F32. Activations are plain
// floats; ldx counts floats.
func MatMulF32(dst []float32, ldd int, w []byte, panels int, x []float32, ldx, rows, n int) {
	matmulFloat(dst, ldd, w, panels, x, ldx, rows, n, 4, getF32)
}

// MatMulF16 multiplies by a matrix packed as F16.
func MatMulF16(dst []float32, ldd int, w []byte, panels int, x []float32, ldx, rows, n int) {
	matmulFloat(dst, ldd, w, panels, x, ldx, rows, n, 2, f16)
}

// MatMulBF16 multiplies by a matrix packed as BF16.
func MatMulBF16(dst []float32, ldd int, w []byte, panels int, x []float32, ldx, rows, n int) {
	matmulFloat(dst, ldd, w, panels, x, ldx, rows, n, 2, bf16)
}

func matmulFloat(dst []float32, ldd int, w []byte, panels int, x []float32, ldx, rows, n, size int, get func([]byte) float32) {
	for r := range rows {
		for p := range panels {
			for j := range Panel {
				acc := float32(0)
				for k := range n {
					acc = FMA(x[r*ldx+k], get(w[((p*n+k)*Panel+j)*size:]), acc)
				}
				dst[r*ldd+p*Panel+j] = acc
			}
		}
	}
}

func getI16(b []byte) int32      { return int32(int16(binary.LittleEndian.Uint16(b))) }
func getI32(b []byte) int32      { return int32(binary.LittleEndian.Uint32(b)) }
func getF32(b []byte) float32    { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
func putF32(b []byte, v float32) { binary.LittleEndian.PutUint32(b, math.Float32bits(v)) }
func f16(b []byte) float32       { return tensor.F16ToF32(binary.LittleEndian.Uint16(b)) }
func bf16(b []byte) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
}

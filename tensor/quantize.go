package tensor

import (
	"encoding/binary"
	"math"
)

// Quantize packs src into blocks of format t, the inverse of Dequantize, with
// the same conditions on the lengths. Elements must be finite.
//
// F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 round as ggml's reference
// does, bit for bit. The other formats take each sub-block's scale from its
// extremes, without the search that makes a quantized model good: they are for
// test models and experiments.
func Quantize(dst []byte, t DType, src []float32) {
	checkLengths(t, len(src), len(dst))
	size, bytes := t.BlockSize(), t.BlockBytes()
	for ; len(src) > 0; dst, src = dst[bytes:], src[size:] {
		clear(dst[:bytes])
		quantizers[t](dst[:bytes], src[:size])
	}
}

// quantizers has one row a format: each packs one block into zeroed bytes whose
// layout is told with the dequantizer.
var quantizers = [numDTypes]func(dst []byte, x []float32){
	F32:    func(dst []byte, x []float32) { binary.LittleEndian.PutUint32(dst, math.Float32bits(x[0])) },
	F16:    func(dst []byte, x []float32) { putHalf(dst, x[0]) },
	BF16:   func(dst []byte, x []float32) { binary.LittleEndian.PutUint16(dst, F32ToBF16(x[0])) },
	Q4_0:   quantizeQ4_0,
	Q4_1:   quantizeQ4_1,
	Q5_0:   quantizeQ5_0,
	Q5_1:   quantizeQ5_1,
	Q8_0:   quantizeQ8_0,
	Q2_K:   quantizeQ2_K,
	Q3_K:   quantizeQ3_K,
	Q4_K:   quantizeQ4_K,
	Q5_K:   quantizeQ5_K,
	Q6_K:   quantizeQ6_K,
	IQ4_NL: quantizeIQ4_NL,
	IQ4_XS: quantizeIQ4_XS,
}

func putHalf(dst []byte, f float32) { binary.LittleEndian.PutUint16(dst, F32ToF16(f)) }

// inverse is 1/d, and 0 for a block of zeros.
func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// code truncates v to an integer from 0 to limit. Callers add a half to round.
func code(v float32, limit byte) byte {
	switch {
	case !(v > 0):
		return 0
	case v >= float32(limit):
		return limit
	}
	return byte(v)
}

// extreme returns the element of largest magnitude, with its sign; the first of
// several.
func extreme(x []float32) (e float32) {
	for _, v := range x {
		if max(v, -v) > max(e, -e) {
			e = v
		}
	}
	return e
}

func bounds(x []float32) (lo, hi float32) {
	lo, hi = x[0], x[0]
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

func quantizeQ4_0(dst []byte, x []float32) {
	d := extreme(x) / -8
	id := inverse(d)
	putHalf(dst, d)
	for j := range 16 {
		dst[2+j] = code(float32(x[j]*id)+8.5, 15) | code(float32(x[j+16]*id)+8.5, 15)<<4
	}
}

func quantizeQ4_1(dst []byte, x []float32) {
	lo, hi := bounds(x)
	d := (hi - lo) / 15
	id := inverse(d)
	putHalf(dst, d)
	putHalf(dst[2:], lo)
	for j := range 16 {
		dst[4+j] = code(float32((x[j]-lo)*id)+0.5, 15) | code(float32((x[j+16]-lo)*id)+0.5, 15)<<4
	}
}

func quantizeQ5_0(dst []byte, x []float32) {
	d := extreme(x) / -16
	id := inverse(d)
	putHalf(dst, d)
	for j, v := range x {
		putQ5(dst[2:], j, code(float32(v*id)+16.5, 31))
	}
}

func quantizeQ5_1(dst []byte, x []float32) {
	lo, hi := bounds(x)
	d := (hi - lo) / 31
	id := inverse(d)
	putHalf(dst, d)
	putHalf(dst[2:], lo)
	for j, v := range x {
		putQ5(dst[4:], j, code(float32((v-lo)*id)+0.5, 31))
	}
}

// putQ5 stores the code of element j: fifth bits first, then the nibbles.
func putQ5(dst []byte, j int, q byte) {
	dst[j/8] |= q >> 4 << (j % 8)
	dst[4+j%16] |= q & 15 << (j / 16 * 4)
}

func quantizeQ8_0(dst []byte, x []float32) {
	d := max(extreme(x), -extreme(x)) / 127
	id := inverse(d)
	putHalf(dst, d)
	for j, v := range x {
		q := math.Round(float64(v * id))
		dst[2+j] = byte(int8(max(-127, min(127, q))))
	}
}

// affine fits w = d·scale·q − m·minimum, with scale and minimum from 0 to
// limit and q from 0 to top, to sub-blocks of equal size, one for each element
// of scales. It returns the halves' values as stored.
func affine(x []float32, scales, minima []byte, limit byte, q []byte, top byte) (d, m float32) {
	n := len(x) / len(scales)
	var steps, lows [16]float32
	for s := range scales {
		lo, hi := bounds(x[s*n : s*n+n])
		lows[s] = max(0, -lo)
		steps[s] = max(0, hi+lows[s]) / float32(top)
		d, m = max(d, steps[s]), max(m, lows[s])
	}
	d = F16ToF32(F32ToF16(d / float32(limit)))
	m = F16ToF32(F32ToF16(m / float32(limit)))
	for s := range scales {
		scales[s] = code(float32(steps[s]*inverse(d))+0.5, limit)
		minima[s] = code(float32(lows[s]*inverse(m))+0.5, limit)
		step, low := d*float32(scales[s]), float32(m*float32(minima[s]))
		for j := s * n; j < s*n+n; j++ {
			q[j] = code(float32((x[j]+low)*inverse(step))+0.5, top)
		}
	}
	return d, m
}

func quantizeQ2_K(dst []byte, x []float32) {
	var scales, minima [16]byte
	var q [256]byte
	d, m := affine(x, scales[:], minima[:], 15, q[:], 3)
	for s := range scales {
		dst[s] = scales[s] | minima[s]<<4
	}
	putPlanes2(dst[16:80], q[:], 0)
	putHalf(dst[80:], d)
	putHalf(dst[82:], m)
}

// putPlanes2 stores bits shift and shift+1 of 256 codes as plane2 reads them.
func putPlanes2(dst []byte, q []byte, shift int) {
	for s := range 16 {
		codes, at := plane2(dst, s)
		for j := range codes {
			codes[j] |= q[16*s+j] >> shift & 3 << at
		}
	}
}

func quantizeQ4_K(dst []byte, x []float32) {
	q := quantizeScalesQ4(dst, x, 15)
	putNibbles(dst[16:], q[:], 32)
}

func quantizeQ5_K(dst []byte, x []float32) {
	q := quantizeScalesQ4(dst, x, 31)
	for i, v := range q {
		dst[16+i%32] |= v >> 4 << (i / 32)
	}
	putNibbles(dst[48:], q[:], 32)
}

// quantizeScalesQ4 stores d, m and the packed scales and minima, and returns
// the codes.
func quantizeScalesQ4(dst []byte, x []float32, top byte) (q [256]byte) {
	var scales, minima [8]byte
	d, m := affine(x, scales[:], minima[:], 63, q[:], top)
	putHalf(dst, d)
	putHalf(dst[2:], m)
	packed := dst[4:16]
	for s := range 4 {
		packed[s] = scales[s] | scales[s+4]>>4<<6
		packed[s+4] = minima[s] | minima[s+4]>>4<<6
		packed[s+8] = scales[s+4]&15 | minima[s+4]<<4
	}
	return q
}

// putNibbles stores the low four bits of codes in pairs of planes of n.
func putNibbles(dst, q []byte, n int) {
	for i, v := range q {
		dst[i/(2*n)*n+i%n] |= v & 15 << (i / n % 2 * 4)
	}
}

// symmetric fits w = d·scale·level, with scale from −limit to limit−1 and the
// sub-blocks' elements of largest magnitude at level lowest, which is negative.
// It returns the value of the half as stored.
func symmetric(x []float32, scales []int8, limit, lowest float32) (d float32) {
	n := len(x) / len(scales)
	var steps [16]float32
	for s := range scales {
		steps[s] = extreme(x[s*n:s*n+n]) / lowest
	}
	d = F16ToF32(F32ToF16(extreme(steps[:]) / -limit))
	for s := range scales {
		v := math.Round(float64(steps[s] * inverse(d)))
		scales[s] = int8(max(-float64(limit), min(float64(limit)-1, v)))
	}
	return d
}

func quantizeQ3_K(dst []byte, x []float32) {
	var scales [16]int8
	var q [256]byte
	d := symmetric(x, scales[:], 32, -4)
	for i, v := range x {
		q[i] = code(float32(v*inverse(d*float32(scales[i/16])))+4.5, 7)
		dst[i%32] |= q[i] >> 2 << (i / 32)
	}
	putPlanes2(dst[32:96], q[:], 0)
	for s, scale := range scales {
		v := byte(scale + 32)
		dst[96+s%8] |= v & 15 << (s / 8 * 4)
		dst[104+s%4] |= v >> 4 << (s / 4 * 2)
	}
	putHalf(dst[108:], d)
}

func quantizeQ6_K(dst []byte, x []float32) {
	var scales [16]int8
	var q [256]byte
	d := symmetric(x, scales[:], 128, -32)
	for i, v := range x {
		q[i] = code(float32(v*inverse(d*float32(scales[i/16])))+32.5, 63)
	}
	putNibbles(dst, q[:], 64)
	putPlanes2(dst[128:192], q[:], 4)
	for s, scale := range scales {
		dst[192+s] = byte(scale)
	}
	putHalf(dst[208:], d)
}

func quantizeIQ4_NL(dst []byte, x []float32) {
	d := F16ToF32(F32ToF16(extreme(x) / iq4Values[0]))
	putHalf(dst, d)
	putLevels(dst[2:18], x, d)
}

func quantizeIQ4_XS(dst []byte, x []float32) {
	var scales [8]int8
	d := symmetric(x, scales[:], 32, iq4Values[0])
	putHalf(dst, d)
	for s, scale := range scales {
		v := byte(scale + 32)
		dst[2+s/4] |= v >> 4 << (s % 4 * 2)
		dst[4+s/2] |= v & 15 << (s % 2 * 4)
		putLevels(dst[8+16*s:24+16*s], x[32*s:32*s+32], d*float32(scale))
	}
}

// putLevels stores the codes of the levels nearest to x/d.
func putLevels(dst []byte, x []float32, d float32) {
	id := inverse(d)
	for j, v := range x {
		q, v := 0, v*id
		for q < 15 && v > (iq4Values[q]+iq4Values[q+1])/2 {
			q++
		}
		dst[j%16] |= byte(q << (j / 16 * 4))
	}
}

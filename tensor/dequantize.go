package tensor

import (
	"encoding/binary"
	"math"
)

// Dequantize expands the blocks in src, which are of format t, to len(dst)
// elements. len(dst) must be a multiple of the format's block size and len(src)
// must be t.RowBytes(len(dst)); anything else is a bug and panics.
//
// Every multiplication and addition is rounded to float32 on its own, so that
// all machines produce the same bits, which are those of ggml's reference.
func Dequantize(dst []float32, t DType, src []byte) {
	checkLengths(t, len(dst), len(src))
	dequantizers[t](dst, src)
}

func checkLengths(t DType, elements, bytes int) {
	if elements%t.BlockSize() != 0 || t.RowBytes(elements) != bytes {
		panic("tensor: elements and bytes do not match the format")
	}
}

// dequantizers has one row a format. In the comments of the functions, w is an
// element, q its stored code, d and m are halves, one of each a block, and
// bytes are listed in stored order; n×k is n numbers of k bits.
var dequantizers = [numDTypes]func(dst []float32, src []byte){
	F32:    dequantizeF32,
	F16:    dequantizeF16,
	BF16:   dequantizeBF16,
	Q4_0:   dequantizeQ4_0,
	Q4_1:   dequantizeQ4_1,
	Q5_0:   dequantizeQ5_0,
	Q5_1:   dequantizeQ5_1,
	Q8_0:   dequantizeQ8_0,
	Q2_K:   dequantizeQ2_K,
	Q3_K:   dequantizeQ3_K,
	Q4_K:   dequantizeQ4_K,
	Q5_K:   dequantizeQ5_K,
	Q6_K:   dequantizeQ6_K,
	IQ4_NL: dequantizeIQ4_NL,
	IQ4_XS: dequantizeIQ4_XS,
}

func half(b []byte) float32 { return F16ToF32(binary.LittleEndian.Uint16(b)) }

// F32: IEEE 754 single, little endian.
// w = q
// 4 bytes an element.
func dequantizeF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// F16: IEEE 754 half, little endian.
// w = q
// 2 bytes an element.
func dequantizeF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = half(src[2*i:])
	}
}

// BF16: the upper half of a single, little endian.
// w = q
// 2 bytes an element.
func dequantizeBF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// Q4_0: d, 32×4 codes (byte j: element j low, element j+16 high).
// w = d·(q−8)
// 18 bytes for 32 elements.
func dequantizeQ4_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
		d := half(src)
		for j, q := range src[2:18] {
			dst[j] = d * float32(int(q&15)-8)
			dst[j+16] = d * float32(int(q>>4)-8)
		}
	}
}

// Q4_1: d, m, 32×4 codes as in Q4_0.
// w = d·q + m
// 20 bytes for 32 elements.
func dequantizeQ4_1(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[20:] {
		d, m := half(src), half(src[2:])
		for j, q := range src[4:20] {
			dst[j] = float32(d*float32(q&15)) + m
			dst[j+16] = float32(d*float32(q>>4)) + m
		}
	}
}

// Q5_0: d, 32×1 fifth bits (bit j: element j), 32×4 low bits as in Q4_0.
// w = d·(q−16)
// 22 bytes for 32 elements.
func dequantizeQ5_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[22:] {
		d, high := half(src), binary.LittleEndian.Uint32(src[2:])
		for j, q := range src[6:22] {
			dst[j] = d * float32(int(q&15|fifth(high, j))-16)
			dst[j+16] = d * float32(int(q>>4|fifth(high, j+16))-16)
		}
	}
}

// Q5_1: d, m, 32×1 fifth bits, 32×4 low bits as in Q5_0.
// w = d·q + m
// 24 bytes for 32 elements.
func dequantizeQ5_1(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[24:] {
		d, m, high := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:])
		for j, q := range src[8:24] {
			dst[j] = float32(d*float32(q&15|fifth(high, j))) + m
			dst[j+16] = float32(d*float32(q>>4|fifth(high, j+16))) + m
		}
	}
}

// fifth moves bit j of high to the place of a code's fifth bit.
func fifth(high uint32, j int) byte { return byte(high >> j << 4 & 16) }

// Q8_0: d, 32×8 signed codes.
// w = d·q
// 34 bytes for 32 elements.
func dequantizeQ8_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[34:] {
		d := half(src)
		for j, q := range src[2:34] {
			dst[j] = d * float32(int8(q))
		}
	}
}

// The K formats cut a block of 256 into sub-blocks s, each with a small integer
// scale (and minimum). Codes lie in planes: those of 32 (or 64) consecutive
// elements share a shift within the same 32 (or 64) bytes.

// Q2_K: 16×(4 scale, 4 minimum), 256×2 codes (in four planes of 32, twice), d, m.
// w = d·scale[s]·q − m·minimum[s], s of 16 elements
// 84 bytes for 256 elements.
func dequantizeQ2_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[84:] {
		d, m := half(src[80:]), half(src[82:])
		for s, scale := range src[:16] {
			ds, ms := d*float32(scale&15), float32(m*float32(scale>>4))
			codes, shift := plane2(src[16:80], s)
			for j, q := range codes {
				dst[16*s+j] = float32(ds*float32(q>>shift&3)) - ms
			}
		}
	}
}

// plane2 locates the 2-bit codes of sub-block s (16 elements) in 64 bytes.
func plane2(codes []byte, s int) ([]byte, int) {
	at := s/8*32 + s%2*16
	return codes[at : at+16], s / 2 % 4 * 2
}

// Q3_K: 256×1 third bits (eight planes of 32), 256×2 low bits as in Q2_K,
// 16×6 scales, d. A third bit counts 4.
// w = d·(scale[s]−32)·(q−4), s of 16 elements
// 110 bytes for 256 elements.
func dequantizeQ3_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[110:] {
		d := half(src[108:])
		for s := range 16 {
			ds := d * float32(scaleQ3(src[96:108], s))
			codes, shift := plane2(src[32:96], s)
			high := src[s%2*16:]
			for j, q := range codes {
				third := high[j] >> (s / 2) & 1 << 2
				dst[16*s+j] = ds * float32(int(q>>shift&3|third)-4)
			}
		}
	}
}

// scaleQ3 unpacks scale s of 16, less 32: the low four bits lie in bytes 0 to 7
// (scales 8 to 15 in the high nibbles), the high two in bytes 8 to 11.
func scaleQ3(scales []byte, s int) int {
	low := scales[s%8] >> (s / 8 * 4) & 15
	high := scales[8+s%4] >> (s / 4 * 2) & 3
	return int(low|high<<4) - 32
}

// Q4_K: d, m, 8×(6 scale, 6 minimum), 256×4 codes (two planes of 32, four times).
// w = d·scale[s]·q − m·minimum[s], s of 32 elements
// 144 bytes for 256 elements.
func dequantizeQ4_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[144:] {
		d, m := half(src), half(src[2:])
		for s := range 8 {
			scale, minimum := scaleQ4(src[4:16], s)
			ds, ms := d*float32(scale), float32(m*float32(minimum))
			at := 16 + s/2*32
			for j, q := range src[at : at+32] {
				dst[32*s+j] = float32(ds*float32(q>>(s%2*4)&15)) - ms
			}
		}
	}
}

// scaleQ4 unpacks scale and minimum s of 8: the first four lie in the low six
// bits of bytes 0 to 3 and 4 to 7, the others in the nibbles of bytes 8 to 11
// with their high two bits on top of the first four's bytes.
func scaleQ4(scales []byte, s int) (scale, minimum byte) {
	a, b := scales[s%4], scales[4+s%4]
	if s < 4 {
		return a & 63, b & 63
	}
	c := scales[4+s]
	return c&15 | a>>6<<4, c>>4 | b>>6<<4
}

// Q5_K: d, m, scales as in Q4_K, 256×1 fifth bits (eight planes of 32), 256×4
// low bits as in Q4_K.
// w = d·scale[s]·q − m·minimum[s], s of 32 elements
// 176 bytes for 256 elements.
func dequantizeQ5_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[176:] {
		d, m, high := half(src), half(src[2:]), src[16:48]
		for s := range 8 {
			scale, minimum := scaleQ4(src[4:16], s)
			ds, ms := d*float32(scale), float32(m*float32(minimum))
			at := 48 + s/2*32
			for j, q := range src[at : at+32] {
				code := q>>(s%2*4)&15 | high[j]>>s&1<<4
				dst[32*s+j] = float32(ds*float32(code)) - ms
			}
		}
	}
}

// Q6_K: 256×4 low bits (two planes of 64, twice), 256×2 high bits as in Q2_K,
// 16×8 signed scales, d.
// w = d·scale[s]·(q−32), s of 16 elements
// 210 bytes for 256 elements.
func dequantizeQ6_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[210:] {
		d := half(src[208:])
		for s, scale := range src[192:208] {
			ds := d * float32(int8(scale))
			low := src[s/8*64+s%4*16:]
			high, shift := plane2(src[128:192], s)
			for j, h := range high {
				q := low[j]>>(s/4%2*4)&15 | h>>shift&3<<4
				dst[16*s+j] = ds * float32(int(q)-32)
			}
		}
	}
}

// iq4Values are the 16 levels that the IQ4 formats code for.
var iq4Values = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// IQ4_NL: d, 32×4 codes as in Q4_0.
// w = d·level[q]
// 18 bytes for 32 elements.
func dequantizeIQ4_NL(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
		levels(dst, half(src), src[2:18])
	}
}

// IQ4_XS: d, 8×2 high scale bits, 8×4 low scale bits, 8 sub-blocks of codes as
// in Q4_0.
// w = d·(scale[s]−32)·level[q], s of 32 elements
// 136 bytes for 256 elements.
func dequantizeIQ4_XS(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[136:] {
		d, high := half(src), binary.LittleEndian.Uint16(src[2:])
		for s := range 8 {
			scale := src[4+s/2]>>(s%2*4)&15 | byte(high>>(2*s)&3<<4)
			levels(dst[32*s:], d*float32(int(scale)-32), src[8+16*s:24+16*s])
		}
	}
}

func levels(dst []float32, d float32, codes []byte) {
	for j, q := range codes {
		dst[j] = d * iq4Values[q&15]
		dst[j+16] = d * iq4Values[q>>4]
	}
}

package tensor

import "math"

// F16ToF32 widens an IEEE 754 half. It is exact; a NaN keeps its sign and
// payload and becomes quiet, as the processors' own instructions do it.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent := uint32(h >> 10 & 0x1f)
	mantissa := uint32(h & 0x3ff)
	switch {
	case exponent == 0: // zero or subnormal: a multiple of 2⁻²⁴
		return math.Float32frombits(sign | math.Float32bits(float32(mantissa)*0x1p-24))
	case exponent < 0x1f:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | mantissa<<13)
	case mantissa == 0:
		return math.Float32frombits(sign | 0x7f800000)
	default:
		return math.Float32frombits(sign | 0x7fc00000 | mantissa<<13)
	}
}

// F32ToF16 rounds to the nearest IEEE 754 half, ties to even; what is too large
// becomes infinite. A NaN keeps its sign and the top of its payload and becomes
// quiet.
func F32ToF16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	abs := bits & 0x7fffffff
	switch {
	case abs > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(abs>>13&0x3ff)
	case abs >= 0x47800000: // 2¹⁶ and above
		return sign | 0x7c00
	case abs >= 0x38800000: // normal: a carry runs into the exponent as it should
		return sign | uint16(roundEven(abs, 13)-(127-15)<<10)
	default: // subnormal: the sum's last place is 2⁻²⁴, so the addition rounds
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-0x3f000000)
	}
}

// BF16ToF32 widens a bfloat16, the upper half of a float32. It is exact, and
// NaNs keep every bit.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 rounds to the nearest bfloat16, ties to even; a NaN becomes quiet.
func F32ToBF16(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 0x40
	}
	return uint16(roundEven(bits, 16))
}

// roundEven drops n low bits of v, rounding to nearest, ties to even.
func roundEven(v uint32, n uint) uint32 {
	return (v + 1<<(n-1) - 1 + v>>n&1) >> n
}

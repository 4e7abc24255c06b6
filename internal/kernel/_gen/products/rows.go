package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// What follows is written once, for AVX2: both tiers use it, as it takes a few
// thousandths of the time of the products. Names end in Asm as on other
// processors, so that package kernel calls all alike. Callers pass whole vectors
// of 8 or 16 elements and give the rest in buffers.

// Constants of 32 bytes.
var lowNibbles, lowBytes, magnitude, nibble, roundByte, pairOrder Mem

func constants() {
	lowNibbles = repeated32("lowNibbles", 0x000f000f)
	lowBytes = repeated32("lowBytes", 0x00ff00ff)
	magnitude = repeated32("magnitude", 0x7fffffff)
	nibble = repeated32("nibble", 0x0f0f0f0f)
	roundByte = repeated32("roundByte", 0x00800080)
	pairOrder = GLOBL("pairOrder", RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(0x03010200+uint32(i%4)*0x04040404))
	}
}

func repeated32(name string, v uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(v))
	}
	return m
}

// float is a vector of eight copies of a float, in memory.
func float(name string, v float64) Mem {
	return repeated32(name, math.Float32bits(float32(v)))
}

// params loads all parameters, which are 8 bytes each.
func params(names ...string) []reg.GPVirtual {
	regs := make([]reg.GPVirtual, len(names))
	for i, name := range names {
		regs[i] = GP64()
		Load(Param(name), regs[i])
	}
	return regs
}

// largest finds max|x|.
func largest() {
	TEXT("largestAsm", NOSPLIT, "func(x *float32, blocks int) uint32")
	Doc("largestAsm returns the bits of max|x| over blocks of 32; a NaN is above all.")
	Pragma("noescape")
	p := params("x", "blocks")
	abs, top, v := YMM(), YMM(), avx2.vecs(4)
	VMOVDQU(magnitude, abs)
	avx2.zero(top)
	loop("block", p[1], func() {
		for i, v := range v { // magnitudes are in the order of their bits
			VPAND(Mem{Base: p[0], Disp: 32 * i}, abs, v)
		}
		VPMAXUD(v[1], v[0], v[0])
		VPMAXUD(v[3], v[2], v[2])
		VPMAXUD(v[2], v[0], v[0])
		VPMAXUD(v[0], top, top)
		ADDQ(U32(128), p[0])
	})
	half := v[0].AsX()
	VEXTRACTI128(Imm(1), top, half)
	VPMAXUD(half, top.AsX(), half)
	for _, shuffle := range []uint64{0b01_00_11_10, 0b10_11_00_01} {
		VPSHUFD(Imm(shuffle), half, top.AsX())
		VPMAXUD(top.AsX(), half, half)
	}
	result := GP32()
	VMOVD(half, result)
	Store(result, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// quantize makes the blocks of an activation row.
func quantize() {
	TEXT("quantizeAsm", NOSPLIT, "func(dst *byte, x *float32, inv float32, blocks int)")
	Doc("quantizeAsm writes blocks of an activation row: x·inv rounded to 16 bits.")
	Pragma("noescape")
	p := params("dst", "x", "blocks")
	dst, x, blocks := p[0], p[1], p[2]
	inv, inv4 := YMM(), XMM()
	Load(Param("inv"), inv4)
	VBROADCASTSS(inv4, inv)
	loop("block", blocks, func() {
		in := avx2.vecs(4)
		for i, v := range in {
			VMULPS(Mem{Base: x, Disp: 32 * i}, inv, v)
			VCVTPS2DQ(v, v)
		}
		first, second := YMM(), YMM()
		VPADDD(in[0], in[1], first)
		VPADDD(in[2], in[3], second)
		const swapMiddle = 0b11_01_10_00
		for _, v := range in {
			VPSHUFD(Imm(swapMiddle), v, v)
		}
		for i := 0; i < 4; i += 2 {
			VPACKSSDW(in[i+1], in[i], in[i])
			VPERMQ(Imm(swapMiddle), in[i], in[i])
			VMOVDQU(in[i], Mem{Base: dst, Disp: 16 * i})
		}
		// The sums of the first and the second half, twice, in lanes 0 to 3.
		VPHADDD(second, first, first)
		VPHADDD(first, first, first)
		sums, total := XMM(), XMM()
		VEXTRACTI128(Imm(1), first, sums)
		VPADDD(first.AsX(), sums, sums)
		// Then those of the block, the first, the second half in lanes 0 to 2.
		VPHADDD(sums, sums, total)
		VPSLLDQ(Imm(4), sums, sums)
		VPBLENDD(Imm(1), total, sums, sums)
		VCVTDQ2PS(sums, total)
		VMOVUPS(total, Mem{Base: dst, Disp: actSum})
		VPSLLD(Imm(7), sums, sums)
		VPXOR(total, total, total)
		VPSUBD(sums, total, sums)
		VMOVDQU(sums, Mem{Base: dst, Disp: actBias})
		ADDQ(U32(actBlock), dst)
		ADDQ(U32(128), x)
	})
	VZEROUPPER()
	RET()
}

func sumSquares() {
	TEXT("sumSquaresAsm", NOSPLIT, "func(lanes *[16]float32, x *float32, vectors int)")
	Doc("sumSquaresAsm adds the squares of vectors of 16 to the lanes.")
	Pragma("noescape")
	p := params("lanes", "x", "vectors")
	a, b := YMM(), YMM()
	VMOVUPS(Mem{Base: p[0]}, a)
	VMOVUPS(Mem{Base: p[0], Disp: 32}, b)
	loop("next", p[2], func() {
		v, w := YMM(), YMM()
		VMOVUPS(Mem{Base: p[1]}, v)
		VMOVUPS(Mem{Base: p[1], Disp: 32}, w)
		VFMADD231PS(v, v, a)
		VFMADD231PS(w, w, b)
		ADDQ(Imm(64), p[1])
	})
	VMOVUPS(a, Mem{Base: p[0]})
	VMOVUPS(b, Mem{Base: p[0], Disp: 32})
	VZEROUPPER()
	RET()
}

func normalize() {
	TEXT("normalizeAsm", NOSPLIT, "func(dst, x, weight *float32, r float32, vectors int)")
	Doc("normalizeAsm computes dst = x·r·weight over vectors of 8.")
	Pragma("noescape")
	p := params("dst", "x", "weight", "vectors")
	r, rx := YMM(), XMM()
	Load(Param("r"), rx)
	VBROADCASTSS(rx, r)
	loop("next", p[3], func() {
		v := YMM()
		VMULPS(Mem{Base: p[1]}, r, v)
		VMULPS(Mem{Base: p[2]}, v, v)
		VMOVUPS(v, Mem{Base: p[0]})
		for _, at := range p[:3] {
			ADDQ(Imm(32), at)
		}
	})
	VZEROUPPER()
	RET()
}

func rope() {
	TEXT("ropeAsm", NOSPLIT, "func(a, b, cos, sin *float32, vectors int)")
	Doc("ropeAsm rotates the pairs (a, b) over vectors of 8.")
	Pragma("noescape")
	p := params("a", "b", "cos", "sin", "vectors")
	loop("next", p[4], func() {
		a, b, cos, sin, t := YMM(), YMM(), YMM(), YMM(), YMM()
		VMOVUPS(Mem{Base: p[0]}, a)
		VMOVUPS(Mem{Base: p[1]}, b)
		VMOVUPS(Mem{Base: p[2]}, cos)
		VMOVUPS(Mem{Base: p[3]}, sin)
		VMULPS(sin, b, t)
		VMULPS(sin, a, sin)
		VFMSUB213PS(t, cos, a)   // a·cos - b·sin
		VFMADD213PS(sin, cos, b) // b·cos + a·sin
		VMOVUPS(a, Mem{Base: p[0]})
		VMOVUPS(b, Mem{Base: p[1]})
		for _, at := range p[:4] {
			ADDQ(Imm(32), at)
		}
	})
	VZEROUPPER()
	RET()
}

// exponential is 2^x to a vector, for exponents that floats have; it overwrites x.
type exponential struct {
	coefficients []Mem // from the highest
	bias         Mem
}

func newExponential() exponential {
	return exponential{
		[]Mem{
			float("exp2c5", 0x1.5bba14p-10), float("exp2c4", 0x1.3cea88p-7), float("exp2c3", 0x1.c6b752p-5),
			float("exp2c2", 0x1.ebf9bcp-3), float("exp2c1", 0x1.62e42ap-1), float("exp2c0", 1),
		},
		repeated32("exponentBias", 127),
	}
}

func (e exponential) power(x reg.VecVirtual) reg.VecVirtual {
	n, p := YMM(), YMM()
	VROUNDPS(Imm(8), x, n) // to nearest even
	VSUBPS(n, x, x)
	VMOVUPS(e.coefficients[0], p)
	for _, c := range e.coefficients[1:] {
		VFMADD213PS(c, x, p)
	}
	VCVTPS2DQ(n, n)
	VPADDD(e.bias, n, n)
	VPSLLD(Imm(23), n, n)
	VMULPS(n, p, p)
	return p
}

func exp(e exponential) {
	TEXT("expAsm", NOSPLIT, "func(x *float32, top float32, vectors int, sums *float32)")
	Doc("expAsm replaces vectors of 8 by e^(x-top), or 0 below 2^-60, and adds them to the sums.")
	Pragma("noescape")
	p := params("x", "vectors", "sums")
	top, topx, least, sum := YMM(), XMM(), YMM(), YMM()
	Load(Param("top"), topx)
	VBROADCASTSS(topx, top)
	VMOVUPS(float("expLeast", -60), least)
	log2E := float("log2E", math.Log2E)
	VMOVUPS(Mem{Base: p[2]}, sum)
	loop("next", p[1], func() {
		x, seen := YMM(), YMM()
		VMOVUPS(Mem{Base: p[0]}, x)
		VSUBPS(top, x, x)
		VMULPS(log2E, x, x)
		VCMPPS(Imm(0x1d), least, x, seen) // ≥, and no NaN is
		y := e.power(x)
		VANDPS(seen, y, y)
		VMOVUPS(y, Mem{Base: p[0]})
		VADDPS(y, sum, sum)
		ADDQ(Imm(32), p[0])
	})
	VMOVUPS(sum, Mem{Base: p[2]})
	VZEROUPPER()
	RET()
}

func swiGLU(e exponential) {
	TEXT("swiGLUAsm", NOSPLIT, "func(dst, gate, up *float32, vectors int)")
	Doc("swiGLUAsm computes dst = gate·sigmoid(gate)·up over vectors of 8.")
	Pragma("noescape")
	p := params("dst", "gate", "up", "vectors")
	minusLog2E := float("minusLog2E", -math.Log2E)
	lowest, highest := float("lowestExponent", -126), float("highestExponent", 126)
	one := YMM()
	VMOVUPS(e.coefficients[5], one)
	loop("next", p[3], func() {
		g, t := YMM(), YMM()
		VMOVUPS(Mem{Base: p[1]}, g)
		VMULPS(minusLog2E, g, t)
		VMAXPS(lowest, t, t)
		VMINPS(highest, t, t)
		power := e.power(t)
		VADDPS(one, power, power)
		VDIVPS(power, g, g)
		VMULPS(Mem{Base: p[2]}, g, g)
		VMOVUPS(g, Mem{Base: p[0]})
		for _, at := range p[:3] {
			ADDQ(Imm(32), at)
		}
	})
	VZEROUPPER()
	RET()
}

func add() {
	TEXT("addAsm", NOSPLIT, "func(dst, x *float32, vectors int)")
	Doc("addAsm computes dst += x over vectors of 8.")
	Pragma("noescape")
	p := params("dst", "x", "vectors")
	loop("next", p[2], func() {
		v := YMM()
		VMOVUPS(Mem{Base: p[0]}, v)
		VADDPS(Mem{Base: p[1]}, v, v)
		VMOVUPS(v, Mem{Base: p[0]})
		ADDQ(Imm(32), p[0])
		ADDQ(Imm(32), p[1])
	})
	VZEROUPPER()
	RET()
}

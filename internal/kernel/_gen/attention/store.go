package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The vectors of Store, Query and Merge are short: AVX2 does for both tiers, and
// names say only that this is assembly, as those on other processors do.
var narrow = tier{"Asm", 8}

// hadamard writes the butterflies of a product with the Hadamard matrix: at
// distances within 16 elements in registers, further ones through memory.
func hadamard() {
	narrow.function("hadamard", "", "func(x *float32, n int)",
		"multiplies x[:n], n a power of two ≥ 16, by the Hadamard matrix.")
	x, n := param("x"), param("n")
	signs := make([]reg.VecVirtual, 3)
	for i := range signs {
		signs[i] = YMM()
		VMOVUPS(constant(fmt.Sprintf("odd %d", 1<<i)), signs[i])
	}
	i, left := copyOf(x), copyOf(n)
	Label("near")
	v := narrow.vecs(2)
	for j, y := range v {
		VMOVUPS(at(i, 32*j), y)
		for d, sign := range signs {
			z := YMM()
			switch d {
			case 0:
				VPERMILPS(Imm(0xb1), y, z)
			case 1:
				VPERMILPS(Imm(0x4e), y, z)
			case 2:
				VPERM2F128(Imm(1), y, y, z)
			}
			// The lower of a pair becomes a + b, the upper a - b.
			VXORPS(sign, y, y)
			VADDPS(z, y, y)
		}
	}
	butterfly(v[0], v[1], at(i, 0), at(i, 32))
	ADDQ(Imm(64), i)
	SUBQ(Imm(16), left)
	JNE(LabelRef("near"))

	// Blocks of 2d elements, d = 16, 32, …; in bytes.
	end, d := GP64(), GP64()
	LEAQ(Mem{Base: x, Index: n, Scale: 4}, end)
	SHLQ(Imm(2), n)
	MOVQ(U32(64), d)
	Label("distance")
	CMPQ(d, n)
	JGE(LabelRef("done"))
	MOVQ(x, i)
	Label("block")
	MOVQ(d, left)
	Label("far")
	a, b := YMM(), YMM()
	upper := Mem{Base: i, Index: d, Scale: 1}
	VMOVUPS(at(i, 0), a)
	VMOVUPS(upper, b)
	butterfly(a, b, at(i, 0), upper)
	ADDQ(Imm(32), i)
	SUBQ(Imm(32), left)
	JNE(LabelRef("far"))
	ADDQ(d, i)
	CMPQ(i, end)
	JLT(LabelRef("block"))
	SHLQ(Imm(1), d)
	JMP(LabelRef("distance"))
	Label("done")
	done()
}

// butterfly stores a + b and a - b.
func butterfly(a, b reg.VecVirtual, lower, upper Mem) {
	x := YMM()
	VADDPS(b, a, x)
	VSUBPS(b, a, a)
	VMOVUPS(x, lower)
	VMOVUPS(a, upper)
}

// head writes the quantization of a vector of a head, or of a query, for which
// sums of pairs count as elements do, and which is summed up.
func head(query bool) {
	if query {
		narrow.function("quantizeQuery", "", "func(dst *byte, x *float32, n int, sums *[8]int32) float32",
			"is quantizeHeadAsm where sums of pairs, too, are at most 127 steps; what it writes adds up to sums.")
	} else {
		narrow.function("quantizeHead", "", "func(dst *byte, x *float32, n int) float32",
			"rounds x[:n], n a multiple of 16, to 127ths of the largest: x ≈ dst·result.")
	}
	dst, x, n := param("dst"), param("x"), param("n")
	largest, abs := YMM(), YMM()
	narrow.zero(largest)
	VBROADCASTSS(constant("abs"), abs)
	i, left := copyOf(x), copyOf(n)
	Label("largest")
	v := narrow.vecs(2)
	for j, y := range v {
		VMOVUPS(at(i, 32*j), y)
	}
	if query {
		v = append(v, YMM())
		VHADDPS(v[1], v[0], v[2])
	}
	for _, y := range v {
		VANDPS(y, abs, y)
		VMAXPS(y, largest, largest)
	}
	ADDQ(Imm(64), i)
	SUBQ(Imm(16), left)
	JNE(LabelRef("largest"))
	narrow.spreadMax(largest)
	scale, ok, part := YMM(), YMM(), XMM()
	VBROADCASTSS(constant("127"), scale)
	VDIVSS(scale.AsX(), largest.AsX(), part)
	result, _ := ReturnIndex(0).Resolve()
	VMOVSS(part, result.Addr)
	VDIVPS(largest, scale, scale)
	VCMPPS(Imm(ge), constant("tiny"), largest, ok)
	VANDPS(ok, scale, scale)
	sum := YMM()
	if query {
		narrow.zero(sum)
	}
	Label("round")
	v = narrow.vecs(2)
	for j, y := range v {
		VMULPS(at(x, j*32), scale, y)
		VCVTPS2DQ(y, y)
		if query {
			VPADDD(y, sum, sum)
		}
	}
	bytes := XMM()
	VPACKSSDW(v[1], v[0], v[0])
	VPERMQ(Imm(0xd8), v[0], v[0])
	VEXTRACTI128(Imm(1), v[0], bytes)
	VPACKSSWB(bytes, v[0].AsX(), bytes)
	VMOVDQU(bytes, at(dst, 0))
	ADDQ(Imm(64), x)
	ADDQ(Imm(16), dst)
	SUBQ(Imm(16), n)
	JNE(LabelRef("round"))
	if query {
		VMOVDQU(sum, at(param("sums"), 0))
	}
	done()
}

// half writes the rounding of a vector to half precision.
func half() {
	narrow.function("half", "", "func(dst *uint16, x *float32, n int)",
		"rounds x[:n], n a multiple of 16, to half precision.")
	dst, x, n := param("dst"), param("x"), param("n")
	Label("step")
	for v := range 2 {
		y := YMM()
		VMOVUPS(at(x, 32*v), y)
		VCVTPS2PH(Imm(0), y, at(dst, 16*v))
	}
	ADDQ(Imm(64), x)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JNE(LabelRef("step"))
	done()
}

// merge writes a step of the merge over one state.
func merge() {
	narrow.function("merge", "", "func(state, o *float32, largest, sum float32, n int)",
		"adds to a state what follows: its output o[:n], n a multiple of 16, its largest score, not -Inf, and its sum.")
	state, o, n := param("state"), param("o"), param("n")
	end := GP64()
	LEAQ(Mem{Base: state, Index: n, Scale: 4}, end)
	before, after, top := YMM(), YMM(), YMM()
	VBROADCASTSS(at(end, 0), before)
	VBROADCASTSS(address("largest").(Mem), after)
	VMAXPS(before, after, top)
	VMOVSS(top.AsX(), at(end, 0))
	// Factors of the state and of what follows, in halves of one vector.
	VBLENDPS(Imm(0xf0), after, before, before)
	VSUBPS(top, before, before)
	factors := narrow.exponential(narrow.vec).power(before).value
	a, b := YMM(), YMM()
	VPERM2F128(Imm(0x00), factors, factors, a)
	VPERM2F128(Imm(0x11), factors, factors, b)
	sum, all := XMM(), XMM()
	VMOVSS(address("sum").(Mem), sum)
	VMULSS(at(end, 4), a.AsX(), all)
	VFMADD231SS(sum, b.AsX(), all)
	VMOVSS(all, at(end, 4))
	Label("step")
	for i := range 2 {
		x := YMM()
		VMULPS(at(state, i*32), a, x)
		VFMADD231PS(at(o, i*32), b, x)
		VMOVUPS(x, at(state, i*32))
	}
	ADDQ(Imm(64), state)
	ADDQ(Imm(64), o)
	SUBQ(Imm(16), n)
	JNE(LabelRef("step"))
	done()
}

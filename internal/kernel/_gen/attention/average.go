package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// average writes the sums over slots that Average takes of q8_0 keys or values.
// A quad is four slots of four elements, 16 bytes: of keys, slot by slot, of
// values, element by element. Quads of the same elements are summed lane by
// lane, and the four lanes of an element last.
func (t tier) average(keys bool) {
	name := "sumValues"
	if keys {
		name = "sumKeys"
	}
	t.function(name, "", "func(sum *float32, x *byte, scale *float32, dim, chunks, quads, stride int)",
		"sums quads from x on, stride bytes apart, of each of so many chunks.")
	sum, x, scale := param("sum"), param("x"), param("scale")
	dim, stride := param("dim"), param("stride")

	parts := 16 / t.lanes // vectors that a quad fills
	spread := t.vecs(parts)
	if keys {
		for i, v := range spread {
			VMOVUPS(constant("slots").Offset(32*i), v)
		}
	}
	bias := t.vec()
	if keys {
		VBROADCASTSS(constant("128"), bias)
	}
	step := 16 // bytes between quads of neighbouring elements
	if keys {
		step = 64
	}
	const unroll = 4 // of them at a time; a head has a multiple of 16 elements
	groups := copyOf(dim)
	Label("elements")
	acc := make([][]reg.VecVirtual, unroll)
	for i := range acc {
		acc[i] = t.vecs(parts)
		t.zero(acc[i]...)
	}
	chunk, scales, chunks := copyOf(x), copyOf(scale), GP64()
	MOVQ(address("chunks"), chunks)
	Label("chunk")
	quad, at4, quads := copyOf(chunk), copyOf(scales), GP64()
	MOVQ(address("quads"), quads)
	Label("quad")
	s := t.vecs(parts)
	if t.wide() {
		VBROADCASTF32X4(at(at4, 0), s[0])
	} else {
		VBROADCASTF128(at(at4, 0), s[0].(reg.Register))
	}
	if keys {
		for i := len(s) - 1; i >= 0; i-- {
			VPERMILPS(spread[i], s[0], s[i])
		}
	}
	for g := range unroll {
		for i := range parts {
			v, src := t.vec(), at(quad, g*step+i*t.lanes)
			if keys {
				VPMOVZXBD(src, v)
				VPSUBD(bias, v, v)
			} else {
				VPMOVSXBD(src, v)
			}
			VCVTDQ2PS(v, v)
			if keys {
				VMULPS(s[i], v, v)
			} else {
				VMULPS(s[0], v, v)
			}
			VADDPS(v, acc[g][i], acc[g][i])
		}
	}
	ADDQ(stride, quad)
	ADDQ(Imm(16), at4)
	DECQ(quads)
	JNE(LabelRef("quad"))
	// A chunk of keys, or of values, takes 16 bytes an element.
	size := copyOf(dim)
	SHLQ(Imm(4), size)
	ADDQ(size, chunk)
	ADDQ(Imm(64), scales)
	DECQ(chunks)
	JNE(LabelRef("chunk"))
	for g := range unroll {
		out := at(sum, 16*g)
		switch {
		case keys:
			t.addSlots(acc[g], out)
		default:
			t.addLanes(acc[g], out)
		}
	}
	ADDQ(Imm(64), sum)
	ADDQ(U32(unroll*step), x)
	SUBQ(Imm(16), groups)
	JNE(LabelRef("elements"))
	done()
}

// addSlots stores the sum of the quarters of a vector, or of two, the first two
// and the last two first.
func (t tier) addSlots(v []reg.VecVirtual, out Mem) {
	x := t.vec()
	if t.wide() {
		VSHUFF32X4(Imm(0xb1), v[0], v[0], x)
		VADDPS(x, v[0], v[0])
		VSHUFF32X4(Imm(0x4e), v[0], v[0], x)
		VADDPS(x, v[0], v[0])
	} else {
		for _, v := range v {
			VPERM2F128(Imm(1), v, v, x)
			VADDPS(x, v, v)
		}
		VADDPS(v[1], v[0], v[0])
	}
	VMOVUPS(v[0].AsX(), out)
}

// addLanes stores the sums within the quarters of a vector, or of two, in the
// same order.
func (t tier) addLanes(v []reg.VecVirtual, out Mem) {
	for _, v := range v {
		x := t.vec()
		VPERMILPS(Imm(0xb1), v, x)
		VADDPS(x, v, v)
		VPERMILPS(Imm(0x4e), v, x)
		VADDPS(x, v, v)
	}
	if t.wide() {
		firsts := t.vec()
		VMOVUPS(constant("firsts"), firsts)
		VPERMPS(v[0], firsts, v[0])
		VMOVUPS(v[0].AsX(), out)
		return
	}
	halves := make([]reg.VecVirtual, 2)
	for i, v := range v {
		halves[i] = XMM()
		VEXTRACTF128(Imm(1), v, halves[i])
		VUNPCKLPS(halves[i], v.AsX(), halves[i])
	}
	VMOVLHPS(halves[1], halves[0], halves[0])
	VMOVUPS(halves[0], out)
}

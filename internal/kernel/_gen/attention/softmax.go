package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rowsOf is the loop over rows of scores, and within it over groups of slots.
type rowsOf struct {
	tier
	i, left reg.GPVirtual
}

func (t tier) rows() rowsOf { return rowsOf{t, GP64(), GP64()} }

// here is the v-th vector of a group.
func (l rowsOf) here(base reg.Register, v int) Mem {
	return Mem{Base: base, Index: l.i, Scale: 1, Disp: v * l.bytes()}
}

func (l rowsOf) groups(label string, body func()) {
	XORQ(l.i, l.i)
	MOVQ(address("groups"), l.left)
	Label(label)
	body()
	ADDQ(I32(4*group), l.i)
	SUBQ(Imm(1), l.left)
	JNE(LabelRef(label))
}

// each runs body for each step of the merge and the scores of the row that it is
// of.
func (l rowsOf) each(label string, body func(s, step reg.GPVirtual)) {
	step, rows := param("step"), param("rows")
	Label(label)
	s := GP64()
	MOVL(at(step, mrgRow), s.As32())
	SHLQ(Imm(10), s)
	ADDQ(address("s"), s)
	body(s, step)
	ADDQ(Imm(mrgBytes), step)
	SUBQ(Imm(1), rows)
	JNE(LabelRef(label))
}

// largest writes the search for the largest scores of consecutive rows, which the
// caller has set to -Inf where a row does not see.
func (t tier) largest() {
	t.function("largest", "", "func(s *float32, step *float32, rows, groups int)",
		"begins the merge with the largest score of each row over groups of 64 slots, or -Inf.")
	l := t.rows()
	s, step, rows := param("s"), param("step"), param("rows")
	Label("row")
	largest := t.vecs(4)
	for _, m := range largest {
		VBROADCASTSS(constant("-Inf"), m)
	}
	l.groups("largest", func() {
		for v := range group / t.lanes {
			m := largest[v%4]
			VMAXPS(l.here(s, v), m, m)
		}
	})
	VMAXPS(largest[1], largest[0], largest[0])
	VMAXPS(largest[3], largest[2], largest[2])
	VMAXPS(largest[2], largest[0], largest[0])
	top := largest[0]
	t.spreadMax(top)
	// Of zeros the positive one.
	zero := XMM()
	VXORPS(zero, zero, zero)
	VADDSS(zero, top.AsX(), top.AsX())
	VMOVSS(top.AsX(), at(step, mrgLargest))
	ADDQ(I32(rowBytes), s)
	ADDQ(Imm(mrgBytes), step)
	SUBQ(Imm(1), rows)
	JNE(LabelRef("row"))
	done()
}

// softmax writes the weights of rows of scores of which the largest are known.
// Of q8_0 they carry the values' scales and are rounded to integers.
//
// It goes over all rows for the powers and their sums, and once more for the
// integers. Each ends, for a row, with a chain of dependent instructions, beside
// which the next row begins.
func (t tier) softmax(ints bool) {
	name := "Floats"
	if ints {
		name = "Ints"
	}
	t.function("softmax", name,
		"func(s *float32, p *byte, scale *float32, state *float32, ld int, step *float32, mass *float32, first, rows, groups int, ahead *byte, pace int)",
		"turns scores of groups of 64 slots into weights, goes on with the merge, and prefetches from ahead.")
	l := t.rows()
	here, perGroup := l.here, group/t.lanes
	e := t.exponential(t.vec)
	e.least = t.vec()
	ld := param("ld")
	SHLQ(Imm(2), ld)
	var scale, p reg.GPVirtual
	if ints {
		scale = param("scale")
	} else {
		p = param("p") // among the scores: rows close up
	}
	ahead := newAhead()
	ahead.pace(1)
	l.each("powersRow", func(s, step reg.GPVirtual) {
		zero, minus := t.vec(), t.vec()
		t.zero(zero)
		VBROADCASTSS(at(step, mrgLargest), minus)
		VSUBPS(minus, zero, minus)
		VBROADCASTSS(at(step, mrgLeast), e.least)
		sums := t.vecs(16 / t.lanes)
		t.zero(sums...)
		heaviest := t.vec()
		t.zero(heaviest)
		mass, at4 := GP64(), param("first") // where the masses of a group go
		SHLQ(Imm(4), at4)
		MOVLQSX(at(step, mrgMass), mass)
		ADDQ(mass, at4)
		ADDQ(address("mass"), at4)
		l.groups("powers", func() {
			ahead.prefetch("powers", 16, 1)
			// The powers of 4 chunks (AVX2: of 2, twice), whose masses reduce together.
			const together = 4
			for v0 := 0; v0 < perGroup; v0 += together {
				powers := make([]reg.VecVirtual, together)
				for j := range powers {
					x := t.vec()
					VADDPS(here(s, v0+j), minus, x)
					w := e.power(x)
					powers[j] = w.value
					sum := sums[j%len(sums)]
					VADDPS(w.value, sum, sum)
					if !ints {
						VMOVUPS(w.value, here(p, v0+j))
						continue
					}
					y := t.vec()
					if t.wide() {
						VMULPS_Z(here(scale, v0+j), w.value, w.mask, y)
					} else {
						VMULPS(here(scale, v0+j), w.value, y)
						VANDPS(w.maskVec, y, y)
					}
					if t.wide() {
						VMAXPS(y, heaviest, heaviest)
					} else {
						VPMAXSD(y, heaviest, heaviest) // of positive ones the same, on more of Zen's pipes
					}
					VMOVUPS(y, here(s, v0+j))
				}
				skip := "noMass" + string(rune('A'+v0))
				TESTQ(mass, mass)
				JLT(LabelRef(skip))
				t.masses(powers, at4, v0/together*8)
				Label(skip)
			}
			ADDQ(Imm(16), at4)
		})

		// The merge's step: what the state so far and what this tile is multiplied by.
		state := GP64()
		MOVL(at(step, mrgRow), state.As32())
		IMULQ(ld, state)
		ADDQ(address("state"), state)
		xe := t.exponential(func() reg.VecVirtual { return XMM() })
		top, seen, m, ab, sum := XMM(), XMM(), XMM(), XMM(), t.sum(sums)
		VMOVSS(at(step, mrgLargest), top)
		VMOVSS(at(state, 0), seen)
		VMAXSS(seen, top, m)
		VMOVSS(m, at(state, 0))
		VBROADCASTSS(m, m)
		VUNPCKLPS(top, seen, ab)
		VSUBPS(m, ab, ab)
		factors := xe.power(ab).value
		VMOVLPS(factors, at(step, mrgFactors))
		l := XMM()
		VMULSS(at(state, 4), factors, l)
		VMOVSHDUP(factors, factors)
		VFMADD231SS(sum, factors, l)
		VMOVSS(l, at(state, 4))

		if ints {
			t.spreadMax(heaviest)
			h, inv, part := heaviest.AsX(), XMM(), XMM()
			VBROADCASTSS(at(step, mrgScale), part)
			VDIVPS(h, part, inv)
			VDIVPS(part, h, part)
			VMOVSS(part, at(step, mrgScale))
			ok := XMM()
			VBROADCASTSS(constant("tiny"), ok)
			if t.wide() {
				k := K()
				VCMPPS(Imm(ge), ok, h, k)
				VMOVAPS_Z(inv, k, inv)
			} else {
				VCMPPS(Imm(ge), ok, h, ok)
				VANDPS(ok, inv, inv)
			}
			VMOVSS(inv, at(step, mrgInverse))
		} else {
			ADDQ(I32(rowBytes), p)
		}
	})
	if !ints {
		done()
		return
	}

	p = param("p")
	l.each("roundRow", func(s, step reg.GPVirtual) {
		scaled, to := t.vec(), copyOf(p)
		VBROADCASTSS(at(step, mrgInverse), scaled)
		if t.wide() {
			l.groups("round", func() { t.round(func(v int) Mem { return here(s, v) }, scaled, to) })
		} else {
			bytes, before := copyOf(p), param("first")
			SHLQ(Imm(6), before)
			SUBQ(before, bytes)
			live, heavy := GP32(), GP32()
			XORL(live, live)
			XORL(heavy, heavy)
			l.groups("round", func() {
				t.small(t.round(func(v int) Mem { return here(s, v) }, scaled, to), bytes, live, heavy)
			})
			// The groups' bits are the upper ones so far.
			above := reg.RCX
			MOVQ(U32(4), above)
			SUBQ(address("first"), above)
			SUBQ(address("groups"), above)
			SHLQ(Imm(3), above)
			SHRL(reg.CL, live)
			SHRL(reg.CL, heavy)
			MOVL(live, at(step, mrgLive))
			MOVL(heavy, at(step, mrgHeavy))
		}
		ADDQ(I32(intBytes), p)
	})
	done()
}

const (
	ge      = 0x1d // a comparison that no NaN passes
	nearest = 8    // round to nearest even, quietly
)

// exponential is 2^x for x ≤ 0, with its constants in registers where there
// are enough.
type exponential struct {
	t     tier
	vec   func() reg.VecVirtual
	coef  []Op // from the highest
	least Op
	round Op
}

type power struct {
	value   reg.VecVirtual
	mask    reg.OpmaskVirtual // of the lanes that did not underflow
	maskVec reg.VecVirtual
}

func (t tier) exponential(vec func() reg.VecVirtual) exponential {
	e := exponential{t: t, vec: vec}
	load := func(name string, inRegister bool) Op {
		if !inRegister {
			return constant(name)
		}
		v := vec()
		VBROADCASTSS(constant(name), v)
		return v
	}
	for i := '5'; i >= '0'; i-- {
		e.coef = append(e.coef, load("c"+string(i), t.wide() || i == '5'))
	}
	e.least = constant("least")
	if !t.wide() {
		e.round = load("round", false)
	}
	return e
}

func (e exponential) power(x reg.VecVirtual) power {
	f, p := e.vec(), e.vec()
	n := e.vec()
	polynomial := func() {
		VSUBPS(n, x, f)
		VMOVAPS(e.coef[0], p)
		for _, c := range e.coef[1:] {
			VFMADD213PS(c, f, p)
		}
	}
	if e.t.wide() {
		k := K()
		VCMPPS(Imm(ge), e.least, x, k)
		VRNDSCALEPS(Imm(nearest), x, n)
		polynomial()
		VSCALEFPS_Z(n, p, k, p)
		return power{value: p, mask: k}
	}
	bits, ok := e.vec(), e.vec()
	VCMPPS(Imm(ge), e.least, x, ok)
	VADDPS(e.round, x, bits)
	VSUBPS(e.round, bits, n)
	polynomial()
	VPSLLD(Imm(23), bits, bits)
	VPADDD(bits, p, p) // to the exponent
	VANDPS(ok, p, p)
	return power{value: p, maskVec: ok}
}

// spreadMax puts the largest lane of v in all lanes.
func (t tier) spreadMax(v reg.VecVirtual) {
	x := t.vec()
	if t.wide() {
		VSHUFF32X4(Imm(0x4e), v, v, x)
		VMAXPS(x, v, v)
		VSHUFF32X4(Imm(0xb1), v, v, x)
	} else {
		VPERM2F128(Imm(0x01), v, v, x)
	}
	VMAXPS(x, v, v)
	VPERMILPS(Imm(0x4e), v, x)
	VMAXPS(x, v, v)
	VPERMILPS(Imm(0xb1), v, x)
	VMAXPS(x, v, v)
}

// sum adds 16 lanes as a tree, and returns the sum in the first lane.
func (t tier) sum(v []reg.VecVirtual) reg.VecVirtual {
	y := YMM()
	if t.wide() {
		VEXTRACTF64X4(Imm(1), v[0], y)
		VADDPS(y, v[0].AsY(), y)
	} else {
		VADDPS(v[1], v[0], y)
	}
	x, z := XMM(), XMM()
	if t.wide() {
		VEXTRACTF32X4(Imm(1), y, x)
	} else {
		VEXTRACTF128(Imm(1), y, x)
	}
	VADDPS(y.AsX(), x, x)
	VPERMILPS(Imm(0x4e), x, z)
	VADDPS(z, x, x)
	VPERMILPS(Imm(0xb1), x, z)
	VADDPS(z, x, x)
	return x
}

// masses stores the sums of whole chunks, which are v (AVX2: pairs of v), each
// by the tree of sum.
func (t tier) masses(v []reg.VecVirtual, to reg.Register, disp int) {
	halve := func(x reg.VecVirtual) {
		y := t.vec()
		VPERMILPS(Imm(0x4e), x, y)
		VADDPS(y, x, x)
		VPERMILPS(Imm(0xb1), x, y)
		VADDPS(y, x, x)
	}
	if !t.wide() {
		a, b, x := YMM(), YMM(), YMM()
		VADDPS(v[1], v[0], a)
		VADDPS(v[3], v[2], b)
		VPERM2F128(Imm(0x20), b, a, x)
		VPERM2F128(Imm(0x31), b, a, a)
		VADDPS(a, x, x)
		halve(x)
		VMOVSS(x.AsX(), at(to, disp))
		VEXTRACTF128(Imm(1), x, a.AsX())
		VMOVSS(a.AsX(), at(to, disp+4))
		return
	}
	fold := func(a, b reg.VecVirtual, lower, upper uint64) reg.VecVirtual {
		x, y := ZMM(), ZMM()
		VSHUFF32X4(Imm(lower), b, a, x)
		VSHUFF32X4(Imm(upper), b, a, y)
		VADDPS(y, x, x)
		return x
	}
	x := fold(fold(v[0], v[1], 0x44, 0xee), fold(v[2], v[3], 0x44, 0xee), 0x88, 0xdd)
	halve(x)
	firsts := ZMM()
	VMOVUPS(constant("firsts"), firsts)
	VPERMPS(x, firsts, x)
	VMOVUPS(x.AsX(), at(to, disp))
}

// round makes the integers of a group of weights and advances to. On AVX2 it
// returns them: words of 16 slots to a vector.
func (t tier) round(weights func(v int) Mem, scale reg.VecVirtual, to reg.GPVirtual) []reg.VecVirtual {
	ints := func(v int) reg.VecVirtual {
		x := t.vec()
		VMULPS(weights(v), scale, x)
		VCVTPS2DQ(x, x)
		return x
	}
	if !t.wide() {
		pairs := YMM()
		VMOVDQU(constant("pairs"), pairs)
		words := make([]reg.VecVirtual, group/16)
		for v := range words {
			a, b := ints(2*v), ints(2*v+1)
			VPACKSSDW(b, a, a)
			VPSHUFB(pairs, a, a)
			VPERMQ(Imm(0xd8), a, a)
			VMOVDQU(a, at(to, 32*v))
			words[v] = a
		}
		ADDQ(I32(2*group), to)
		return words
	}
	a, c := ints(0), ints(2)
	VPACKUSDW(ints(1), a, a)
	VPACKUSDW(ints(3), c, c)
	high, low, words, transpose := ZMM(), ZMM(), ZMM(), ZMM()
	x := ZMM()
	VPSRLW(Imm(8), a, high)
	VPSRLW(Imm(8), c, x)
	VPACKUSWB(x, high, high)
	VPBROADCASTD(constant("words"), words)
	VPANDD(words, a, a)
	VPANDD(words, c, c)
	VPACKUSWB(c, a, low)
	VMOVDQU32(constant("transpose"), transpose)
	VPERMD(high, transpose, high)
	VPERMD(low, transpose, low)
	VMOVDQU32(high, at(to, 0))
	VMOVDQU32(low, at(to, 256))
	ADDQ(I32(group), to)
	return nil
}

// small makes bytes of a group's words and advances to. It moves live and heavy
// down by a byte, and makes the uppermost one say of every eight slots whether there
// is a word that is not zero, and one that is not small.
func (t tier) small(words []reg.VecVirtual, to, live, heavy reg.GPVirtual) {
	zero, order, limit := YMM(), YMM(), YMM()
	t.zero(zero)
	VMOVDQU(constant("bytes"), order)
	VPBROADCASTD(constant("small"), limit)
	dead, fit := t.vecs(2), t.vecs(2)
	for i := range 2 {
		x := words[2*i]
		VPACKSSWB(words[2*i+1], x, x)
		VPSHUFB(order, x, x)
		VPERMQ(Imm(0xd8), x, x)
		VMOVDQU(x, at(to, wordBytes+32*i))
		// Of eight slots a qword.
		VPCMPEQQ(zero, x, dead[i])
		VPCMPGTB(limit, x, fit[i])
		VPCMPEQQ(zero, fit[i], fit[i])
	}
	for _, m := range []struct {
		v    []reg.VecVirtual
		bits reg.GPVirtual
	}{{dead, live}, {fit, heavy}} {
		VPACKSSDW(m.v[1], m.v[0], m.v[0])
		VPERMQ(Imm(0xd8), m.v[0], m.v[0])
		top := GP32()
		VMOVMSKPS(m.v[0], top)
		XORL(U32(0xff), top)
		SHLL(Imm(24), top)
		SHRL(Imm(8), m.bits)
		ORL(top, m.bits)
	}
	ADDQ(Imm(group), to)
}

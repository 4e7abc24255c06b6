package main

import (
	"fmt"

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

// chunks runs body for the chunks of a row that have scores which are not too low.
func (l rowsOf) chunks(label string, step reg.GPVirtual, body func(c reg.GPVirtual)) {
	left := GP64()
	MOVQ(at(step, mrgChunks), left)
	eachBit(label, left, func(c reg.GPVirtual) {
		MOVQ(c, l.i)
		SHLQ(Imm(6), l.i)
		body(c)
	})
}

// largest writes the search for the largest scores of consecutive rows, which the
// caller has set to -Inf where a row does not see. If it is sparse, it also finds the
// chunks of which the largest is as high as a row's step says.
func (t tier) largest(sparse bool) {
	name := "largest"
	if sparse {
		name = "sparseLargest"
	}
	t.function(name, "", "func(s *float32, step *float32, rows, groups int)",
		"begins the merge with the largest score of each row over groups of 64 slots, or -Inf.")
	l := t.rows()
	s, step, rows := param("s"), param("step"), param("rows")
	Label("row")
	largest := t.vecs(4)
	for _, m := range largest {
		VBROADCASTSS(constant("-Inf"), m)
	}
	low, chunks := t.vec(), GP64()
	if sparse {
		VBROADCASTSS(at(step, mrgLeast), low)
		XORQ(chunks, chunks)
	}
	l.groups("largest", func() {
		if !sparse {
			for v := range group / t.lanes {
				m := largest[v%4]
				VMAXPS(l.here(s, v), m, m)
			}
			return
		}
		var high [group / chunk]reg.VecVirtual
		for c := range high {
			h := t.vec()
			if VMOVUPS(l.here(s, c*chunk/t.lanes), h); !t.wide() {
				VMAXPS(l.here(s, 2*c+1), h, h)
			}
			VMAXPS(h, largest[c], largest[c])
			high[c] = h
		}
		addBits(t.reach(low, high), l.i, 6, chunks)
	})
	if sparse {
		MOVQ(chunks, at(step, mrgChunks))
	}
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

// reach returns four bits that say which vectors, which it overwrites, have an element
// that is at least low.
func (t tier) reach(low reg.VecVirtual, v [4]reg.VecVirtual) reg.GPVirtual {
	if t.wide() {
		bits := GP32()
		XORL(bits, bits)
		for c := 3; c >= 0; c-- {
			k, elements := K(), GP32()
			VCMPPS(Imm(ge), low, v[c], k)
			KMOVW(k, elements)
			NEGL(elements) // carries if there are any
			ADCL(bits, bits)
		}
		return bits
	}
	for _, v := range v {
		VCMPPS(Imm(ge), low, v, v)
	}
	// A dword of bytes for half of each vector, then for all of it.
	VPACKSSDW(v[1], v[0], v[0])
	VPACKSSDW(v[3], v[2], v[2])
	VPACKSSWB(v[2], v[0], v[0])
	half := XMM()
	VEXTRACTI128(Imm(1), v[0], half)
	VPOR(half, v[0].AsX(), half)
	return dwords(half)
}

// dwords returns four bits that say which dwords of v are not zero.
func dwords(v reg.VecVirtual) reg.GPVirtual {
	bits, zero := GP32(), XMM()
	VPXOR(zero, zero, zero)
	VPCMPEQD(zero, v, zero)
	VMOVMSKPS(zero, bits)
	XORL(Imm(0xf), bits)
	return bits
}

// addBits adds bits to x from place>>shift on.
func addBits(bits, place reg.GPVirtual, shift uint64, x reg.GPVirtual) {
	MOVQ(place, reg.RCX)
	SHRQ(Imm(shift), reg.RCX)
	SHLQ(reg.CL, bits.As64())
	ORQ(bits.As64(), x)
}

// softmax writes the weights of rows of scores of which the largest are known.
// Of q8_0 they carry the values' scales and are rounded to integers. If it is sparse,
// chunks without a score that is high enough are passed over.
//
// It goes over all rows for the powers and their sums, and once more for the
// integers. Each ends, for a row, with a chain of dependent instructions, beside
// which the next row begins.
func (t tier) softmax(ints, sparse bool) {
	name := "softmaxFloats"
	switch {
	case sparse:
		name = "sparseSoftmax"
	case ints:
		name = "softmaxInts"
	}
	t.function(name, "",
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
	var ahead ahead
	asks := t.wide() || !sparse
	if asks {
		ahead = newAhead()
		ahead.pace(1)
	}
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
		mass := GP64()
		MOVLQSX(at(step, mrgMass), mass)
		// power goes over n vectors from one on and returns their powers.
		power := func(from, n int) []reg.VecVirtual {
			powers := make([]reg.VecVirtual, n)
			for j := range powers {
				v, x := from+j, t.vec()
				VADDPS(here(s, v), minus, x)
				w := e.power(x)
				powers[j] = w.value
				sum := sums[j%len(sums)]
				VADDPS(w.value, sum, sum)
				if !ints {
					VMOVUPS(w.value, here(p, v))
					continue
				}
				y := t.vec()
				if t.wide() {
					VMULPS_Z(here(scale, v), w.value, w.mask, y)
					VMAXPS(y, heaviest, heaviest)
				} else {
					VMULPS(here(scale, v), w.value, y)
					VANDPS(w.maskVec, y, y)
					VPMAXSD(y, heaviest, heaviest) // of positive ones the same, on more of Zen's pipes
				}
				VMOVUPS(y, here(s, v))
			}
			return powers
		}
		if sparse {
			if asks {
				ahead.prefetch("powersRow", 16, 1)
			}
			l.chunks("powers", step, func(c reg.GPVirtual) {
				powers := power(0, chunk/t.lanes)
				TESTQ(mass, mass)
				JLT(LabelRef("noMass"))
				to := GP64()
				MOVQ(mass, to)
				ADDQ(address("mass"), to)
				t.masses(powers, Mem{Base: to, Index: c, Scale: 4})
				Label("noMass")
			})
		} else {
			to := param("first") // where the masses of a group go
			SHLQ(Imm(4), to)
			ADDQ(mass, to)
			ADDQ(address("mass"), to)
			l.groups("powers", func() {
				ahead.prefetch("powers", 16, 1)
				// The masses of 4 chunks reduce together (AVX2: of one).
				together := chunk / t.lanes
				if t.wide() {
					together = 4
				}
				for v := 0; v < perGroup; v += together {
					powers := power(v, together)
					skip := fmt.Sprintf("noMass%d", v)
					TESTQ(mass, mass)
					JLT(LabelRef(skip))
					t.masses(powers, at(to, v*t.lanes/chunk*4))
					Label(skip)
				}
				ADDQ(Imm(16), to)
			})
		}

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
		scaled := t.vec()
		VBROADCASTSS(at(step, mrgInverse), scaled)
		if sparse {
			if asks {
				ahead.prefetch("roundRow", 16, 1)
			}
			t.roundChunks(l, s, step, p, scaled)
		} else {
			to := copyOf(p)
			l.groups("round", func() { t.round(func(v int) Mem { return here(s, v) }, scaled, to) })
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

// masses stores the sums of whole chunks, of v or (on AVX-512) of four, each by the tree
// of sum.
func (t tier) masses(v []reg.VecVirtual, to Mem) {
	halve := func(x reg.VecVirtual) {
		y := t.vec()
		VPERMILPS(Imm(0x4e), x, y)
		VADDPS(y, x, x)
		VPERMILPS(Imm(0xb1), x, y)
		VADDPS(y, x, x)
	}
	if len(v)*t.lanes == chunk {
		VMOVSS(t.sum(v), to)
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
	VMOVUPS(x.AsX(), to)
}

// round makes the integers of a group of weights and advances to.
func (t tier) round(weights func(v int) Mem, scale reg.VecVirtual, to reg.GPVirtual) {
	if !t.wide() {
		pairs := YMM()
		VMOVDQU(constant("pairs"), pairs)
		for v := 0; v < group/8; v += 2 {
			a := integers(t, weights(v), scale)
			VPACKSSDW(integers(t, weights(v+1), scale), a, a)
			inQuads(a, pairs)
			VMOVDQU(a, at(to, 16*v))
		}
		ADDQ(I32(2*group), to)
		return
	}
	a, c := integers(t, weights(0), scale), integers(t, weights(2), scale)
	VPACKUSDW(integers(t, weights(1), scale), a, a)
	VPACKUSDW(integers(t, weights(3), scale), c, c)
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
}

// roundChunks makes the integers of a row's chunks, and bits that say of which quads
// of slots there are some above zero, and which of them are small.
func (t tier) roundChunks(l rowsOf, s, step, p reg.GPVirtual, scale reg.VecVirtual) {
	light, heavy := GP64(), GP64()
	if t.wide() {
		t.roundBytes(l, s, step, p, scale, light, heavy)
	} else {
		t.roundWords(l, s, step, p, scale, light, heavy)
	}
	MOVQ(heavy, at(step, mrgHeavy))
	NOTQ(heavy)
	ANDQ(heavy, light)
	MOVQ(light, at(step, mrgLight))
}

// roundWords is roundChunks on AVX2, where small integers are bytes beside the words.
func (t tier) roundWords(l rowsOf, s, step, p reg.GPVirtual, scale reg.VecVirtual, light, heavy reg.GPVirtual) {
	pairs, limit := YMM(), XMM()
	VMOVDQU(constant("pairs"), pairs)
	VPBROADCASTD(constant("small"), limit)
	XORQ(light, light)
	XORQ(heavy, heavy)
	l.chunks("round", step, func(c reg.GPVirtual) {
		low, high, bytes := XMM(), XMM(), YMM()
		x := integers(t, l.here(s, 0), scale)
		SHLQ(Imm(4), c)
		VPACKSSDW(integers(t, l.here(s, 1), scale), x, x)
		VPACKSSWB(x, x, bytes)
		VEXTRACTI128(Imm(1), bytes, low)
		VPUNPCKLDQ(low, bytes.AsX(), low)
		inQuads(x, pairs)
		VMOVDQU(low, Mem{Base: p, Index: c, Scale: 1, Disp: wordBytes})
		VMOVDQU(x, Mem{Base: p, Index: c, Scale: 2})
		VPCMPGTB(limit, low, high)
		addBits(dwords(low), c, 2, light)
		addBits(dwords(high), c, 2, heavy)
	})
}

// roundBytes is roundChunks on AVX-512, where upper bytes of small integers are zero.
func (t tier) roundBytes(l rowsOf, s, step, p reg.GPVirtual, scale reg.VecVirtual, light, heavy reg.GPVirtual) {
	l.chunks("round", step, func(c reg.GPVirtual) {
		x := integers(t, l.here(s, 0), scale)
		SHLQ(Imm(4), c)
		VPMOVDB(x, Mem{Base: p, Index: c, Scale: 1, Disp: 256})
		VPSRLD(Imm(8), x, x)
		VPMOVDB(x, Mem{Base: p, Index: c, Scale: 1})
	})
	// Other chunks have bytes of earlier tiles: four bits for each of those here.
	first, here := GP64(), GP64()
	MOVQ(U64(0x1111111111111111), first)
	MOVQ(at(step, mrgChunks), here)
	PDEPQ(first, here, first)
	MOVQ(first, here)
	SHLQ(Imm(4), here)
	SUBQ(first, here)
	allDwords(at(p, 256), light)
	allDwords(at(p, 0), heavy)
	ANDQ(here, light)
	ANDQ(here, heavy)
}

// allDwords makes 64 bits that say which dwords at m are not zero.
func allDwords(m Mem, bits reg.GPVirtual) {
	var k [4]reg.OpmaskVirtual
	for i := range k {
		v := ZMM()
		k[i] = K()
		VMOVDQU32(m.Offset(64*i), v)
		VPTESTMD(v, v, k[i])
	}
	KUNPCKWD(k[0], k[1], k[0])
	KUNPCKWD(k[2], k[3], k[2])
	KUNPCKDQ(k[0], k[2], k[0])
	KMOVQ(k[0], bits)
}

// inQuads puts the words of a chunk, packed, into the order in which AVX2 multiplies
// by them: quad after quad, in each pairs of slots two apart.
func inQuads(words, pairs reg.VecVirtual) {
	VPSHUFB(pairs, words, words)
	VPERMQ(Imm(0xd8), words, words)
}

// integers rounds weights.
func integers(t tier, weights Mem, scale reg.VecVirtual) reg.VecVirtual {
	x := t.vec()
	VMULPS(weights, scale, x)
	VCVTPS2DQ(x, x)
	return x
}

package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const valuesSignature = "func(state *float32, ld int, step *float32, p *byte, v *byte, dim, rows, n int, ahead *byte, pace int)"

// values writes the sums of values by weights and their merge into the states. A step
// takes one slot, or of q8_0 a quad of slots.
//
// Exact integers on AVX-512: weights are 15 bits, so their bytes are two unsigned
// operands whose sums meet in the end. On AVX2 they are words (addQuad).
func (t tier) values(f form) {
	what := "n slots"
	if f.ints {
		what = "n quads of slots"
	}
	t.function("values", f.name, valuesSignature,
		"merges the values of "+what+", weighted by p, into the states of rows, and prefetches from ahead.")
	ahead := newAhead()
	state, ld, step, p, v := param("state"), param("ld"), param("step"), param("p"), param("v")
	SHLQ(Imm(2), ld)
	stride := param("dim")
	size, prow := f.size, rowBytes
	if f.ints {
		size, prow = 4, intBytes
	}
	SHLQ(Imm(uint64(size/2)), stride)

	largest, quadBytes := 6, 4 // rows of a block, bytes of a quad's weights, or of a slot's
	switch {
	case f.ints && t.wide():
		largest = 3
	case f.ints:
		largest, quadBytes = 4, 8
	}
	blocks(largest, address("rows"), "rows", func(n int) {
		var widths []int // vectors of the dimension that are summed at a time
		switch {
		case t.wide():
			widths = []int{4, 2, 1}
		case n > 2 || f.ints && n > 1:
			widths = []int{2}
		default:
			widths = []int{8 / n, 2}
		}
		st, vb, dim := copyOf(state), copyOf(v), GP64()
		MOVQ(address("dim"), dim)
		for _, width := range widths {
			name := func(s string) string { return fmt.Sprintf("%s%dx%d", s, n, width) }
			Label(name("dims"))
			CMPQ(dim, Imm(uint64(width*t.lanes)))
			JLT(LabelRef(name("dimsAfter")))
			acc := t.vecs(n * width)
			low := []reg.VecVirtual(nil)
			if f.ints && t.wide() {
				low = t.vecs(n * width)
			}
			t.zero(append(acc, low...)...)
			ahead.pace(width * t.lanes / 16)
			vp, pp, left := copyOf(vb), copyOf(p), GP64()
			weight := func(r, disp int) reg.VecVirtual {
				x := t.vec()
				if f.ints {
					VPBROADCASTD(at(pp, r*prow+disp), x)
				} else {
					VBROADCASTSS(at(pp, r*prow+disp), x)
				}
				return x
			}
			MOVQ(address("n"), left)
			Label(name("step"))
			ahead.prefetch(name("step"), width*t.lanes/16+1, width*t.lanes/16)
			switch {
			case f.ints && !t.wide():
				t.addQuad(acc, n, vp, weight)
			case f.ints:
				hi, lo := make([]reg.VecVirtual, n), make([]reg.VecVirtual, n)
				for r := range n {
					hi[r], lo[r] = weight(r, 0), weight(r, 256)
				}
				for i := range width {
					x := t.vec()
					VMOVDQU64(at(vp, i*64), x)
					for r := range n {
						VPDPBUSD(x, hi[r], acc[r*width+i])
						VPDPBUSD(x, lo[r], low[r*width+i])
					}
				}
			default:
				value := func(i int) reg.VecVirtual {
					m, x := at(vp, i*t.lanes*f.size), t.vec()
					if f == f16 {
						VCVTPH2PS(m, x)
					} else {
						VMOVUPS(m, x)
					}
					return x
				}
				// Whichever is fewer, weights or values, stay in registers.
				if n <= width {
					w := make([]reg.VecVirtual, n)
					for r := range w {
						w[r] = weight(r, 0)
					}
					for i := range width {
						x := value(i)
						for r := range n {
							VFMADD231PS(x, w[r], acc[r*width+i])
						}
					}
				} else {
					x := make([]reg.VecVirtual, width)
					for i := range x {
						x[i] = value(i)
					}
					for r := range n {
						w := weight(r, 0)
						for i := range width {
							VFMADD231PS(x[i], w, acc[r*width+i])
						}
					}
				}
			}
			ADDQ(Imm(uint64(quadBytes)), pp)
			ADDQ(stride, vp)
			SUBQ(Imm(1), left)
			JNE(LabelRef(name("step")))

			for i, low := range low {
				VPSLLD(Imm(8), acc[i], acc[i])
				VPADDD(low, acc[i], acc[i])
			}
			for r := range n {
				t.mergeSums(f.ints, acc[r*width:(r+1)*width], step, r*mrgBytes, st, ld)
			}
			ADDQ(I32(int32(width*t.lanes*size)), vb)
			ADDQ(I32(int32(width*t.bytes())), st)
			SUBQ(Imm(uint64(width*t.lanes)), dim)
			JMP(LabelRef(name("dims")))
			Label(name("dimsAfter"))
		}
		ADDQ(I32(int32(n*prow)), p)
		ADDQ(I32(int32(n*mrgBytes)), step)
	})
	done()
}

// addQuad adds, for n rows, the products of a quad's values at v and its weights on
// AVX2: words, of slots two apart, as values sign-extend by shifts. weight broadcasts
// those of a row from so many bytes on.
func (t tier) addQuad(acc []reg.VecVirtual, n int, v reg.GPVirtual, weight func(row, disp int) reg.VecVirtual) {
	width := len(acc) / n
	widen := func(i int) (even, odd reg.VecVirtual) {
		even, odd = t.vec(), t.vec()
		VMOVDQU(at(v, i*32), even)
		VPSRAW(Imm(8), even, odd)
		VPSLLW(Imm(8), even, even)
		VPSRAW(Imm(8), even, even)
		return even, odd
	}
	if n == 1 {
		w := [2]reg.VecVirtual{weight(0, 0), weight(0, 4)}
		for i := range width {
			even, odd := widen(i)
			addProducts(w[0], []reg.VecVirtual{even}, acc[i:])
			addProducts(w[1], []reg.VecVirtual{odd}, acc[i:])
		}
		return
	}
	even, odd := make([]reg.VecVirtual, width), make([]reg.VecVirtual, width)
	for i := range width {
		even[i], odd[i] = widen(i)
	}
	for r := range n {
		for half, values := range [][]reg.VecVirtual{even, odd} {
			addProducts(weight(r, 4*half), values, acc[r*width:(r+1)*width])
		}
	}
}

// mergeSums ends the merge of some vectors of the row whose step is at step + disp:
// state = sums·b + state·a.
func (t tier) mergeSums(ints bool, sums []reg.VecVirtual, step reg.GPVirtual, disp int, states, ld reg.GPVirtual) {
	state := GP64()
	MOVL(at(step, disp+mrgRow), state.As32())
	IMULQ(ld, state)
	ADDQ(states, state)
	scale, a, b := t.vec(), t.vec(), t.vec()
	if ints {
		VBROADCASTSS(at(step, disp+mrgScale), scale)
	}
	VBROADCASTSS(at(step, disp+mrgFactors), a)
	VBROADCASTSS(at(step, disp+mrgFactors+4), b)
	for i, o := range sums {
		if ints {
			VCVTDQ2PS(o, o)
			VMULPS(scale, o, o)
		}
		m, x := at(state, i*t.bytes()), t.vec()
		VMULPS(m, a, x)
		VFMADD231PS(o, b, x)
		VMOVUPS(x, m)
	}
}

// sparseValues writes values of q8_0 for rows that leave slots out: row by row, since
// each needs others, and of a row only the quads that weigh anything.
func (t tier) sparseValues() {
	t.function("sparseValues", "", valuesSignature,
		"merges the values of the tile's quads of slots, weighted by p, into the states of rows, and prefetches from ahead.")
	q := sparseQuads{tier: t, ahead: newAhead()}
	ld, step, v := param("ld"), param("step"), param("v")
	q.step, q.p = step, param("p")
	SHLQ(Imm(2), ld)
	q.stride = param("dim")
	SHLQ(Imm(2), q.stride)
	widths := []int{8, 2} // vectors of the dimension that are summed at a time
	if t.wide() {
		widths = []int{4, 2, 1}
	}
	Label("row")
	st, dim := param("state"), GP64()
	q.values = copyOf(v)
	MOVQ(address("dim"), dim)
	for _, width := range widths {
		name := func(s string) string { return fmt.Sprintf("%s%d", s, width) }
		Label(name("dims"))
		CMPQ(dim, Imm(uint64(width*t.lanes)))
		JLT(LabelRef(name("dimsAfter")))
		q.name, q.width = name, width
		q.ahead.pace(q.units())
		var sums []reg.VecVirtual
		if t.wide() {
			sums = q.bytes()
		} else {
			sums = q.words()
		}
		t.mergeSums(true, sums, step, 0, st, ld)
		ADDQ(I32(int32(width*t.lanes*4)), q.values)
		ADDQ(I32(int32(width*t.bytes())), st)
		SUBQ(Imm(uint64(width*t.lanes)), dim)
		JMP(LabelRef(name("dims")))
		Label(name("dimsAfter"))
	}
	ADDQ(I32(intBytes), q.p)
	ADDQ(Imm(mrgBytes), step)
	SUBQ(Imm(1), address("rows"))
	JNE(LabelRef("row"))
	done()
}

// sparseQuads sums some vectors of the values of a row's quads of slots.
type sparseQuads struct {
	tier
	ahead          ahead
	step, p        reg.GPVirtual // the row's, and its weights
	values, stride reg.GPVirtual // vectors of the first quad, and how far it is to the next
	width          int
	name           func(string) string
}

// units is how many times 16 elements are summed at a time: what a step moves on by.
func (q *sparseQuads) units() int { return q.width * q.lanes / 16 }

// each runs body for the quads of a mask, of which left are still to come.
func (q *sparseQuads) each(which string, left reg.GPVirtual, body func(quad, left reg.GPVirtual)) {
	eachBit(q.name(which), left, func(quad reg.GPVirtual) {
		q.ahead.prefetch(q.name(which), q.units()+1, q.units())
		body(quad, left)
	})
}

func (q *sparseQuads) weight(m Mem) reg.VecVirtual {
	w := q.vec()
	VPBROADCASTD(m, w)
	return w
}

// at turns a quad into where its values are.
func (q *sparseQuads) at(quad reg.GPVirtual) reg.GPVirtual {
	IMULQ(q.stride, quad)
	ADDQ(q.values, quad)
	return quad
}

func (q *sparseQuads) load(mask int) reg.GPVirtual {
	left := GP64()
	MOVQ(at(q.step, mask), left)
	return left
}

// bytes multiplies by the lower bytes of all weights and then by the upper ones of the
// larger. Sums of every other quad are apart: one waits for the one before.
func (q *sparseQuads) bytes() []reg.VecVirtual {
	add := func(which string, left reg.GPVirtual, disp int) []reg.VecVirtual {
		sums := q.vecs(2 * q.width)
		q.zero(sums...)
		quad := func(i reg.GPVirtual, sums []reg.VecVirtual) {
			w := q.weight(Mem{Base: q.p, Index: i, Scale: 4, Disp: disp})
			x := q.at(i)
			for i, s := range sums {
				VPDPBUSD(at(x, i*64), w, s)
			}
		}
		q.each(which, left, func(i, left reg.GPVirtual) {
			quad(i, sums[:q.width])
			TESTQ(left, left)
			JEQ(LabelRef(q.name(which) + "After"))
			quad(takeLowest(left), sums[q.width:])
		})
		for i, s := range sums[:q.width] {
			VPADDD(sums[q.width+i], s, s)
		}
		return sums[:q.width]
	}
	all := q.load(mrgLight)
	ORQ(at(q.step, mrgHeavy), all)
	low, high := add("all", all, 256), add("heavy", q.load(mrgHeavy), 0)
	for i, s := range high {
		VPSLLD(Imm(8), s, s)
		VPADDD(low[i], s, s)
	}
	return high
}

// words multiplies by words, or, by those that are small, by bytes, two quads at a time.
func (q *sparseQuads) words() []reg.VecVirtual {
	acc := q.vecs(q.width)
	q.zero(acc...)
	q.each("heavy", q.load(mrgHeavy), func(quad, _ reg.GPVirtual) {
		pp := GP64()
		LEAQ(Mem{Base: q.p, Index: quad, Scale: 8}, pp)
		q.addQuad(acc, 1, q.at(quad), func(_, disp int) reg.VecVirtual { return q.weight(at(pp, disp)) })
	})
	// The last quad of an odd number comes beside itself, by zeros.
	q.each("light", q.load(mrgLight), func(quad, left reg.GPVirtual) {
		other, next, of, zero := copyOf(quad), GP64(), GP64(), GP64()
		w := []reg.VecVirtual{q.weight(Mem{Base: q.p, Index: quad, Scale: 4, Disp: wordBytes}), nil}
		TZCNTQ(left, next)
		LEAQ(Mem{Base: q.p, Index: next, Scale: 4, Disp: wordBytes}, of)
		LEAQ(constant("zero"), zero)
		TESTQ(left, left)
		CMOVQNE(next, other)
		CMOVQEQ(zero, of)
		w[1] = q.weight(at(of, 0))
		clearLowest(left)
		x := []reg.GPVirtual{q.at(quad), q.at(other)}
		// Of at most 63: 16 bits hold the sum of four products with values from -128
		// to 127.
		ones := YMM()
		VMOVDQU(constant("ones"), ones)
		for i := range q.width {
			y := q.vecs(2)
			for j, w := range w {
				VPMADDUBSW(at(x[j], i*32), w, y[j])
			}
			VPADDW(y[1], y[0], y[0])
			addProducts(ones, y[:1], acc[i:])
		}
	})
	return acc
}

// fetch writes the prefetching of those quads of slots that sparseValues takes.
func fetch() {
	narrow.function("fetch", "", "func(v *byte, quads uint64, size int)",
		"prefetches the values of such quads, of size bytes each.")
	v, size, left := param("v"), param("size"), param("quads")
	eachBit("quad", left, func(line reg.GPVirtual) {
		end := GP64()
		IMULQ(size, line)
		ADDQ(v, line)
		LEAQ(Mem{Base: line, Index: size, Scale: 1}, end)
		Label("line")
		PREFETCHT0(at(line, 0))
		ADDQ(Imm(64), line)
		CMPQ(line, end)
		JLT(LabelRef("line"))
	})
	RET()
}

// eachBit runs body for the bits of left, if any, from the lowest on. It clears a bit
// before that, and body may clear more.
func eachBit(label string, left reg.GPVirtual, body func(i reg.GPVirtual)) {
	TESTQ(left, left)
	JEQ(LabelRef(label + "After"))
	Label(label)
	body(takeLowest(left))
	TESTQ(left, left)
	JNE(LabelRef(label))
	Label(label + "After")
}

// takeLowest returns the lowest bit of left that is set, and clears it.
func takeLowest(left reg.GPVirtual) reg.GPVirtual {
	i := GP64()
	TZCNTQ(left, i)
	clearLowest(left)
	return i
}

// clearLowest clears the lowest bit of x that is set.
func clearLowest(x reg.GPVirtual) {
	rest := GP64()
	LEAQ(at(x, -1), rest)
	ANDQ(rest, x)
}

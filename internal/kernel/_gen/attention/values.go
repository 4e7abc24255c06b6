package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// values writes the sums of values by weights and their merge into the states.
// A step takes one slot, or of q8_0 a quad of slots (AVX2: two quads, which share
// what a step costs besides).
//
// Exact integers on AVX-512: weights are 15 bits, so their bytes are two
// unsigned operands whose sums meet in the end. On AVX2 they are words, in
// pairs of slots two apart, as values sign-extend by shifts; or bytes, in the
// eights of slots in which those of all rows of a block are small. Eights in which
// all are zero are left out.
func (t tier) values(f form) {
	what, quads := "n slots", 1
	switch {
	case f.ints && t.wide():
		what = "n quads of slots"
	case f.ints:
		what, quads = "the tile's eights of slots", 2
	}
	t.function("values", f.name,
		"func(state *float32, ld int, step *float32, p *byte, v *byte, dim, rows, n int, ahead *byte, pace int)",
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

	largest := 6
	switch {
	case f.ints && t.wide():
		largest = 3
	case f.ints:
		largest = 4
	}
	few := f.ints && !t.wide() // takes only eights in which a row weighs something
	var heavy, light Mem       // which, of a block of rows
	if few {
		heavy, light = AllocLocal(8), AllocLocal(8)
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
		if few {
			words, bytes := GP32(), GP32()
			MOVL(at(step, mrgHeavy), words)
			MOVL(at(step, mrgLive), bytes)
			for r := 1; r < n; r++ {
				ORL(at(step, r*mrgBytes+mrgHeavy), words)
				ORL(at(step, r*mrgBytes+mrgLive), bytes)
			}
			MOVL(words, heavy)
			NOTL(words)
			ANDL(words, bytes)
			MOVL(bytes, light)
		}
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
			var vp, pp reg.GPVirtual
			prefetch := func(label string) {
				ahead.prefetch(label, quads*width*t.lanes/16+1, width*t.lanes/16)
			}
			weight := func(r, disp int) reg.VecVirtual {
				x := t.vec()
				if f.ints {
					VPBROADCASTD(at(pp, r*prow+disp), x)
				} else {
					VBROADCASTSS(at(pp, r*prow+disp), x)
				}
				return x
			}
			if few {
				eights := func(which string, mask Mem, size int, body func()) {
					left := GP32()
					MOVL(mask, left)
					TESTL(left, left)
					JEQ(LabelRef(name(which + "After")))
					Label(name(which))
					vp, pp = GP64(), GP64()
					TZCNTL(left, vp.As32())
					LEAQ(Mem{Base: p, Index: vp, Scale: 8}, pp)
					if size == 16 {
						LEAQ(Mem{Base: pp, Index: vp, Scale: 8}, pp)
					}
					IMULQ(stride, vp)
					LEAQ(Mem{Base: vb, Index: vp, Scale: uint8(quads)}, vp)
					prefetch(name(which))
					body()
					clearLowest(left)
					JNE(LabelRef(name(which)))
					Label(name(which + "After"))
				}
				eights("words", heavy, 16, func() {
					for q := range quads {
						if q > 0 {
							ADDQ(stride, vp)
						}
						t.addQuad(acc, n, vp, weight, 8*q)
					}
				})
				eights("bytes", light, 8, func() { t.addSmall(acc, n, vp, stride, weight) })
			}
			left := reg.GPVirtual(nil)
			if !few {
				vp, pp, left = copyOf(vb), copyOf(p), GP64()
				MOVQ(address("n"), left)
				Label(name("step"))
				prefetch(name("step"))
			}
			switch {
			case few:
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
				ADDQ(Imm(4), pp)
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
				ADDQ(Imm(4), pp)
			}
			if !few {
				ADDQ(stride, vp)
				SUBQ(Imm(1), left)
				JNE(LabelRef(name("step")))
			}

			// state = o·b + state·a
			for r := range n {
				sr := GP64()
				MOVL(at(step, r*mrgBytes+mrgRow), sr.As32())
				IMULQ(ld, sr)
				ADDQ(st, sr)
				scale, a, b := t.vec(), t.vec(), t.vec()
				if f.ints {
					VBROADCASTSS(at(step, r*mrgBytes+mrgScale), scale)
				}
				VBROADCASTSS(at(step, r*mrgBytes+mrgFactors), a)
				VBROADCASTSS(at(step, r*mrgBytes+mrgFactors+4), b)
				for i := range width {
					o := acc[r*width+i]
					if f.ints {
						if t.wide() {
							VPSLLD(Imm(8), o, o)
							VPADDD(low[r*width+i], o, o)
						}
						VCVTDQ2PS(o, o)
						VMULPS(scale, o, o)
					}
					m, x := at(sr, i*t.bytes()), t.vec()
					VMULPS(m, a, x)
					VFMADD231PS(o, b, x)
					VMOVUPS(x, m)
				}
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

// addQuad adds, for n rows, the products of a quad's values at v and its weights:
// words, of slots two apart. weight broadcasts those of a row from so many bytes on.
func (t tier) addQuad(acc []reg.VecVirtual, n int, v reg.GPVirtual, weight func(row, disp int) reg.VecVirtual, disp int) {
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
		w := [2]reg.VecVirtual{weight(0, disp), weight(0, disp+4)}
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
			addProducts(weight(r, disp+4*half), values, acc[r*width:(r+1)*width])
		}
	}
}

// addSmall adds, for n rows, the products of two quads' values at v, stride apart,
// and their weights: bytes of at most 63, so that 16 bits hold the sum of four
// products with values from -128 to 127.
func (t tier) addSmall(acc []reg.VecVirtual, n int, v, stride reg.GPVirtual, weight func(row, disp int) reg.VecVirtual) {
	width := len(acc) / n
	ones := constant("ones")
	quad := func(q, i int) Mem {
		if q == 0 {
			return at(v, i*32)
		}
		return Mem{Base: v, Index: stride, Scale: 1, Disp: i * 32}
	}
	weights := func(r int) []reg.VecVirtual {
		return []reg.VecVirtual{weight(r, wordBytes), weight(r, wordBytes+4)}
	}
	add := func(x, w []reg.VecVirtual, to reg.VecVirtual) {
		y := t.vecs(2)
		for q := range y {
			VPMADDUBSW(x[q], w[q], y[q])
		}
		VPADDW(y[1], y[0], y[0])
		VPMADDWD(ones, y[0], y[0])
		VPADDD(y[0], to, to)
	}
	load := func(i int) []reg.VecVirtual {
		x := t.vecs(2)
		for q := range x {
			VMOVDQU(quad(q, i), x[q])
		}
		return x
	}
	if n <= 2 { // weights stay in registers
		w := make([][]reg.VecVirtual, n)
		for r := range w {
			w[r] = weights(r)
		}
		for i := range width {
			x := load(i)
			for r := range n {
				add(x, w[r], acc[r*width+i])
			}
		}
		return
	}
	x := make([][]reg.VecVirtual, width)
	for i := range x {
		x[i] = load(i)
	}
	for r := range n {
		w := weights(r)
		for i := range x {
			add(x[i], w, acc[r*width+i])
		}
	}
}

// fetch writes the prefetching of those eights of slots that values takes.
func (t tier) fetch() {
	t.function("fetch", "", "func(v *byte, steps uint32, size int)",
		"prefetches the values of such steps, of size bytes each.")
	v, size := param("v"), param("size")
	left := Load(Param("steps"), GP32()).(reg.GPVirtual)
	TESTL(left, left)
	JEQ(LabelRef("done"))
	Label("eight")
	line, end := GP64(), GP64()
	TZCNTL(left, line.As32())
	IMULQ(size, line)
	ADDQ(v, line)
	LEAQ(Mem{Base: line, Index: size, Scale: 1}, end)
	Label("line")
	PREFETCHT0(at(line, 0))
	ADDQ(Imm(64), line)
	CMPQ(line, end)
	JLT(LabelRef("line"))
	clearLowest(left)
	JNE(LabelRef("eight"))
	Label("done")
	RET()
}

// clearLowest clears the lowest bit of x that is set.
func clearLowest(x reg.GPVirtual) {
	rest := GP32()
	LEAL(at(x, -1), rest)
	ANDL(rest, x)
}

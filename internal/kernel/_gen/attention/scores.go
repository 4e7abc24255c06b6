package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// scores writes the products of query rows with keys, in groups of 64 slots. A
// step takes one dword of each query row, that is four elements of q8_0 or one
// float, and the keys of a block of chunks.
//
// Exact integers on AVX2: pairs of elements two apart, which zero-extend to
// words by a mask and by a shift; the query row holds them in that order.
func (t tier) scores(f form) {
	t.function("scores", f.name,
		"func(s *float32, q *byte, ldq int, k *byte, scale *float32, dim, rows, groups int, ahead *byte, pace int)",
		"writes the scores of rows of q over groups of 64 slots, and prefetches from ahead.")
	ldq, k := param("ldq"), param("k")
	scale := reg.GPVirtual(nil)
	if f.ints {
		scale = param("scale")
	}

	// Query rows are at q + r·ldq.
	ldq3, ldq5 := GP64(), GP64()
	LEAQ(Mem{Base: ldq, Index: ldq, Scale: 2}, ldq3)
	LEAQ(Mem{Base: ldq, Index: ldq, Scale: 4}, ldq5)
	row := func(base reg.Register, r, disp int) Mem {
		switch r {
		case 0:
			return at(base, disp)
		case 3:
			return Mem{Base: base, Index: ldq3, Scale: 1, Disp: disp}
		case 5:
			return Mem{Base: base, Index: ldq5, Scale: 1, Disp: disp}
		}
		return Mem{Base: base, Index: ldq, Scale: uint8(r), Disp: disp}
	}
	// Chunks are at k + c·stride.
	stride := param("dim")
	SHLQ(Imm(uint64(4+f.size/2)), stride)
	stride3 := GP64()
	if t.wide() {
		LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	}

	const unroll = 2
	largest, qStep, kStep := 6, 4, 64 // rows of a block, bytes of a step
	if f.ints && !t.wide() {
		largest, qStep = 4, 8
	}
	if f == f16 {
		kStep = 32
	}
	words := reg.VecVirtual(nil)
	if f.ints && !t.wide() {
		words = YMM()
		VPBROADCASTD(constant("words"), words)
	}
	ahead := newAhead()
	left, subs := AllocLocal(8), AllocLocal(8)
	Label("group")
	rows := GP64()
	MOVQ(address("rows"), rows)
	MOVQ(rows, left)
	sr, qr := param("s"), param("q")
	blocks(largest, left, "rows", func(n int) {
		// Sums that are in flight at a time: enough to hide latency.
		chunks := 4
		if !t.wide() {
			chunks = 1
			if !f.ints && n <= 2 {
				chunks = 4 / n
			}
		}
		name := func(s string) string { return fmt.Sprintf("%s%d", s, n) }
		per := chunk / t.lanes // vectors of a chunk
		width := chunks * per

		if chunks < 4 {
			MOVQ(U32(4/chunks), subs)
			Label(name("chunks"))
		}
		kp, qp, steps := copyOf(k), copyOf(qr), GP64()
		MOVQ(address("dim"), steps)
		if f.ints {
			SHRQ(Imm(2), steps)
		}
		acc := make([][]reg.VecVirtual, n)
		var all []reg.VecVirtual
		for r := range acc {
			acc[r] = t.vecs(width)
			all = append(all, acc[r]...)
		}
		if f.ints {
			// Sums begin with what the tail of a query row has.
			tail := GP64()
			LEAQ(Mem{Base: qp, Index: steps, Scale: uint8(qStep)}, tail)
			for r := range acc {
				VPBROADCASTD(row(tail, r, 4), acc[r][0])
				for _, v := range acc[r][1:] {
					if t.wide() {
						VMOVDQA64(acc[r][0], v)
					} else {
						VMOVDQA(acc[r][0], v)
					}
				}
			}
		} else {
			t.zero(all...)
		}
		chunkAt := func(c, disp int) Mem {
			switch c {
			case 0:
				return at(kp, disp)
			case 3:
				return Mem{Base: kp, Index: stride3, Scale: 1, Disp: disp}
			}
			return Mem{Base: kp, Index: stride, Scale: uint8(c), Disp: disp}
		}
		if chunks == 4 && !t.wide() {
			LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
		}
		ahead.pace(chunks)
		Label(name("step"))
		ahead.prefetch(name("step"), 2*chunks, chunks)
		for u := range unroll {
			key := func(i int) reg.VecVirtual {
				m, v := chunkAt(i/per, u*kStep+i%per*kStep/per), t.vec()
				switch {
				case f == f16:
					VCVTPH2PS(m, v)
				case f == f32:
					VMOVUPS(m, v)
				case t.wide():
					VMOVDQU64(m, v)
				default:
					VMOVDQU(m, v)
				}
				return v
			}
			query := func(r int) reg.VecVirtual {
				x := t.vec()
				if f.ints {
					VPBROADCASTD(row(qp, r, u*qStep), x)
				} else {
					VBROADCASTSS(row(qp, r, u*qStep), x)
				}
				return x
			}
			multiply := func(x, v, acc reg.VecVirtual) {
				if f.ints {
					VPDPBUSD(x, v, acc)
				} else {
					VFMADD231PS(x, v, acc)
				}
			}
			if n == 1 && (t.wide() || !f.ints) {
				x := query(0)
				for i := range width {
					multiply(x, key(i), acc[0][i])
				}
				continue
			}
			keys := make([]reg.VecVirtual, width)
			for i := range keys {
				keys[i] = key(i)
			}
			if f.ints && !t.wide() {
				t.stepWords(acc, keys, words, func(r, disp int) Mem { return row(qp, r, u*qStep+disp) })
				continue
			}
			for r := range n {
				x := query(r)
				for i, v := range keys {
					multiply(x, v, acc[r][i])
				}
			}
		}
		ADDQ(Imm(uint64(unroll*qStep)), qp)
		ADDQ(I32(unroll*kStep), kp)
		SUBQ(Imm(unroll), steps)
		JNE(LabelRef(name("step")))

		for r := range n {
			x := t.vec()
			if f.ints {
				VBROADCASTSS(row(qp, r, 0), x)
			}
			for i, v := range acc[r] {
				if f.ints {
					VCVTDQ2PS(v, v)
					VMULPS(at(scale, i*t.bytes()), v, v)
					VMULPS(x, v, v)
				}
				VMOVUPS(v, at(sr, r*rowBytes+i*t.bytes()))
			}
		}
		// On to the next chunks, and back for the next rows.
		if chunks < 4 {
			ADDQ(I32(chunks*64), sr)
			if f.ints {
				ADDQ(I32(chunks*64), scale)
			}
			for range chunks {
				ADDQ(stride, k)
			}
			SUBQ(Imm(1), subs)
			JNE(LabelRef(name("chunks")))
			back := GP64()
			MOVQ(stride, back)
			SHLQ(Imm(2), back)
			SUBQ(back, k)
			SUBQ(I32(4*64), sr)
			if f.ints {
				SUBQ(I32(4*64), scale)
			}
		}
		ADDQ(I32(int32(n*rowBytes)), sr)
		for _, r := range []int{4, 2, 1} {
			if n&r != 0 {
				LEAQ(row(qr, r, 0), qr)
			}
		}
	})
	ADDQ(I32(4*group), address("s"))
	if f.ints {
		ADDQ(I32(4*group), scale)
	}
	LEAQ(Mem{Base: k, Index: stride, Scale: 4}, k)
	SUBQ(Imm(1), address("groups"))
	JNE(LabelRef("group"))
	done()
}

// stepWords is a step of AVX2 over keys as zero-extended words.
func (t tier) stepWords(acc [][]reg.VecVirtual, keys []reg.VecVirtual, words reg.VecVirtual, q func(r, disp int) Mem) {
	odd := t.vecs(len(keys))
	for i, v := range keys {
		VPSRLW(Imm(8), v, odd[i])
		VPAND(words, v, v)
	}
	for r := range acc {
		for half, k := range [][]reg.VecVirtual{keys, odd} {
			x := t.vec()
			VPBROADCASTD(q(r, 4*half), x)
			addProducts(x, k, acc[r])
		}
	}
}

// addProducts adds products of pairs of words. Zen 3 starts multiplications and
// additions in twos faster than in turn.
func addProducts(x reg.VecVirtual, y, acc []reg.VecVirtual) {
	products := make([]reg.VecVirtual, len(y))
	for i := range y {
		products[i] = YMM()
		VPMADDWD(x, y[i], products[i])
	}
	for i, p := range products {
		VPADDD(p, acc[i], acc[i])
	}
}

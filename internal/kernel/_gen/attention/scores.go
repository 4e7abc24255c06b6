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
// Exact integers on AVX2: 16 bits hold what a pair of bytes yields, since a query
// is rounded so (ref.Q8Query).
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
	const qStep = 4
	largest, kStep := 6, 64 // rows of a block, bytes of a step
	if f.ints && !t.wide() {
		largest = 4
	}
	if f == f16 {
		kStep = 32
	}
	ones := reg.VecVirtual(nil)
	if f.ints && !t.wide() {
		ones = YMM()
		VPBROADCASTD(constant("ones"), ones)
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
			if n <= 2 {
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
			multiply := func(x reg.VecVirtual, v, acc []reg.VecVirtual) {
				for i := range v {
					switch {
					case !f.ints:
						VFMADD231PS(x, v[i], acc[i])
					case t.wide():
						VPDPBUSD(x, v[i], acc[i])
					case i%2 == 0:
						addPairs(x, ones, v[i:i+2], acc[i:])
					}
				}
			}
			if n == 1 {
				x := query(0)
				for i := 0; i < width; i += 2 {
					multiply(x, []reg.VecVirtual{key(i), key(i + 1)}, acc[0][i:i+2])
				}
				continue
			}
			keys := make([]reg.VecVirtual, width)
			for i := range keys {
				keys[i] = key(i)
			}
			for r := range n {
				multiply(query(r), keys, acc[r])
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

// addPairs adds products of unsigned bytes of y by signed ones of x, two pairs to
// a sum.
func addPairs(x, ones reg.VecVirtual, y, acc []reg.VecVirtual) {
	pairs := make([]reg.VecVirtual, len(y))
	for i := range y {
		pairs[i] = YMM()
		VPMADDUBSW(x, y[i], pairs[i])
	}
	addProducts(ones, pairs, acc)
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

package main

import (
	"triforce/internal/kernel/_gen/tiles"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// Scores and values of q8_0 for many rows on AMX, whose tiles multiply 16 rows
// by 16 columns of 64 bytes in one instruction. Chunks of keys and quads of
// values lie in memory just as it wants its second operand, queries and the
// bytes of weights as it wants the first. Sums are integers, so they have the
// bits of the other tiers in any order.
//
// With so many products in an instruction, what remains is to turn sums into
// floats, a vector of 16 at a time, and softmax, which is that of AVX-512.
//
// Rows are taken in blocks of 16. While the tiles of a block multiply, vectors
// turn the sums before into floats.
const block = tiles.Rows

// rowBlocks writes body for blocks of rows, with the tiles configured for them.
// It is given where the number of rows is; pointers in parameters it moves on.
func rowBlocks(shapes Mem, body func(n Mem)) {
	n, shape := AllocLocal(8), AllocLocal(8)
	MOVQ(U32(0), shape)
	Label("block")
	rows, most := param("rows"), GP64()
	MOVQ(U32(block), most)
	CMPQ(rows, most)
	CMOVQGT(most, rows)
	MOVQ(rows, n)
	CMPQ(rows, shape)
	JEQ(LabelRef("shaped"))
	MOVQ(rows, shape)
	MOVQ(rows, tiles.At)
	tiles.Configure(shapes)
	Label("shaped")
	body(n)
	SUBQ(Imm(block), address("rows"))
	JG(LabelRef("block"))
	tiles.Release()
}

func tileScores(shapes Mem) {
	TEXT("scoresQ8AMX", NOSPLIT,
		"func(s *float32, q *byte, ldq int, k *byte, scale *float32, dim, rows, groups int, ahead *byte, pace int)")
	Doc("scoresQ8AMX writes the scores of rows of q over groups of 64 slots, and prefetches from ahead.")
	Pragma("noescape")
	ldq, stride := param("ldq"), param("dim")
	SHLQ(Imm(4), stride) // from chunk to chunk
	ahead := newAhead()
	ahead.pace(1)
	left := AllocLocal(8)
	rowBlocks(shapes, func(n Mem) {
		k, scale, s := param("k"), param("scale"), param("s")
		groups := param("groups")
		MOVQ(groups, left)
		Label("group")
		for c := range 4 {
			tiles.Zero(tiles.Sum + c)
		}
		qr, end := param("q"), GP64()
		LEAQ(Mem{Base: k, Index: stride, Scale: 1}, end)
		Label("dims")
		MOVQ(qr, tiles.At)
		MOVQ(ldq, tiles.Stride)
		tiles.Read(tiles.Row, 0)
		MOVQ(k, tiles.At)
		MOVQ(U32(64), tiles.Stride)
		for c := range 4 {
			tiles.Read(tiles.Column+c%2, 0)
			tiles.Signed(tiles.Sum+c, tiles.Row, tiles.Column+c%2)
			if c < 3 {
				ADDQ(stride, tiles.At)
			}
		}
		ADDQ(Imm(64), qr)
		ADDQ(U32(1024), k)
		CMPQ(k, end)
		JLT(LabelRef("dims"))
		MOVQ(s, tiles.At)
		MOVQ(U32(rowBytes), tiles.Stride)
		for c := range 4 {
			tiles.Write(tiles.Sum+c, 64*c)
		}

		tail, sr, rows := param("q"), copyOf(s), GP64()
		ADDQ(address("dim"), tail)
		MOVQ(n, rows)
		Label("row")
		ahead.prefetch("row", 16, 1)
		x, bias := ZMM(), ZMM()
		VBROADCASTSS(at(tail, 0), x)
		VPBROADCASTD(at(tail, 4), bias)
		for i := range 4 {
			v := ZMM()
			VPADDD(at(sr, 64*i), bias, v)
			VCVTDQ2PS(v, v)
			VMULPS(at(scale, 64*i), v, v)
			VMULPS(x, v, v)
			VMOVUPS(v, at(sr, 64*i))
		}
		ADDQ(ldq, tail)
		ADDQ(U32(rowBytes), sr)
		SUBQ(Imm(1), rows)
		JNE(LabelRef("row"))

		ADDQ(U32(4*group), s)
		ADDQ(U32(4*group), scale)
		LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, tiles.At)
		ADDQ(tiles.At, k)
		SUBQ(Imm(1), left)
		JNE(LabelRef("group"))
		ADDQ(U32(block*rowBytes), address("s"))
		MOVQ(ldq, tiles.At)
		SHLQ(Imm(4), tiles.At)
		ADDQ(tiles.At, address("q"))
	})
	done()
}

func tileValues(shapes Mem) {
	TEXT("valuesQ8AMX", NOSPLIT,
		"func(state *float32, ld int, step *float32, p *byte, v *byte, dim, rows, n int, ahead *byte, pace int)")
	Doc("valuesQ8AMX merges the values of n groups of 64 slots, weighted by p, into the states of rows, and prefetches from ahead.",
		"It keeps sums where the rows' scores were, in front of step.")
	Pragma("noescape")
	ld, dim := param("ld"), param("dim")
	SHLQ(Imm(2), ld)
	rows, first, sums := param("rows"), param("step"), AllocLocal(8)
	SHLQ(Imm(10), rows)
	SUBQ(rows, first)
	MOVQ(first, sums)
	ahead := newAhead()
	ahead.pace(1)
	rowBlocks(shapes, func(n Mem) {
		v, st, dims, from := param("v"), param("state"), copyOf(dim), GP64()
		MOVQ(sums, from)
		Label("dims")
		for i := range 4 {
			tiles.Zero(tiles.Sum + i)
		}
		vg, pg, left := copyOf(v), param("p"), param("n")
		Label("group")
		MOVQ(pg, tiles.At)
		MOVQ(U32(intBytes), tiles.Stride)
		tiles.Read(tiles.Row, 0)
		tiles.Read(tiles.Row+1, 256)
		MOVQ(vg, tiles.At)
		MOVQ(dim, tiles.Stride)
		SHLQ(Imm(2), tiles.Stride)
		for i := range 2 {
			tiles.Read(tiles.Column+i, 64*i)
			for half := range 2 {
				tiles.Unsigned(tiles.Sum+2*i+half, tiles.Row+half, tiles.Column+i)
			}
		}
		ADDQ(Imm(group), pg)
		SHLQ(Imm(4), tiles.Stride)
		ADDQ(tiles.Stride, vg)
		SUBQ(Imm(1), left)
		JNE(LabelRef("group"))
		MOVQ(from, tiles.At)
		MOVQ(U32(rowBytes), tiles.Stride)
		for i := range 4 {
			tiles.Write(tiles.Sum+i, 64*i)
		}

		sr, steps, rows := copyOf(from), param("step"), GP64()
		MOVQ(n, rows)
		Label("row")
		ahead.prefetch("row", 16, 1)
		to := GP64()
		MOVL(at(steps, mrgRow), to.As32())
		IMULQ(ld, to)
		ADDQ(st, to)
		scale, a, b := ZMM(), ZMM(), ZMM()
		VBROADCASTSS(at(steps, mrgScale), scale)
		VBROADCASTSS(at(steps, mrgFactors), a)
		VBROADCASTSS(at(steps, mrgFactors+4), b)
		for i := range 2 {
			o, x := ZMM(), ZMM()
			VPSLLD(Imm(8), at(sr, 128*i), o)
			VPADDD(at(sr, 128*i+64), o, o)
			VCVTDQ2PS(o, o)
			VMULPS(scale, o, o)
			VMULPS(at(to, 64*i), a, x)
			VFMADD231PS(o, b, x)
			VMOVUPS(x, at(to, 64*i))
		}
		ADDQ(U32(rowBytes), sr)
		ADDQ(Imm(mrgBytes), steps)
		SUBQ(Imm(1), rows)
		JNE(LabelRef("row"))

		ADDQ(U32(256), from)
		ADDQ(U32(128), st)
		ADDQ(U32(128), v)
		SUBQ(Imm(32), dims)
		JNE(LabelRef("dims"))

		ADDQ(U32(block*rowBytes), sums)
		ADDQ(U32(block*intBytes), address("p"))
		ADDQ(U32(block*mrgBytes), address("step"))
	})
	done()
}

package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
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
const (
	block = 16

	// Tiles: sums, then rows of queries or weights, then keys or values.
	sumTile, rowTile, tileTile = 0, 4, 6
)

// at8 and stride9 are what tiles are read from and written to: as neither avo
// nor the assembler knows these instructions, their registers are fixed.
var at8, stride9 = reg.R8, reg.R9

// Prefixes of the instructions' opcodes.
const (
	plain = iota // no prefix
	p66
	pF3
	pF2
)

// tileOp writes an instruction with a VEX prefix of three bytes, from map 0F38.
func tileOp(in []Op, prefix, second int, bytes ...byte) {
	code := append([]byte{0xc4, 0xe2, byte(^second&15<<3 | prefix)}, bytes...)
	if in != nil { // at8 and stride9 take the high bits of base and index
		code[1] = 0x82
	}
	for _, b := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{Imm(uint64(b))}, Inputs: in, ISA: []string{"AMX-INT8"}})
	}
}

func memory(tile, disp int) []byte {
	const sib = 0b00_001_000 // stride9·1 + at8
	return []byte{byte(0b10_000_100 | tile<<3), sib, byte(disp), byte(disp >> 8), byte(disp >> 16), byte(disp >> 24)}
}

func operands() []Op { return []Op{at8, stride9} }

func tileLoad(tile, disp int) {
	tileOp(operands(), pF2, 0, append([]byte{0x4b}, memory(tile, disp)...)...)
}
func tileStore(tile, disp int) {
	tileOp(operands(), pF3, 0, append([]byte{0x4b}, memory(tile, disp)...)...)
}
func tileZero(tile int) { tileOp(nil, pF2, 0, 0x49, byte(0xc0|tile<<3)) }
func tileRelease()      { tileOp(nil, plain, 0, 0x49, 0xc0) }

// tileConfigure sets the shapes of tiles for up to block rows; at8 has their
// number, and is changed.
func tileConfigure() {
	LEAQ(shapes, stride9)
	SHLQ(Imm(6), at8)
	ADDQ(stride9, at8)
	XORQ(stride9, stride9)
	tileOp(operands(), plain, 0, append([]byte{0x49}, memory(0, 0)...)...)
}

// tileProducts adds the products of signed rows with unsigned columns
// (signedRows), or of unsigned rows with signed columns.
func tileProducts(signedRows bool, sum, row, column int) {
	prefix := p66
	if signedRows {
		prefix = pF3
	}
	tileOp(nil, prefix, column, 0x5e, byte(0xc0|sum<<3|row))
}

// shapes are the configurations for 0 to 16 rows.
var shapes Mem

func tileShapes() {
	shapes = GLOBL("tileShapes", RODATA|NOPTR)
	for rows := range block + 1 {
		DATA(64*rows, U8(1)) // the palette
		for tile := range 8 {
			DATA(64*rows+16+2*tile, U16(64)) // bytes of a row
		}
		for tile := range 8 {
			n := rows
			if tile >= tileTile {
				n = 16
			}
			DATA(64*rows+48+tile, U8(n))
		}
		DATA(64*rows+56, U64(0))
	}
}

// rowBlocks writes body for blocks of rows, with the tiles configured for them.
// It is given where the number of rows is; pointers in parameters it moves on.
func rowBlocks(body func(n Mem)) {
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
	MOVQ(rows, at8)
	tileConfigure()
	Label("shaped")
	body(n)
	SUBQ(Imm(block), address("rows"))
	JG(LabelRef("block"))
	tileRelease()
}

func tileScores() {
	TEXT("scoresQ8AMX", NOSPLIT,
		"func(s *float32, q *byte, ldq int, k *byte, scale *float32, dim, rows, groups int, ahead *byte, pace int)")
	Doc("scoresQ8AMX writes the scores of rows of q over groups of 64 slots, and prefetches from ahead.")
	Pragma("noescape")
	ldq, stride := param("ldq"), param("dim")
	SHLQ(Imm(4), stride) // from chunk to chunk
	ahead := newAhead()
	ahead.pace(1)
	left := AllocLocal(8)
	rowBlocks(func(n Mem) {
		k, scale, s := param("k"), param("scale"), param("s")
		groups := param("groups")
		MOVQ(groups, left)
		Label("group")
		for c := range 4 {
			tileZero(sumTile + c)
		}
		qr, end := param("q"), GP64()
		LEAQ(Mem{Base: k, Index: stride, Scale: 1}, end)
		Label("dims")
		MOVQ(qr, at8)
		MOVQ(ldq, stride9)
		tileLoad(rowTile, 0)
		MOVQ(k, at8)
		MOVQ(U32(64), stride9)
		for c := range 4 {
			tileLoad(tileTile+c%2, 0)
			tileProducts(true, sumTile+c, rowTile, tileTile+c%2)
			if c < 3 {
				ADDQ(stride, at8)
			}
		}
		ADDQ(Imm(64), qr)
		ADDQ(U32(1024), k)
		CMPQ(k, end)
		JLT(LabelRef("dims"))
		MOVQ(s, at8)
		MOVQ(U32(rowBytes), stride9)
		for c := range 4 {
			tileStore(sumTile+c, 64*c)
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
		LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, at8)
		ADDQ(at8, k)
		SUBQ(Imm(1), left)
		JNE(LabelRef("group"))
		ADDQ(U32(block*rowBytes), address("s"))
		MOVQ(ldq, at8)
		SHLQ(Imm(4), at8)
		ADDQ(at8, address("q"))
	})
	done()
}

func tileValues() {
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
	rowBlocks(func(n Mem) {
		v, st, dims, from := param("v"), param("state"), copyOf(dim), GP64()
		MOVQ(sums, from)
		Label("dims")
		for i := range 4 {
			tileZero(sumTile + i)
		}
		vg, pg, left := copyOf(v), param("p"), param("n")
		Label("group")
		MOVQ(pg, at8)
		MOVQ(U32(intBytes), stride9)
		tileLoad(rowTile, 0)
		tileLoad(rowTile+1, 256)
		MOVQ(vg, at8)
		MOVQ(dim, stride9)
		SHLQ(Imm(2), stride9)
		for i := range 2 {
			tileLoad(tileTile+i, 64*i)
			for half := range 2 {
				tileProducts(false, sumTile+2*i+half, rowTile+half, tileTile+i)
			}
		}
		ADDQ(Imm(group), pg)
		SHLQ(Imm(4), stride9)
		ADDQ(stride9, vg)
		SUBQ(Imm(1), left)
		JNE(LabelRef("group"))
		MOVQ(from, at8)
		MOVQ(U32(rowBytes), stride9)
		for i := range 4 {
			tileStore(sumTile+i, 64*i)
		}

		sr, to, steps, rows := copyOf(from), copyOf(st), param("step"), GP64()
		MOVQ(n, rows)
		Label("row")
		ahead.prefetch("row", 16, 1)
		CMPL(at(steps, mrgSeen), Imm(0))
		JEQ(LabelRef("unseen"))
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
		Label("unseen")
		ADDQ(U32(rowBytes), sr)
		ADDQ(ld, to)
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
		MOVQ(ld, at8)
		SHLQ(Imm(4), at8)
		ADDQ(at8, address("state"))
	})
	done()
}

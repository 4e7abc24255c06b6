package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"triforce/internal/kernel/_gen/tiles"
)

// An activation row for AMX is that of the other tiers and then, laid out alike,
// the same once more with the integers of a block in the order of the inputs and
// as two bytes, q = 256·high + low: 32 int8 high, 32 int8 low.
const (
	block   = 32
	actTail = 32 // the scale, padded
)

// tileProduct multiplies n rows by each panel. A group of codes is a row of
// AMX's second operand: for each block there is one product of tiles by the high
// and one by the low bytes of activations. Vectors then do what those of the other
// tiers do with sums.
//
// A tile's sums take long to arrive in memory, where vectors find them. So the
// tiles of a block are begun before the vectors of the block in front of it.
// From cache, a block of 16 rows and 16 outputs takes two thirds of the time of
// AVX-512; with two segments (Q8x16) as long, and with 8 rows of nibbles longer.
func (f codeFormat) tileProduct(n int, shapes Mem) {
	TEXT(fmt.Sprintf("matMul%sRows%dAMX", f.name, n), 0,
		"func(dst *float32, ldd int, w *byte, panels int, x *byte, ldx, blocks int)")
	Doc(fmt.Sprintf("matMul%sRows%dAMX multiplies %d rows by panels packed as %s.", f.name, n, n, f.name))
	Pragma("noescape")
	t, codes := avx512, f.segments[0]
	p := params("w", "x", "ldx")
	w, ldx := p[0], p[2]
	planes, total := GP64(), GP64()
	Load(Param("blocks"), total)
	planesLeft, blocksLeft, bytes := AllocLocal(8), AllocLocal(8), AllocLocal(8)
	MOVQ(total, planesLeft)
	IMUL3Q(U32(actBlock), total, planes)
	MOVQ(planes, bytes) // of the blocks of a row
	LEAQ(Mem{Base: p[1], Index: planes, Scale: 1, Disp: actTail}, planes)
	MOVQ(planes, p[1])
	IMULQ(paramAddress("panels"), total)
	x := newRows(p[1], ldx, n)

	// Twice the sums of a block, by the high and by the low bytes, and its codes
	// widened.
	const tile, wide = 64 * tiles.Rows, 16 * block
	const size = 2*tile + wide
	sums, next := GP64(), GP64()
	LEAQ(AllocLocal(2*size+64), sums)
	ADDQ(Imm(63), sums)
	ANDQ(I8(-64), sums)
	LEAQ(Mem{Base: sums, Disp: size}, next)

	MOVQ(U32(n), tiles.At)
	tiles.Configure(shapes)
	acc, mask := t.vecs(n), t.vec()
	if f.nibbles() {
		VPBROADCASTD(nibble, mask)
	}
	step := tileStep{f, t, w, ldx, planes, mask, 2 * tile, planesLeft, bytes}
	step.widen(0, next)
	CMPQ(total, Imm(1))
	JEQ(LabelRef("narrow"))
	step.widen(1, sums)
	Label("narrow")
	step.tiles(0, next, "first")
	Label("panel")
	for _, a := range acc {
		t.zero(a)
	}
	blocks := GP64()
	Load(Param("blocks"), blocks)
	MOVQ(blocks, blocksLeft)
	Label("block")
	XCHGQ(sums, next)
	DECQ(total)
	JZ(LabelRef("vectors"))
	step.tiles(1, next, "next")
	CMPQ(total, Imm(1))
	JEQ(LabelRef("vectors"))
	step.widen(2, sums)
	Label("vectors")
	d, m := t.vec(), t.vec()
	VCVTPH2PS(Mem{Base: w, Disp: codes.d}, d)
	if codes.m != none {
		VCVTPH2PS(Mem{Base: w, Disp: codes.m}, m)
	}
	for r := range n {
		dot := t.vec()
		VPSLLD(Imm(8), Mem{Base: sums, Disp: 64 * r}, dot)
		VPADDD(Mem{Base: sums, Disp: 64*r + tile}, dot, dot)
		if codes.bias != none {
			VPADDD_BCST(x.at(r, codes.bias), dot, dot)
		}
		VCVTDQ2PS(dot, dot)
		VFMADD231PS(d, dot, acc[r])
		if codes.m != none {
			VFMADD231PS_BCST(x.at(r, codes.sum), m, acc[r])
		}
	}
	ADDQ(U32(f.size), w)
	x.advance(actBlock)
	DECQ(blocksLeft)
	JNZ(LabelRef("block"))

	row, ldd := GP64(), GP64()
	Load(Param("dst"), row)
	Load(Param("ldd"), ldd)
	for r, v := range acc {
		VBROADCASTSS(x.at(r, 0), d)
		VMULPS(d, v, v)
		VMOVUPS(v, Mem{Base: row})
		if r < n-1 {
			LEAQ(Mem{Base: row, Index: ldd, Scale: 4}, row)
		}
	}
	MOVQ(bytes, row)
	x.rewind(row)
	ADDQ(Imm(64), paramAddress("dst"))
	DECQ(paramAddress("panels"))
	JNZ(LabelRef("panel"))
	tiles.Release()
	VZEROUPPER()
	RET()
}

// tileStep is what a block asks of tiles.
type tileStep struct {
	f              codeFormat
	t              tier
	w, ldx, planes reg.GPVirtual
	mask           reg.VecVirtual
	wide           int // where widened codes lie behind the sums

	planesLeft, bytes Mem
}

// widen widens the codes of a block ahead of w, well before tiles read them: they
// wait until what was written has arrived in the cache.
func (s tileStep) widen(ahead int, to reg.GPVirtual) {
	if !s.f.nibbles() {
		return
	}
	for g := range 4 {
		low, high := s.t.vec(), s.t.vec()
		s.t.load(Mem{Base: s.w, Disp: ahead*s.f.size + 64*g}, low)
		VPSRLW(Imm(4), low, high)
		s.t.and(s.mask, low, low)
		s.t.and(s.mask, high, high)
		VMOVDQU32(low, Mem{Base: to, Disp: s.wide + 64*g})
		VMOVDQU32(high, Mem{Base: to, Disp: s.wide + 64*(4+g)})
	}
}

// tiles writes to sums what the tiles of a block ahead of w give, and moves on to
// the activations of the next.
func (s tileStep) tiles(ahead int, sums reg.GPVirtual, label string) {
	w := Mem{Base: s.w, Disp: ahead * s.f.size}
	for line := 0; line < s.f.size; line += 64 {
		PREFETCHT0(w.Offset(prefetchAhead + line))
	}
	LEAQ(w.Offset(s.f.segments[0].codes), tiles.At)
	if s.f.nibbles() {
		LEAQ(Mem{Base: sums, Disp: s.wide}, tiles.At)
	}
	MOVQ(U32(64), tiles.Stride)
	tiles.Read(tiles.Column, 0)
	MOVQ(s.planes, tiles.At)
	MOVQ(s.ldx, tiles.Stride)
	for half := range 2 {
		tiles.Read(tiles.Row+half, half*block)
		tiles.Zero(tiles.Sum + half)
		tiles.Signed(tiles.Sum+half, tiles.Row+half, tiles.Column)
	}
	MOVQ(sums, tiles.At)
	MOVQ(U32(64), tiles.Stride)
	for half := range 2 {
		tiles.Write(tiles.Sum+half, half*64*tiles.Rows)
	}
	ADDQ(U32(actBlock), s.planes)
	DECQ(s.planesLeft)
	JNZ(LabelRef(label + "Tiles"))
	SUBQ(s.bytes, s.planes)
	Load(Param("blocks"), tiles.At)
	MOVQ(tiles.At, s.planesLeft)
	Label(label + "Tiles")
}

// paramAddress is where a parameter lies.
func paramAddress(name string) Op {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// nibbles says whether a byte holds two codes.
func (f codeFormat) nibbles() bool { return len(f.segments[0].planes) == len(nibbles) }

// splitBytes makes what AMX has behind an activation row.
func splitBytes() {
	TEXT("splitBytesAVX512", NOSPLIT, "func(dst, src *byte, blocks int)")
	Doc("splitBytesAVX512 writes the integers of blocks of an activation row as two bytes each.")
	Pragma("noescape")
	p := params("dst", "src", "blocks")
	half, order := ZMM(), YMM()
	VPBROADCASTD(roundByte, half)
	VMOVDQU(pairOrder, order)
	tail := YMM()
	loop("block", p[2], func() {
		q, high := ZMM(), ZMM()
		VMOVDQU32(Mem{Base: p[1]}, q)
		VPADDW(half, q, high)
		VPSRAW(Imm(8), high, high)
		for i, v := range []reg.VecVirtual{high, q} {
			b := YMM()
			VPMOVWB(v, b)
			VPSHUFB(order, b, b)
			VMOVDQU(b, Mem{Base: p[0], Disp: block * i})
		}
		VMOVDQU(Mem{Base: p[1], Disp: 2 * block}, tail)
		VMOVDQU(tail, Mem{Base: p[0], Disp: 2 * block})
		ADDQ(U32(actBlock), p[1])
		ADDQ(U32(actBlock), p[0])
	})
	VMOVDQU(Mem{Base: p[1]}, tail)
	VMOVDQU(tail, Mem{Base: p[0]})
	VZEROUPPER()
	RET()
}

package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"

	"triforce/internal/kernel/_gen/tiles"
)

// peakTurn is how many products a turn of the loop of peak adds up.
const peakTurn = 512

// peak is what the processor can do at most: multiply-accumulates of words in
// registers, in the order that it likes best (dot says why).
func peak(t tier) {
	name := "peak" + t.name
	TEXT(name, NOSPLIT, "func(n int)")
	Doc(fmt.Sprintf("%s multiplies and accumulates %d pairs of words in registers, n times.", name, peakTurn))
	n := Load(Param("n"), GP64())
	const width = 2 // products that are made before they are added
	acc, x := t.vecs(t.lanes), t.vec()
	for _, v := range append(acc, x) {
		t.zero(v)
	}
	Label("turn")
	for i := 0; i < peakTurn/(2*t.lanes); i += width {
		if t == avx512 {
			VPDPWSSD(x, x, acc[i])
			VPDPWSSD(x, x, acc[i+1])
			continue
		}
		products := t.vecs(width)
		for _, p := range products {
			VPMADDWD(x, x, p)
		}
		for j, p := range products {
			a := acc[(i+j)%len(acc)]
			VPADDD(p, a, a)
		}
	}
	DECQ(n)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// tilePeak is the same for AMX: products of a tile by both bytes of activations.
func tilePeak(shapes Mem) {
	TEXT("peakAMX", NOSPLIT, "func(n int)")
	Doc("peakAMX multiplies and accumulates 512 words by bytes in tiles, n times, rounded up to 32.")
	n := Load(Param("n"), GP64())
	MOVQ(U32(tiles.Rows), tiles.At)
	tiles.Configure(shapes)
	Label("turn")
	for i := range 4 {
		tiles.Signed(tiles.Sum+i, tiles.Row+i%2, tiles.Column+i/2)
	}
	SUBQ(Imm(2*tiles.Rows*16*block/peakTurn), n)
	JG(LabelRef("turn"))
	tiles.Release()
	RET()
}

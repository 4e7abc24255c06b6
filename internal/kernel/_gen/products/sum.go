package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

const (
	// sumLines is how many cache lines a turn of the loop of sum reads.
	sumLines = 4
	// sumAhead is how far in front of itself sum asks for lines. On a Xeon whose
	// memory is 130 ns away, two cores read 100 MB at 26 GB/s without, and at 32,
	// 39 and 47 if they ask 4 KiB ahead for the first level of cache, and 4 and 16
	// KiB ahead for the second.
	sumAhead = 16 << 10
)

// sum reads memory as fast as it comes, and does as little as possible with it:
// few loads a line, as a processor waits for as many lines at a time as its
// queue of instructions has.
func sum(t tier) {
	name := "sum" + t.name
	TEXT(name, NOSPLIT, "func(x *uint64, blocks int) uint64")
	Doc(fmt.Sprintf("%s returns the sum of blocks of %d bytes.", name, 64*sumLines))
	Pragma("noescape")
	p := params("x", "blocks")
	acc := t.vecs(sumLines)
	for _, v := range acc {
		t.zero(v)
	}
	loop("block", p[1], func() {
		for line := range sumLines {
			PREFETCHT1(Mem{Base: p[0], Disp: sumAhead + 64*line})
		}
		for i := 0; i < 16*sumLines/t.lanes; i++ {
			v := acc[i%sumLines]
			VPADDQ(Mem{Base: p[0], Disp: 4 * t.lanes * i}, v, v)
		}
		ADDQ(U32(64*sumLines), p[0])
	})
	VPADDQ(acc[1], acc[0], acc[0])
	VPADDQ(acc[3], acc[2], acc[2])
	VPADDQ(acc[2], acc[0], acc[0])
	y := acc[0]
	if t == avx512 {
		y = YMM()
		VEXTRACTI64X4(Imm(1), acc[0], y)
		VPADDQ(acc[0].AsY(), y, y)
	}
	half, other, total := XMM(), XMM(), GP64()
	VEXTRACTI128(Imm(1), y, half)
	VPADDQ(y.AsX(), half, half)
	VPSHUFD(Imm(0b01_00_11_10), half, other)
	VPADDQ(other, half, half)
	VMOVQ(half, total)
	Store(total, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// An activation row for both tiers is, for each block of 32 inputs,
//
//	 0  32 int16    q, pairs of them in the order in which codes widen:
//	                inputs 0 2, 1 3, 4 6, 5 7, … of the block
//	64  float32     Σq over the block, its first and its second half
//	80  int32       -128·Σq over the block, its first and its second half
//
// and then the scale as a float32.
const (
	actBlock = 96
	actSum   = 64
	actBias  = 80
)

// codeFormat is a packed format of integer codes.
type codeFormat struct {
	name     string
	size     int // bytes of a block of a panel
	segments []segment
}

// segment is a run of codes that share scales: what a kernel adds to its
// outputs at a time. Offsets are in the packed block and in the block of
// activations; none marks what a format does not have.
type segment struct {
	codes  int     // 64-byte groups: codes of 4 inputs for each of 16 outputs
	groups int     // how many
	planes []plane // of a group
	d, m   int     // scales and offsets of the 16 outputs
	bias   int     // -128·Σq if codes are biased
	sum    int     // Σq, which m multiplies
}

// plane is how a group's bytes widen to two codes in each 32 bits.
type plane struct {
	shift uint64
	mask  bool // what remains above the code must be cleared
	q     int  // activations of group 0, 8 bytes further for every group
}

const none = -1

var codeFormats = []codeFormat{
	{"Q4", 320, []segment{
		{codes: 0, groups: 4, planes: nibbles, d: 256, m: 288, bias: none, sum: actSum},
	}},
	{"Q8", 544, []segment{
		{codes: 0, groups: 8, planes: bytes(0), d: 512, m: none, bias: actBias},
	}},
	{"Q8x16", 640, []segment{
		{codes: 0, groups: 4, planes: bytes(0), d: 256, m: 288, bias: actBias + 4, sum: actSum + 4},
		{codes: 320, groups: 4, planes: bytes(32), d: 576, m: 608, bias: actBias + 8, sum: actSum + 8},
	}},
}

var nibbles = []plane{{0, true, 0}, {8, true, 4}, {4, true, 32}, {12, false, 36}}

func bytes(q int) []plane { return []plane{{0, true, q}, {8, false, q + 4}} }

// mask returns the word that keeps a code.
func (f codeFormat) mask() Mem {
	if len(f.segments[0].planes) == len(nibbles) {
		return lowNibbles
	}
	return lowBytes
}

// product multiplies n rows by each panel. Codes are widened to 16 bits, once
// for all rows, and multiplied by pairs of activations that all outputs share:
// VPDPWSSD on AVX-512; a broadcast, VPMADDWD and VPADDD on AVX2. Instructions
// for 512 products of a row (32 inputs of 16 outputs), and on top for n rows
// together to load and widen, in vectors of 64 (32) bytes:
//
//	         AVX-512             AVX2                    together
//	Q4       16 + 3 for scales   3·32 + 8 for scales     4·(1+6) + 2   (8·(1+6) + 4)
//	Q8       16 + 2              3·32 + 6                8·(1+2) + 1   (16·(1+2) + 2)
//	Q8x16    16 + 6              3·32 + 16               8·(1+2) + 4   (16·(1+2) + 8)
//
// A Zen 4 core starts one VPDPWSSD or FMA of 64 bytes a cycle, and so takes at
// least 18 cycles for a row of Q4 (17 Q8, 20 Q8x16): 28 products a cycle. A
// Zen 3 core starts four AVX2 operations a cycle and two loads beside them: 17
// cycles, and 20 with the share of widening that each of 4 rows has. One row
// takes some 22 cycles for the 320 bytes of a block of Q4 on Zen 4, 52 GB/s:
// memory delivers less.
//
// Measured from cache on one core of a Zen 4 EPYC, in 10⁹ products a second:
// AVX-512 Q4 101, Q8 105, Q8x16 91, which are the bounds above at 3.6 GHz;
// AVX2 70, 72, 60.
func (f codeFormat) product(t tier, n int) {
	TEXT(fmt.Sprintf("matMul%sRows%d%s", f.name, n, t.name), NOSPLIT,
		"func(dst *float32, ldd int, w *byte, panels int, x *byte, ldx, blocks int)")
	Doc(fmt.Sprintf("matMul%sRows%d%s multiplies %d rows by panels packed as %s.", f.name, n, t.name, n, f.name))
	Pragma("noescape")
	p := params("dst", "ldd", "w", "panels", "x", "ldx")
	dst, ldd, w, panels := p[0], p[1], p[2], p[3]
	SHLQ(Imm(2), ldd)
	x := newRows(p[4], p[5], n)
	mask := t.vec()
	VPBROADCASTD(f.mask(), mask)

	// Sixteen AVX2 registers hold the sums of 2 rows of a panel, or of more
	// rows of half a panel.
	passes := [][]int{{0}} // the outputs that registers begin with
	if t == avx2 && n <= 2 {
		passes = [][]int{{0, 8}}
	} else if t == avx2 {
		passes = [][]int{{0}, {8}}
	}
	Label("panel")
	for i, outputs := range passes {
		acc := make([][]reg.VecVirtual, len(outputs))
		for o := range outputs {
			acc[o] = t.vecs(n)
			for _, a := range acc[o] {
				t.zero(a)
			}
		}
		blocks := GP64()
		if i > 0 { // the same panel again
			Load(Param("blocks"), blocks)
			IMUL3Q(U32(f.size), blocks, blocks)
			SUBQ(blocks, w)
		}
		Load(Param("blocks"), blocks)
		loop(fmt.Sprintf("pass%d", i), blocks, func() {
			if i == 0 {
				for line := 0; line < f.size; line += 64 {
					PREFETCHT0(Mem{Base: w, Disp: prefetchAhead + line})
				}
			}
			for _, s := range f.segments {
				for o, j := range outputs {
					s.add(t, w, x, mask, acc[o], j)
				}
			}
			ADDQ(U32(f.size), w)
			x.advance(actBlock)
		})
		row, d := GP64(), t.vec()
		MOVQ(dst, row)
		for r := range n {
			VBROADCASTSS(x.at(r, 0), d)
			for o, j := range outputs {
				VMULPS(d, acc[o][r], acc[o][r])
				VMOVUPS(acc[o][r], Mem{Base: row, Disp: 4 * j})
			}
			if r < n-1 {
				ADDQ(ldd, row)
			}
		}
		Load(Param("blocks"), row)
		IMUL3Q(U32(actBlock), row, row)
		x.rewind(row)
	}
	ADDQ(Imm(64), dst)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	RET()
}

// prefetchAhead is how far in front of themselves kernels ask for weights. With
// several rows to a kernel the processor's own prefetching comes too late: from
// memory, 8 rows of 1536 inputs gain a quarter.
const prefetchAhead = 4096

// add adds the segment's products of the outputs from j on to acc.
func (s segment) add(t tier, w reg.GPVirtual, x rows, mask reg.VecVirtual, acc []reg.VecVirtual, j int) {
	dots := t.vecs(len(acc))
	if s.bias != none {
		for r, dot := range dots {
			VPBROADCASTD(x.at(r, s.bias), dot)
		}
	}
	for g := range s.groups {
		group := t.vec()
		t.load(Mem{Base: w, Disp: s.codes + g*64 + j*4}, group)
		for i, p := range s.planes {
			c := t.vec()
			switch {
			case p.shift == 0:
				t.and(mask, group, c)
			case p.mask:
				VPSRLW(Imm(p.shift), group, c)
				t.and(mask, c, c)
			default:
				VPSRLW(Imm(p.shift), group, c)
			}
			for r, dot := range dots {
				t.dot(x.at(r, p.q+g*8), c, dot, g+i == 0 && s.bias == none)
			}
		}
	}
	d, m, sum := t.vec(), t.vec(), t.vec()
	VCVTPH2PS(Mem{Base: w, Disp: s.d + 2*j}, d)
	if s.m != none {
		VCVTPH2PS(Mem{Base: w, Disp: s.m + 2*j}, m)
	}
	for r, dot := range dots {
		VCVTDQ2PS(dot, dot)
		VFMADD231PS(d, dot, acc[r])
		switch {
		case s.m == none:
		case t == avx512:
			VFMADD231PS_BCST(x.at(r, s.sum), m, acc[r])
		default:
			VBROADCASTSS(x.at(r, s.sum), sum)
			VFMADD231PS(sum, m, acc[r])
		}
	}
}

// dot adds products of two codes and two activations to every lane of dst, or
// sets dst to them if it is the first.
func (t tier) dot(q Mem, codes, dst reg.VecVirtual, first bool) {
	if t == avx512 {
		if first {
			t.zero(dst)
		}
		VPDPWSSD_BCST(q, codes, dst)
		return
	}
	pair := t.vec()
	VPBROADCASTD(q, pair)
	if first {
		VPMADDWD(pair, codes, dst)
		return
	}
	VPMADDWD(pair, codes, pair)
	VPADDD(pair, dst, dst)
}

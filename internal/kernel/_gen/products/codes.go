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
//	Q4       16 + 3 for scales   2.5·32 + 13             4·(1+6) + 2   (8·(1+6) + 4)
//	Q8       16 + 2              2.5·32 + 8              8·(1+2) + 1   (16·(1+2) + 2)
//	Q8x16    16 + 6              2.5·32 + 18             8·(1+2) + 4   (16·(1+2) + 8)
//
// A Zen 4 core starts one VPDPWSSD or FMA of 64 bytes a cycle, and so takes at
// least 18 cycles for a row of Q4 (17 Q8, 20 Q8x16): 28 products a cycle. A
// Zen 3 core could start two VPMADDWD and two VPADDD a cycle, 32 products, but
// a bare loop of them gets to 26: additions land on the multipliers' pipes.
// Broadcasts cost no such pipe, but a place among the six instructions that
// enter a cycle; so both halves of a panel share one, and the four instructions
// stand in the order multiply, multiply, add, add, which is 5% faster than
// multiply, add, multiply, add. One row takes some 22 cycles for the 320 bytes
// of a block of Q4 on Zen 4, 52 GB/s: memory delivers less.
//
// Measured from cache on one core, in 10⁹ products a second of Q4, Q8, Q8x16:
// AVX-512 on a Zen 4 EPYC 101, 105, 91, which are the bounds above at 3.6 GHz;
// AVX2 on a Zen 3 EPYC, where a bare loop reaches 84, with 4 rows 68, 70, 58
// and with one 44, 49, 40.
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

	// Sixteen AVX2 registers hold the sums of 2 rows of a panel over all blocks;
	// of more rows, those over one block, and memory the rest.
	outputs := []int{0, 8}
	if t == avx512 {
		outputs = outputs[:1]
	}
	sums := sums{t: t, outputs: outputs, rows: n}
	if len(outputs)*n > 4 && t == avx2 {
		sums.memory = AllocLocal(n*64 + 64)
		sums.at = GP64()
	}
	Label("panel")
	sums.clear()
	blocks := GP64()
	Load(Param("blocks"), blocks)
	loop("block", blocks, func() {
		for line := 0; line < f.size; line += 64 {
			PREFETCHT0(Mem{Base: w, Disp: prefetchAhead + line})
		}
		for _, s := range f.segments {
			s.add(t, w, x, mask, sums)
		}
		ADDQ(U32(f.size), w)
		x.advance(actBlock)
	})
	row, d := GP64(), t.vec()
	MOVQ(dst, row)
	for r := range n {
		VBROADCASTSS(x.at(r, 0), d)
		for o, j := range outputs {
			v := sums.load(r, o)
			VMULPS(d, v, v)
			VMOVUPS(v, Mem{Base: row, Disp: 4 * j})
		}
		if r < n-1 {
			ADDQ(ldd, row)
		}
	}
	Load(Param("blocks"), row)
	IMUL3Q(U32(actBlock), row, row)
	x.rewind(row)
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

// sums are those of rows by outputs, a vector each, over the blocks so far: in
// registers, or in memory if that is not the zero value.
type sums struct {
	t       tier
	outputs []int // those of a panel that vectors begin with
	rows    int
	acc     []reg.VecVirtual // (rows, outputs)
	memory  Mem
	at      reg.GPVirtual // memory, aligned
}

func (s *sums) clear() {
	if s.at == nil {
		s.acc = s.t.vecs(s.rows * len(s.outputs))
		for _, a := range s.acc {
			s.t.zero(a)
		}
		return
	}
	LEAQ(s.memory, s.at)
	ADDQ(Imm(63), s.at)
	ANDQ(I8(-64), s.at)
	zero := s.t.vec()
	s.t.zero(zero)
	for r := range s.rows {
		for o := range s.outputs {
			VMOVAPS(zero, s.place(r, o))
		}
	}
}

func (s *sums) place(r, o int) Mem { return Mem{Base: s.at, Disp: 64*r + 32*o} }

func (s *sums) load(r, o int) reg.VecVirtual {
	if s.at == nil {
		return s.acc[r*len(s.outputs)+o]
	}
	v := s.t.vec()
	VMOVAPS(s.place(r, o), v)
	return v
}

// addProduct adds x·y for the given row and outputs; it overwrites x.
func (s *sums) addProduct(x, y reg.VecVirtual, r, o int, then func(v reg.VecVirtual)) {
	if s.at == nil {
		v := s.acc[r*len(s.outputs)+o]
		VFMADD231PS(y, x, v)
		then(v)
		return
	}
	VFMADD213PS(s.place(r, o), y, x)
	then(x)
	VMOVAPS(x, s.place(r, o))
}

// add adds the segment's products to the sums.
func (s segment) add(t tier, w reg.GPVirtual, x rows, mask reg.VecVirtual, sums sums) {
	width := len(sums.outputs)
	dots := t.vecs(sums.rows * width)
	bias := t.vecs(sums.rows)
	if width == 1 {
		bias = dots
	}
	if s.bias != none {
		for r, b := range bias {
			VPBROADCASTD(x.at(r, s.bias), b)
		}
	}
	for g := range s.groups {
		group := t.vecs(width)
		for o, j := range sums.outputs {
			t.load(Mem{Base: w, Disp: s.codes + g*64 + j*4}, group[o])
		}
		for i, p := range s.planes {
			c := t.vecs(width)
			for o := range c {
				switch {
				case p.shift == 0:
					t.and(mask, group[o], c[o])
				case p.mask:
					VPSRLW(Imm(p.shift), group[o], c[o])
					t.and(mask, c[o], c[o])
				default:
					VPSRLW(Imm(p.shift), group[o], c[o])
				}
			}
			for r := range sums.rows {
				var from reg.VecVirtual
				if g+i == 0 && s.bias != none {
					from = bias[r]
				}
				t.dot(x.at(r, p.q+g*8), c, dots[r*width:(r+1)*width], g+i == 0, from)
			}
		}
	}
	d, m, sum := t.vecs(width), t.vecs(width), t.vec()
	for o, j := range sums.outputs {
		VCVTPH2PS(Mem{Base: w, Disp: s.d + 2*j}, d[o])
		if s.m != none {
			VCVTPH2PS(Mem{Base: w, Disp: s.m + 2*j}, m[o])
		}
	}
	for r := range sums.rows {
		if s.m != none && t == avx2 {
			VBROADCASTSS(x.at(r, s.sum), sum)
		}
		for o := range width {
			dot := dots[r*width+o]
			VCVTDQ2PS(dot, dot)
			sums.addProduct(dot, d[o], r, o, func(v reg.VecVirtual) {
				switch {
				case s.m == none:
				case t == avx512:
					VFMADD231PS_BCST(x.at(r, s.sum), m[o], v)
				default:
					VFMADD231PS(sum, m[o], v)
				}
			})
		}
	}
}

// dot adds products of two codes and two activations to every lane of dst; if
// they are the first, to from, which may be nil.
func (t tier) dot(q Mem, codes, dst []reg.VecVirtual, first bool, from reg.VecVirtual) {
	if t == avx512 {
		if first && from == nil {
			t.zero(dst[0])
		}
		VPDPWSSD_BCST(q, codes[0], dst[0])
		return
	}
	pair, products := t.vec(), t.vecs(len(dst))
	VPBROADCASTD(q, pair)
	for o, c := range codes {
		if first && from == nil {
			products[o] = dst[o]
		}
		VPMADDWD(pair, c, products[o])
	}
	for o, product := range products {
		switch {
		case !first:
			VPADDD(product, dst[o], dst[o])
		case from != nil:
			VPADDD(product, from, dst[o])
		}
	}
}

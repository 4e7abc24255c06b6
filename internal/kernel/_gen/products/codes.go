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
// least 18 cycles for a row of Q4 (17 Q8, 20 Q8x16): 28 products a cycle. Cores
// with two such pipes (Golden Cove, Zen 5) could take half of that, but a sum that
// waits 5 cycles for the one before wants ten chains at a time: so several panels
// are multiplied by together (16 rows have chains enough; Q8 of 16 rows would wait
// for loads), their sums in memory, as registers hold only those of a block.
//
// A Zen 3 core could start two VPMADDWD and two VPADDD a cycle, 32 products, but
// a bare loop of them gets to 26: additions land on the multipliers' pipes.
// Broadcasts cost no such pipe, but a place among the six instructions that
// enter a cycle; so both halves of a panel share one, and the four instructions
// stand in the order multiply, multiply, add, add, which is 5% faster than
// multiply, add, multiply, add. One row takes some 22 cycles for the 320 bytes
// of a block of Q4 on Zen 4, 52 GB/s: memory delivers less.
//
// Measured from cache on one core, in 10⁹ products a second of Q4, Q8, Q8x16:
// AVX-512 on a Zen 4 EPYC, by single panels, 101, 105, 91, which are the bounds
// above at 3.6 GHz; on a Xeon (Emerald Rapids, 2.9 GHz), where a bare loop reaches
// 188, 134, 142, 116 (by single panels 115, 120, 101); AVX2 on a Zen 3 EPYC, where
// a bare loop reaches 84, with 4 rows 68, 70, 58 and with one 44, 49, 40.
//
// together is how many panels are multiplied by at a time, as long as there are so
// many.
func (f codeFormat) product(t tier, n int, together ...int) {
	inMemory := n*together[0]*64 + 64 // sums, if registers are too few
	split := NOSPLIT
	if inMemory > 512 {
		split = 0 // a frame that may need more stack
	}
	TEXT(fmt.Sprintf("matMul%sRows%d%s", f.name, n, t.name), split,
		"func(dst *float32, ldd int, w *byte, panels int, x *byte, ldx, blocks int)")
	Doc(fmt.Sprintf("matMul%sRows%d%s multiplies %d rows by panels packed as %s.", f.name, n, t.name, n, f.name))
	Pragma("noescape")
	p := params("dst", "ldd", "w", "panels", "x", "ldx")
	dst, ldd, w, panels := p[0], p[1], p[2], p[3]
	SHLQ(Imm(2), ldd)
	x := newRows(p[4], p[5], n)
	mask := t.vec()
	VPBROADCASTD(f.mask(), mask)
	memory := AllocLocal(inMemory)

	for _, wide := range together {
		name := fmt.Sprintf("by%d", wide)
		Label(name)
		CMPQ(panels, U32(wide))
		JLT(LabelRef(name + "After"))
		f.panels(t, wide, name, dst, ldd, w, x, n, mask, memory)
		SUBQ(U32(wide), panels)
		JMP(LabelRef(name))
		Label(name + "After")
	}
	VZEROUPPER()
	RET()
}

// panels multiplies by the given number of panels and advances dst and w.
func (f codeFormat) panels(t tier, panels int, name string, dst, ldd, w reg.GPVirtual, x rows, n int, mask reg.VecVirtual, memory Mem) {
	size := GP64() // of a panel
	Load(Param("blocks"), size)
	IMUL3Q(U32(f.size), size, size)
	at := newRows(w, size, panels)
	sums := sums{t: t, vectors: panels * 16 / t.lanes, rows: n}
	if most := map[tier]int{avx2: 4, avx512: 10}[t]; sums.vectors*n > most {
		sums.memory = memory
		sums.at = GP64()
	}
	sums.clear()
	blocks := GP64()
	Load(Param("blocks"), blocks)
	ahead := newAhead(f, at, size, blocks, panels)
	loop(name+"Block", blocks, func() {
		ahead.prefetch(name)
		for _, s := range f.segments {
			s.add(t, at, x, mask, sums)
		}
		at.advance(f.size)
		x.advance(actBlock)
	})
	row, d := GP64(), t.vec()
	MOVQ(dst, row)
	for r := range n {
		VBROADCASTSS(x.at(r, 0), d)
		for i := range sums.vectors {
			v := sums.load(r, i)
			VMULPS(d, v, v)
			VMOVUPS(v, Mem{Base: row, Disp: 4 * t.lanes * i})
		}
		if r < n-1 {
			ADDQ(ldd, row)
		}
	}
	Load(Param("blocks"), row)
	IMUL3Q(U32(actBlock), row, row)
	x.rewind(row)
	for range panels - 1 { // w has passed the first panel
		ADDQ(size, w)
	}
	ADDQ(U32(64*panels), dst)
}

// prefetchAhead is how far in front of themselves kernels ask for weights. With
// several rows to a kernel the processor's own prefetching comes too late: from
// memory, 8 rows of 1536 inputs gain a quarter.
const prefetchAhead = 4096

// ahead is where a kernel asks for the weights of panels that it reads beside each
// other. What follows their ends is in the next of them.
type ahead struct {
	rows
	f      codeFormat
	panels int
	size   reg.GPVirtual // of a panel
	left   reg.GPVirtual // blocks until the panels end
	lead   Mem           // blocks ahead
}

func newAhead(f codeFormat, at rows, size, left reg.GPVirtual, panels int) ahead {
	a := ahead{f: f, panels: panels, size: size, left: left, lead: AllocLocal(8)}
	lead := GP64()
	MOVQ(U32((prefetchAhead/panels+f.size-1)/f.size), lead)
	CMPQ(left, lead)
	CMOVQLT(left, lead)
	MOVQ(lead, a.lead)
	IMUL3Q(U32(f.size), lead, lead)
	ADDQ(at.base[0], lead)
	a.rows = rows{base: []reg.GPVirtual{lead}, strides: at.strides}
	return a
}

// prefetch asks for a block of each panel.
func (a ahead) prefetch(name string) {
	if a.panels > 1 {
		CMPQ(a.left, a.lead)
		JNE(LabelRef(name + "SamePanels"))
		for range a.panels - 1 {
			ADDQ(a.size, a.base[0])
		}
		Label(name + "SamePanels")
	}
	for i := range a.panels {
		for line := 0; line < a.f.size; line += 64 {
			PREFETCHT0(a.at(i, line))
		}
	}
	a.advance(a.f.size)
}

// sums are those of rows by vectors of outputs over the blocks so far: in
// registers, or in memory if that is not the zero value.
type sums struct {
	t       tier
	rows    int
	vectors int
	acc     []reg.VecVirtual // (rows, vectors)
	zero    reg.VecVirtual   // on AVX-512, where a copy costs nothing
	memory  Mem
	at      reg.GPVirtual // memory, aligned
}

func (s *sums) clear() {
	s.zero = s.t.vec()
	s.t.zero(s.zero)
	if s.at == nil {
		s.acc = s.t.vecs(s.rows * s.vectors)
		for _, a := range s.acc {
			VMOVAPS(s.zero, a)
		}
		return
	}
	LEAQ(s.memory, s.at)
	ADDQ(Imm(63), s.at)
	ANDQ(I8(-64), s.at)
	for r := range s.rows {
		for i := range s.vectors {
			VMOVAPS(s.zero, s.place(r, i))
		}
	}
}

func (s *sums) place(r, i int) Mem {
	return Mem{Base: s.at, Disp: (r*s.vectors + i) * 4 * s.t.lanes}
}

func (s *sums) load(r, i int) reg.VecVirtual {
	if s.at == nil {
		return s.acc[r*s.vectors+i]
	}
	v := s.t.vec()
	VMOVAPS(s.place(r, i), v)
	return v
}

// addProduct adds x·y for the given row and vector; it overwrites x.
func (s *sums) addProduct(x, y reg.VecVirtual, r, i int, then func(v reg.VecVirtual)) {
	if s.at == nil {
		v := s.acc[r*s.vectors+i]
		VFMADD231PS(y, x, v)
		then(v)
		return
	}
	VFMADD213PS(s.place(r, i), y, x)
	then(x)
	VMOVAPS(x, s.place(r, i))
}

// add adds the segment's products to the sums.
func (s segment) add(t tier, w, x rows, mask reg.VecVirtual, sums sums) {
	width := sums.vectors
	// field is that of a vector's outputs in its panel, in elements of so many bytes.
	field := func(i, offset, size int) Mem {
		j := i * t.lanes
		return w.at(j/16, offset+j%16*size)
	}
	dots := t.vecs(sums.rows * width)
	var bias []reg.VecVirtual
	if s.bias != none {
		if t == avx2 {
			bias = t.vecs(sums.rows)
			for r, b := range bias {
				VPBROADCASTD(x.at(r, s.bias), b)
			}
		} else {
			for i, v := range dots {
				VPBROADCASTD(x.at(i/width, s.bias), v)
			}
		}
	}
	for g := range s.groups {
		group := t.vecs(width)
		for i := range group {
			t.load(field(i, s.codes+g*64, 4), group[i])
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
				q, to, first := x.at(r, p.q+g*8), dots[r*width:(r+1)*width], g+i == 0
				if t == avx512 {
					if first && s.bias == none {
						for _, v := range to {
							VMOVAPS(sums.zero, v)
						}
					}
					dot(q, c, to)
				} else if first && bias != nil {
					t.dotPairs(q, c, to, true, bias[r])
				} else {
					t.dotPairs(q, c, to, first, nil)
				}
			}
		}
	}
	d, m, sum := t.vecs(width), t.vecs(width), t.vec()
	for i := range width {
		VCVTPH2PS(field(i, s.d, 2), d[i])
		if s.m != none {
			VCVTPH2PS(field(i, s.m, 2), m[i])
		}
	}
	for r := range sums.rows {
		if s.m != none && t == avx2 {
			VBROADCASTSS(x.at(r, s.sum), sum)
		}
		for i := range width {
			dot := dots[r*width+i]
			VCVTDQ2PS(dot, dot)
			sums.addProduct(dot, d[i], r, i, func(v reg.VecVirtual) {
				switch {
				case s.m == none:
				case t == avx512:
					VFMADD231PS_BCST(x.at(r, s.sum), m[i], v)
				default:
					VFMADD231PS(sum, m[i], v)
				}
			})
		}
	}
}

// dot adds products of two codes and two activations to every lane of dst. Codes
// of several panels share the load of activations.
func dot(q Mem, codes, dst []reg.VecVirtual) {
	if len(codes) == 1 {
		VPDPWSSD_BCST(q, codes[0], dst[0])
		return
	}
	pair := ZMM()
	VPBROADCASTD(q, pair)
	for i, c := range codes {
		VPDPWSSD(pair, c, dst[i])
	}
}

// dotPairs is dot on AVX2; if the products are the first, they are added to from,
// which may be nil.
func (t tier) dotPairs(q Mem, codes, dst []reg.VecVirtual, first bool, from reg.VecVirtual) {
	pair, products := t.vec(), t.vecs(len(dst))
	VPBROADCASTD(q, pair)
	for i, c := range codes {
		if first && from == nil {
			products[i] = dst[i]
		}
		VPMADDWD(pair, c, products[i])
	}
	for i, product := range products {
		switch {
		case !first:
			VPADDD(product, dst[i], dst[i])
		case from != nil:
			VPADDD(product, from, dst[i])
		}
	}
}

// Program products writes the assembly of products with packed matrices and of
// the functions around them, for the AVX2 and the AVX-512 tier. The drawings of
// packed matrices are in package ref, that of activation rows in codes.go.
//
// A product kernel takes a few activation rows through every panel: weights
// are loaded and unpacked once and serve all of its rows. Each output is a
// chain of fused multiply-adds in the order of package ref, held in registers
// from the first block to the last, so the number of rows that share a kernel
// cannot change a bit. Code in package kernel cuts rows into kernels' sizes.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"triforce/internal/kernel/_gen/tiles"
)

// tier is a width of vectors, in lanes of 4 bytes.
type tier struct {
	name  string
	lanes int
}

var (
	avx2   = tier{"AVX2", 8}
	avx512 = tier{"AVX512", 16}
)

func (t tier) vec() reg.VecVirtual {
	if t == avx512 {
		return ZMM()
	}
	return YMM()
}

func (t tier) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = t.vec()
	}
	return v
}

// zero clears a register; processors drop the instruction when they rename.
func (t tier) zero(v reg.VecVirtual) {
	if t == avx512 {
		VPXORD(v, v, v)
	} else {
		VPXOR(v, v, v)
	}
}

func (t tier) load(m Mem, dst reg.VecVirtual) {
	if t == avx512 {
		VMOVDQU32(m, dst)
	} else {
		VMOVDQU(m, dst)
	}
}

func (t tier) and(a, b, dst reg.VecVirtual) {
	if t == avx512 {
		VPANDD(a, b, dst)
	} else {
		VPAND(a, b, dst)
	}
}

// loop runs body n times, n ≥ 1.
func loop(name string, n reg.GPVirtual, body func()) {
	Label(name)
	body()
	DECQ(n)
	JNZ(LabelRef(name))
}

// rows addresses a field of several rows that lie one stride apart.
type rows struct {
	base    []reg.GPVirtual // every eighth row
	strides []reg.GPVirtual // 1, 3, 5, 7 strides
}

// newRows makes the pointers to n rows from x on; stride is in bytes.
func newRows(x, stride reg.GPVirtual, n int) rows {
	r := rows{base: []reg.GPVirtual{x}}
	for i := 8; i < n; i += 8 {
		next := GP64()
		LEAQ(Mem{Base: r.base[len(r.base)-1], Index: stride, Scale: 8}, next)
		r.base = append(r.base, next)
	}
	if n > 1 {
		r.strides = append(r.strides, stride)
	}
	for i := 3; i < min(n, 8); i += 2 {
		odd := GP64()
		LEAQ(Mem{Base: r.strides[len(r.strides)-1], Index: stride, Scale: 2}, odd)
		r.strides = append(r.strides, odd)
	}
	return r
}

// at is the field of row i at an offset.
func (r rows) at(i, offset int) Mem {
	m := Mem{Base: r.base[i/8], Disp: offset}
	if i %= 8; i > 0 {
		scale := i & -i // the power of two in i
		m.Index, m.Scale = r.strides[i/scale/2], uint8(scale)
	}
	return m
}

// advance moves to a later field.
func (r rows) advance(by int) {
	for _, b := range r.base {
		ADDQ(U32(by), b)
	}
}

// rewind moves back by as much as all steps of a loop advanced.
func (r rows) rewind(by reg.GPVirtual) {
	for _, b := range r.base {
		SUBQ(by, b)
	}
}

func main() {
	ConstraintExpr("!purego")
	constants()
	for _, f := range codeFormats {
		for _, n := range []int{1, 2, 3, 4} {
			f.product(avx2, n, 1)
		}
		for _, n := range []int{1, 2, 3, 4} {
			f.product(avx512, n, 4, 2, 1)
		}
		for _, n := range []int{5, 6, 7, 8} {
			f.product(avx512, n, 2, 1)
		}
	}
	codeFormats[0].product(avx512, 16, 1)
	shapes := tiles.Shapes("productTiles", block)
	codeFormats[0].tileProduct(16, shapes)
	codeFormats[1].tileProduct(8, shapes)
	codeFormats[1].tileProduct(16, shapes)
	splitBytes()
	for _, f := range floatFormats {
		f.product(avx2, 1, 4)
		f.product(avx2, 2, 2)
		f.product(avx2, 4, 1)
		f.product(avx512, 1, 2)
		f.product(avx512, 2, 2)
		f.product(avx512, 4, 2)
		f.product(avx512, 8, 2)
		f.product(avx512, 16, 1)
	}
	floatFormats[0].product(avx2, 6, 1) // 12 chains hide what 8 do not: training is made of these
	peak(avx2)
	peak(avx512)
	tilePeak(shapes)
	sum(avx2)
	sum(avx512)
	largest()
	quantize()
	sumSquares()
	normalize()
	rope()
	e := newExponential()
	swiGLU(e)
	exp(e)
	add()
	Generate()
}

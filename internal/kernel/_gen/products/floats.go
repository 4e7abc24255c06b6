package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// floatFormat is a packed format of floats.
type floatFormat struct {
	name string
	size int // bytes of an element
	load func(t tier, m Mem, dst reg.VecVirtual)
}

var floatFormats = []floatFormat{
	{"F32", 4, func(_ tier, m Mem, dst reg.VecVirtual) { VMOVUPS(m, dst) }},
	{"F16", 2, func(_ tier, m Mem, dst reg.VecVirtual) { VCVTPH2PS(m, dst) }},
	{"BF16", 2, func(_ tier, m Mem, dst reg.VecVirtual) {
		VPMOVZXWD(m, dst)
		VPSLLD(Imm(16), dst, dst)
	}},
}

// product multiplies n rows by `wide` panels at a time, then by one at a time:
// n·wide chains of 16 outputs. A fused multiply-add takes 4 cycles and two
// (AVX-512 on Zen 4: one) start in each, so 8 (4) registers of chains keep the
// pipes busy; what is loaded for them is a vector of weights for each panel and
// an activation for each row.
func (f floatFormat) product(t tier, n, wide int) {
	TEXT(fmt.Sprintf("matMul%sRows%d%s", f.name, n, t.name), NOSPLIT,
		"func(dst *float32, ldd int, w *byte, panels int, x *float32, ldx, n int)")
	Doc(fmt.Sprintf("matMul%sRows%d%s multiplies %d rows by panels packed as %s.", f.name, n, t.name, n, f.name))
	Pragma("noescape")
	p := params("dst", "ldd", "w", "panels", "x", "ldx")
	dst, ldd, w, panels, stride := p[0], p[1], p[2], p[3], p[5]
	SHLQ(Imm(2), ldd)
	SHLQ(Imm(2), stride)
	x := newRows(p[4], stride, n)
	size := GP64() // of a panel
	Load(Param("n"), size)
	IMUL3Q(U32(16*f.size), size, size)

	if wide > 1 {
		Label("wide")
		CMPQ(panels, U32(wide))
		JLT(LabelRef("narrow"))
		f.panels(t, wide, "wide", dst, ldd, w, size, x, n)
		SUBQ(U32(wide), panels)
		JMP(LabelRef("wide"))
	}
	Label("narrow")
	TESTQ(panels, panels)
	JZ(LabelRef("done"))
	f.panels(t, 1, "narrow", dst, ldd, w, size, x, n)
	DECQ(panels)
	JMP(LabelRef("narrow"))
	Label("done")
	VZEROUPPER()
	RET()
}

// panels multiplies by the given number of panels and advances dst and w.
func (f floatFormat) panels(t tier, panels int, name string, dst, ldd, w, size reg.GPVirtual, x rows, n int) {
	parts := 16 / t.lanes // of a panel, a register each
	acc := t.vecs(n * panels * parts)
	for _, a := range acc {
		t.zero(a)
	}
	at := newRows(w, size, panels)
	count := GP64()
	Load(Param("n"), count)
	loop(name+"Input", count, func() {
		for i := range panels {
			PREFETCHT0(at.at(i, prefetchAhead))
		}
		if n == 1 {
			// Weights as they come: AVX2 has 16 registers, too few for those of
			// all panels beside their chains.
			in := t.vec()
			VBROADCASTSS(x.at(0, 0), in)
			for i, a := range acc {
				v := t.vec()
				f.load(t, at.at(i/parts, i%parts*t.lanes*f.size), v)
				VFMADD231PS(v, in, a)
			}
		} else {
			weights := t.vecs(panels * parts)
			for i, v := range weights {
				f.load(t, at.at(i/parts, i%parts*t.lanes*f.size), v)
			}
			in := t.vec()
			for r := range n {
				VBROADCASTSS(x.at(r, 0), in)
				for i, v := range weights {
					VFMADD231PS(v, in, acc[r*len(weights)+i])
				}
			}
		}
		at.advance(16 * f.size)
		x.advance(4)
	})
	by := GP64()
	Load(Param("n"), by)
	SHLQ(Imm(2), by)
	x.rewind(by)
	row := GP64()
	MOVQ(dst, row)
	for r := range n {
		for i := range panels * parts {
			VMOVUPS(acc[r*panels*parts+i], Mem{Base: row, Disp: i * 4 * t.lanes})
		}
		if r < n-1 {
			ADDQ(ldd, row)
		}
	}
	for range panels - 1 { // w has passed the first panel
		ADDQ(size, w)
	}
	ADDQ(U32(64*panels), dst)
}

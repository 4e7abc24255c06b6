package main

import "fmt"

// An activation row is, for each block of 32 inputs,
//
//	 0  32 int8     hi  of q = 256·hi + lo
//	32  32 int8     lo
//	64  4 float32   Σq over the block, its first, its second, its first half
//
// and then the scale as a float32, with padding to 16 bytes.
const (
	actBlock = 80
	actLow   = 32
	actSum   = 64
)

// codeFormat is a packed format of integer codes.
type codeFormat struct {
	name     string
	size     int // bytes of a block of a panel
	segments []segment
}

// segment is a run of codes that share scales: what a kernel adds to its
// outputs at a time. Offsets are in the packed block and in that of activations.
type segment struct {
	codes   int  // 64-byte groups: codes of 4 inputs for each of 16 outputs
	groups  int  // how many
	nibbles bool // a byte holds two codes, 16 inputs apart
	d, m    int  // scales and offsets of the 16 outputs; m may be none
	q       int  // activations
	sum     int  // which sum of them m multiplies
}

const none = -1

var codeFormats = []codeFormat{
	{"Q4", 320, []segment{{groups: 4, nibbles: true, d: 256, m: 288}}},
	{"Q8", 544, []segment{{groups: 8, d: 512, m: none}}},
	{"Q8x16", 640, []segment{
		{groups: 4, d: 256, m: 288, sum: 1},
		{codes: 320, groups: 4, d: 576, m: 608, q: 16, sum: 2},
	}},
}

// product multiplies n rows by each panel.
//
// SDOT multiplies 16 signed bytes and adds neighbours in fours: four inputs of
// four outputs, which is how panels lie, by the same four activations for all,
// which it takes from any quarter of a register. Activations have two bytes
// that are both signed, so two SDOTs make 16 products, and between them a shift:
// 256·Σ hi·c + Σ lo·c. SMLAL would make 4 products of words in an instruction,
// want codes widened before, and want outputs side by side. Bytes of Q8 lose
// their bias (one EOR for 16), nibbles come apart (one AND or shift for 16).
//
// Vector instructions for 512 products of a row (32 inputs of 16 outputs), and
// on top for n rows together; loads go elsewhere:
//
//	         a row                          together
//	Q4       64 + 4·(4 + 1) = 84            32 + 4·(1 + 2)     44
//	Q8       64 + 4·4       = 80            32 + 4·(1 + 1)     40
//	Q8x16    64 + 8·(4 + 1) = 104           32 + 8·(1 + 2)     56
//
// that is, zeroing, shift, conversion and one or two FMLAs around the SDOTs of
// four outputs. A product takes 0.17 of them with 8 rows of Q8 and 0.23 with one;
// SMLAL alone would take 0.25. count_test.go has all counts.
func (f codeFormat) product(a *asm, n int) {
	name := fmt.Sprintf("matMul%sRows%dNEON", f.name, n)
	doc := fmt.Sprintf("multiplies %d rows by panels packed as %s.", n, f.name)
	a.function(name, doc, "dst *float32, ldd int, w *byte, panels int, x *byte, ldx int, blocks int", "", func() {
		dst, ldd, w, panels := a.param("dst"), a.param("ldd"), a.param("w"), a.param("panels")
		a.op("LSL $2, %v", ldd)
		x := a.rows("x", "ldx", n)
		blocks, left, back := a.param("blocks"), a.reg(), a.reg()

		// Registers hold sums of all 16 outputs of 4 rows, or of half of 8.
		quads := min(4, 16/n)
		a.loop("panel", panels, func() {
			for q := 0; q < 4; q += quads {
				acc := make([][]vec, quads)
				for i := range acc {
					acc[i] = a.vecs(n)
					a.zero(acc[i]...)
				}
				a.op("MOVD %v, %v", blocks, left)
				a.loop("block", left, func() {
					for _, s := range f.segments {
						s.add(a, w, x, acc, q)
					}
					a.op("ADD $%d, %v", f.size, w)
					for _, x := range x {
						a.op("ADD $%d, %v", actBlock, x)
					}
				})
				a.scope(func() {
					row, d := a.copyOf(dst), a.vec()
					for r, x := range x {
						a.op("FMOVS (%v), F%d", x, d)
						for i := range acc {
							a.lane("fmul.s", acc[i][r], acc[i][r], d, 0)
							a.store(row, 16*(q+i), acc[i][r])
						}
						if r < n-1 {
							a.op("ADD %v, %v", ldd, row)
						}
					}
					a.release(d)
				})
				a.op("MOVD $%d, %v", actBlock, back)
				a.op("MUL %v, %v", blocks, back)
				for _, x := range x {
					a.op("SUB %v, %v", back, x)
				}
				if q+quads < 4 { // the same panel again
					a.op("MOVD $%d, %v", f.size, back)
					a.op("MUL %v, %v", blocks, back)
					a.op("SUB %v, %v", back, w)
				}
				for _, v := range acc {
					a.release(v...)
				}
			}
			a.op("ADD $64, %v", dst)
		})
	})
}

// rows returns pointers to n rows that lie a parameter's bytes apart.
func (a *asm) rows(first, stride string, n int) []reg {
	x := []reg{a.param(first)}
	if n > 1 {
		s := a.param(stride)
		for range n - 1 {
			next := a.reg()
			a.op("ADD %v, %v, %v", s, x[len(x)-1], next)
			x = append(x, next)
		}
	}
	return x
}

// add adds the segment's products to acc: of four outputs each, from quad
// first on, and of all rows. One row takes the codes of two quads at a time, so
// that there are always two sums to go on with.
func (s segment) add(a *asm, w reg, x []reg, acc [][]vec, first int) {
	together := 1
	if len(x) == 1 {
		together = 2
	}
	for q := 0; q < len(acc); q += together {
		mask := a.vec()
		codes := s.unpack(a, w, mask, first+q, together)
		a.release(mask)
		d, m := a.vecs(together), a.vecs(together)
		for i := range d {
			s.halves(a, w, s.d, first+q+i, d[i])
			s.halves(a, w, s.m, first+q+i, m[i])
		}
		if s.m == none {
			a.release(m...)
		}
		sum := func(i int) func() {
			quad, r := i%together, i/together
			in, dot := a.vecs(2), a.vec()
			return func() {
				s.dot(a, x[r], codes[quad], d[quad], m[quad], acc[q+quad][r], in, dot)
				a.release(append(in, dot)...)
			}
		}
		for i := 0; i < together*len(x); i += 2 {
			a.interleave(sum(i), sum(i+1))
		}
		a.release(d...)
		if s.m != none {
			a.release(m...)
		}
		for _, c := range codes {
			a.release(c...)
		}
	}
}

// halves loads four scales or offsets.
func (s segment) halves(a *asm, w reg, at, quad int, v vec) {
	if at != none {
		a.op("FMOVD %d(%v), F%d", at+8*quad, w, v)
		a.do("fcvtl", v, v)
	}
}

// unpack loads the codes of one or two quads of outputs as signed bytes.
func (s segment) unpack(a *asm, w reg, mask vec, quad, together int) [][]vec {
	codes := make([][]vec, together)
	for g := range s.groups {
		v := a.vecs(together)
		a.load(w, s.codes+64*g+16*quad, v...)
		for i := range v {
			codes[i] = append(codes[i], v[i])
		}
	}
	if s.nibbles {
		a.op("VMOVI $15, %v.B16", mask)
		for i, low := range codes {
			for _, v := range low {
				high := a.vec()
				a.do("ushr.4", high, v)
				a.do("and", v, v, mask)
				codes[i] = append(codes[i], high)
			}
		}
		return codes
	}
	a.op("VMOVI $128, %v.B16", mask)
	for _, c := range codes {
		for _, v := range c {
			a.do("eor", v, v, mask)
		}
	}
	return codes
}

// dot adds the products of a row with the codes of a quad to acc.
func (s segment) dot(a *asm, x reg, codes []vec, d, m, acc vec, in []vec, dot vec) {
	products := func(at int) {
		a.load(x, at+s.q, in[:len(codes)/4]...)
		for k, c := range codes {
			a.lane("sdot", dot, c, in[k/4], k%4)
		}
	}
	a.zero(dot)
	products(0)
	a.do("shl.8", dot, dot)
	products(actLow)
	a.do("scvtf", dot, dot)
	a.do("fmla", acc, dot, d)
	if s.m != none {
		a.load(x, actSum, in[0])
		a.lane("fmla.s", acc, m, in[0], s.sum)
	}
}

// peak does nothing but products, with the instruction that they are made of:
// two for 16 of them, as activations have two bytes.
func peak(a *asm) {
	const turn = 512 // products
	a.function("peakNEON", fmt.Sprintf("multiplies and accumulates %d words with bytes in registers, n times.", turn), "n int", "", func() {
		n, acc, x := a.param("n"), a.vecs(16), a.vec()
		a.zero(append(acc, x)...)
		a.loop("turn", n, func() {
			for i := range turn / 8 {
				a.lane("sdot", acc[i%len(acc)], x, x, 0)
			}
		})
	})
}

// floatFormat is a packed format of floats.
type floatFormat struct {
	name string
	size int // bytes of an element
	// load fills four registers with 16 weights.
	load func(a *asm, base reg, offset int, v []vec)
}

var floatFormats = []floatFormat{
	{"F32", 4, func(a *asm, base reg, offset int, v []vec) { a.load(base, offset, v...) }},
	{"F16", 2, loadHalves("fcvtl", "fcvtl2")},
	{"BF16", 2, loadHalves("shll", "shll2")},
}

// loadHalves loads 16 elements of two bytes and widens them.
func loadHalves(lower, upper string) func(a *asm, base reg, offset int, v []vec) {
	return func(a *asm, base reg, offset int, v []vec) {
		a.load(base, offset, v[0], v[2])
		a.do(upper, v[1], v[0])
		a.do(lower, v[0], v[0])
		a.do(upper, v[3], v[2])
		a.do(lower, v[2], v[2])
	}
}

// product multiplies n rows by `wide` panels at a time, then by one at a time.
// A fused multiply-add takes four cycles, so a few panels of one row keep more
// chains going.
func (f floatFormat) product(a *asm, n, wide int) {
	name := fmt.Sprintf("matMul%sRows%dNEON", f.name, n)
	doc := fmt.Sprintf("multiplies %d rows by panels packed as %s.", n, f.name)
	a.function(name, doc, "dst *float32, ldd int, w *byte, panels int, x *float32, ldx int, n int", "", func() {
		dst, ldd, w, panels := a.param("dst"), a.param("ldd"), a.param("w"), a.param("panels")
		a.op("LSL $2, %v", ldd)
		x := []reg{a.param("x")}
		ldx := a.param("ldx")
		a.op("LSL $2, %v", ldx)
		for range n - 1 {
			next := a.reg()
			a.op("ADD %v, %v, %v", ldx, x[len(x)-1], next)
			x = append(x, next)
		}
		size := a.param("n") // of a panel
		a.op("LSL $%d, %v", 4+f.size/2, size)
		narrow, done := a.label("narrow"), a.label("done")
		if wide > 1 {
			again := a.label("wide")
			a.put(again)
			a.op("CMP $%d, %v", wide, panels)
			a.op("BLT %s", narrow)
			f.panels(a, wide, dst, ldd, w, size, x)
			a.op("SUB $%d, %v", wide, panels)
			a.op("B %s", again)
		}
		a.put(narrow)
		a.op("CBZ %v, %s", panels, done)
		f.panels(a, 1, dst, ldd, w, size, x)
		a.op("SUB $1, %v", panels)
		a.op("B %s", narrow)
		a.put(done)
	})
}

// panels multiplies by the given number of panels and advances dst and w.
func (f floatFormat) panels(a *asm, panels int, dst, ldd, w, size reg, x []reg) {
	a.scope(func() {
		acc := make([][]vec, len(x))
		for r := range acc {
			acc[r] = a.vecs(4 * panels)
			a.zero(acc[r]...)
		}
		at := []reg{a.copyOf(w)}
		for range panels - 1 {
			next := a.reg()
			a.op("ADD %v, %v, %v", size, at[len(at)-1], next)
			at = append(at, next)
		}
		inputs := a.param("n")
		in, weights := a.vecs(len(x)), a.vecs(4)
		add := func(lane int) {
			for i, w := range at {
				f.load(a, w, 16*f.size*lane, weights)
				for r := range x {
					for j, v := range weights {
						a.lane("fmla.s", acc[r][4*i+j], v, in[r], lane)
					}
				}
			}
		}
		step := func(n int) {
			for _, w := range at {
				a.op("ADD $%d, %v", 16*f.size*n, w)
			}
			for _, x := range x {
				a.op("ADD $%d, %v", 4*n, x)
			}
			a.op("SUB $%d, %v", n, inputs)
		}
		fours, ones, out := a.label("fours"), a.label("ones"), a.label("out")
		a.put(fours)
		a.op("CMP $4, %v", inputs)
		a.op("BLT %s", ones)
		for r, x := range x {
			a.load(x, 0, in[r])
		}
		for lane := range 4 {
			add(lane)
		}
		step(4)
		a.op("B %s", fours)
		a.put(ones)
		a.op("CBZ %v, %s", inputs, out)
		for r, x := range x {
			a.op("FMOVS (%v), F%d", x, in[r])
		}
		add(0)
		step(1)
		a.op("B %s", ones)
		a.put(out)

		row, back := a.copyOf(dst), a.param("n")
		for r := range x {
			a.store(row, 0, acc[r]...)
			if r < len(x)-1 {
				a.op("ADD %v, %v", ldd, row)
			}
			a.op("SUB %v<<2, %v", back, x[r])
		}
		a.op("ADD $%d, %v", 64*panels, dst)
		for range panels {
			a.op("ADD %v, %v", size, w)
		}
		a.release(in...)
		a.release(weights...)
		for _, v := range acc {
			a.release(v...)
		}
	})
}

package main

import "math"

// The functions around products: callers pass whole vectors of 8 or 16
// elements and give the rest in buffers.

func (a *asm) splatFloat(x float32) vec { return a.splat(math.Float32bits(x)) }

// largest finds max|x|.
func largest(a *asm) {
	a.function("largestAsm", "returns the bits of max|x| over blocks of 32; a NaN is above all.",
		"x *float32, blocks int", "uint32", func() {
			x, blocks := a.param("x"), a.param("blocks")
			top, v := a.vec(), a.vecs(8)
			a.zero(top)
			a.loop("block", blocks, func() {
				a.load(x, 0, v...)
				for _, v := range v { // magnitudes are in the order of their bits
					a.do("fabs", v, v)
				}
				for n := 4; n > 0; n /= 2 {
					for i := range n {
						a.do("umax", v[i], v[i], v[i+n])
					}
				}
				a.do("umax", top, top, v[0])
				a.op("ADD $128, %v", x)
			})
			a.do("umaxv", top, top)
			a.op("FMOVS F%d, ret+%d(FP)", top, a.result)
		})
}

// quantize makes the blocks of an activation row.
func quantize(a *asm) {
	a.function("quantizeAsm", "writes blocks of an activation row: x·inv rounded to 16 bits.",
		"dst *byte, x *float32, inv float32, blocks int", "", func() {
			dst, x, blocks := a.param("dst"), a.param("x"), a.param("blocks")
			inv, v, s := a.float("inv"), a.vecs(8), a.vecs(4)
			a.loop("block", blocks, func() {
				a.load(x, 0, v...)
				for _, v := range v {
					a.do("fmul", v, v, inv)
					a.do("fcvtns", v, v)
				}
				for i := range s {
					a.do("add", s[i], v[2*i], v[2*i+1])
				}
				a.do("add", s[0], s[0], s[1])
				a.do("add", s[2], s[2], s[3])
				// Sums of the halves, twice; of the block; that before the others.
				a.do("addp", s[0], s[0], s[2])
				a.do("addp", s[0], s[0], s[0])
				a.do("addp", s[1], s[0], s[0])
				a.op("VEXT $12, %v.B16, %v.B16, %v.B16", s[0], s[1], s[0])
				a.do("scvtf", s[0], s[0])
				a.store(dst, actSum, s[0])
				for i := 0; i < 8; i += 2 { // to words
					a.do("xtn.4h", v[i], v[i])
					a.do("xtn2.8h", v[i], v[i+1])
				}
				for i := 0; i < 8; i += 4 { // to bytes
					split(a, v[i], v[i+2], v[i+1], v[i+3])
				}
				a.store(dst, 0, v[1], v[5])
				a.store(dst, actLow, v[3], v[7])
				a.op("ADD $%d, %v", actBlock, dst)
				a.op("ADD $128, %v", x)
			})
		})
}

// split cuts the words q of v and w into bytes, q = 256·hi + lo, both signed.
func split(a *asm, v, w, hi, lo vec) {
	a.do("rshrn.8b", hi, v)
	a.do("rshrn2.16b", hi, w)
	a.do("xtn.8b", lo, v)
	a.do("xtn2.16b", lo, w)
}

func sumSquares(a *asm) {
	a.function("sumSquaresAsm", "adds the squares of vectors of 16 to the lanes.",
		"lanes *[16]float32, x *float32, vectors int", "", func() {
			lanes, x, vectors := a.param("lanes"), a.param("x"), a.param("vectors")
			sum, v := a.vecs(4), a.vecs(4)
			a.load(lanes, 0, sum...)
			a.loop("next", vectors, func() {
				a.load(x, 0, v...)
				for i, v := range v {
					a.do("fmla", sum[i], v, v)
				}
				a.op("ADD $64, %v", x)
			})
			a.store(lanes, 0, sum...)
		})
}

func normalize(a *asm) {
	a.function("normalizeAsm", "computes dst = x·r·weight over vectors of 8.",
		"dst *float32, x *float32, weight *float32, r float32, vectors int", "", func() {
			dst, x, weight, vectors := a.param("dst"), a.param("x"), a.param("weight"), a.param("vectors")
			r, v, w := a.float("r"), a.vecs(2), a.vecs(2)
			a.loop("next", vectors, func() {
				a.load(x, 0, v...)
				a.load(weight, 0, w...)
				for i, v := range v {
					a.do("fmul", v, v, r)
					a.do("fmul", v, v, w[i])
				}
				a.store(dst, 0, v...)
				a.advance(32, dst, x, weight)
			})
		})
}

func (a *asm) advance(by int, regs ...reg) {
	for _, r := range regs {
		a.op("ADD $%d, %v", by, r)
	}
}

func rope(a *asm) {
	a.function("ropeAsm", "rotates the pairs (a, b) over vectors of 8.",
		"a *float32, b *float32, cos *float32, sin *float32, vectors int", "", func() {
			pa, pb, pc, ps, vectors := a.param("a"), a.param("b"), a.param("cos"), a.param("sin"), a.param("vectors")
			x, y, c, s := a.vecs(2), a.vecs(2), a.vecs(2), a.vecs(2)
			t := a.vec()
			a.loop("next", vectors, func() {
				a.load(pa, 0, x...)
				a.load(pb, 0, y...)
				a.load(pc, 0, c...)
				a.load(ps, 0, s...)
				for i := range x {
					a.do("fmul", t, y[i], s[i])
					a.do("fmul", s[i], x[i], s[i])
					a.do("fneg", t, t)
					a.do("fmla", t, x[i], c[i])    // a·cos - b·sin
					a.do("fmla", s[i], y[i], c[i]) // b·cos + a·sin
					a.store(pa, 16*i, t)
				}
				a.store(pb, 0, s...)
				a.advance(32, pa, pb, pc, ps)
			})
		})
}

// exponential computes 2^x for x ≥ -126, in place.
type exponential struct {
	a            *asm
	coefficients reg // where all lie, from the highest
	highest      vec
	bias         vec
	n, p         []vec
}

var coefficients = []float32{0x1.5bba14p-10, 0x1.3cea88p-7, 0x1.c6b752p-5, 0x1.ebf9bcp-3, 0x1.62e42ap-1, 1}

// exponential takes registers for that many vectors at a time.
func (a *asm) exponential(together int) exponential {
	e := exponential{a: a, coefficients: a.reg(), highest: a.splatFloat(coefficients[0]), bias: a.splat(127)}
	a.op("MOVD $exp2<>(SB), %v", e.coefficients)
	e.n, e.p = a.vecs(together), a.vecs(2*together)
	return e
}

// power replaces x by 2^x. An FMLA writes over what it adds to, so each
// coefficient is wanted anew: loads have pipes of their own.
func (e exponential) power(x ...vec) {
	var bodies []func()
	for i, x := range x {
		bodies = append(bodies, func() {
			a, n, p, next := e.a, e.n[i], e.p[2*i], e.p[2*i+1]
			a.do("frintn", p, x)
			a.do("fcvtns", n, x)
			a.do("fsub", x, x, p)
			a.do("add", n, n, e.bias)
			a.load(e.coefficients, 16, p)
			a.do("fmla", p, x, e.highest)
			for c := 2; c < len(coefficients); c++ {
				a.load(e.coefficients, 16*c, next)
				a.do("fmla", next, x, p)
				p, next = next, p
			}
			a.do("shl.23", n, n)
			a.do("fmul", x, p, n)
		})
	}
	e.a.interleave(bodies...)
}

func swiGLU(a *asm) {
	a.function("swiGLUAsm", "computes dst = gate·sigmoid(gate)·up over vectors of 8.",
		"dst *float32, gate *float32, up *float32, vectors int", "", func() {
			dst, gate, up, vectors := a.param("dst"), a.param("gate"), a.param("up"), a.param("vectors")
			e := a.exponential(2)
			log2e, least, most, one := a.splatFloat(-math.Log2E), a.splatFloat(-126), a.splatFloat(126), a.splatFloat(1)
			g, u, t := a.vecs(2), a.vecs(2), a.vecs(2)
			a.loop("next", vectors, func() {
				a.load(gate, 0, g...)
				a.load(up, 0, u...)
				for i, t := range t {
					a.do("fmul", t, g[i], log2e)
					a.do("fmax", t, t, least)
					a.do("fmin", t, t, most)
				}
				e.power(t...)
				for i, t := range t {
					a.do("fadd", t, t, one)
					a.do("fdiv", t, g[i], t)
					a.do("fmul", t, t, u[i])
				}
				a.store(dst, 0, t...)
				a.advance(32, dst, gate, up)
			})
		})
}

func add(a *asm) {
	a.function("addAsm", "computes dst += x over vectors of 8.",
		"dst *float32, x *float32, vectors int", "", func() {
			dst, x, vectors := a.param("dst"), a.param("x"), a.param("vectors")
			v, w := a.vecs(2), a.vecs(2)
			a.loop("next", vectors, func() {
				a.load(dst, 0, v...)
				a.load(x, 0, w...)
				for i, v := range v {
					a.do("fadd", v, v, w[i])
				}
				a.store(dst, 0, v...)
				a.advance(32, dst, x)
			})
		})
}

// sum reads memory in order and does as little as possible with it.
func sum(a *asm) {
	a.function("sumNEON", "returns the sum of blocks of 256 bytes.", "x *uint64, blocks int", "uint64", func() {
		x, blocks, acc, v := a.param("x"), a.param("blocks"), a.vecs(4), a.vecs(16)
		a.zero(acc...)
		a.loop("block", blocks, func() {
			a.load(x, 0, v...)
			for i, v := range v {
				a.do("add.2d", acc[i%4], acc[i%4], v)
			}
			a.advance(256, x)
		})
		a.do("add.2d", acc[0], acc[0], acc[1])
		a.do("add.2d", acc[2], acc[2], acc[3])
		a.do("add.2d", acc[0], acc[0], acc[2])
		lo, hi := a.reg(), a.reg()
		a.op("VMOV %v.D[0], %v", acc[0], lo)
		a.op("VMOV %v.D[1], %v", acc[0], hi)
		a.op("ADD %v, %v", hi, lo)
		a.op("MOVD %v, ret+%d(FP)", lo, a.result)
	})
}

package main

import (
	"fmt"
	"math"
)

// Attention over one tile, in the phases that package kernel strings together:
// scores of rows with keys, softmax of a row, values weighted. Scores and
// values take a chunk of slots at a time; package ref draws tiles.
const (
	chunk    = 16
	rowBytes = 4 * 256 // a row of scores, and of the weights that replace them
)

// scoresQ8 writes the scores of n rows over chunks of slots. Keys lose their
// bias (one EOR for 16 bytes, whatever the rows); then an SDOT multiplies four
// elements of four slots by four elements of a query, as in products. With D
// elements, 16·D products of a row take D SDOTs, and rows share D EORs and D/2
// loads: 0.18 instructions a product for one row, 0.10 for four.
func scoresQ8(a *asm, n int) {
	a.function(fmt.Sprintf("scoresQ8Rows%dNEON", n), fmt.Sprintf("writes the scores of %d rows of q over chunks of 16 slots.", n),
		"s *float32, q *byte, ldq int, k *byte, scale *float32, dim int, chunks int", "", func() {
			s, q, k, scale := a.param("s"), a.rows("q", "ldq", n), a.param("k"), a.param("scale")
			dim, chunks, left := a.param("dim"), a.param("chunks"), a.reg()
			a.op("LSR $4, %v", dim)
			bias := a.vec()
			a.op("VMOVI $128, %v.B16", bias)
			a.loop("chunk", chunks, func() {
				acc := make([][]vec, n)
				for r := range acc {
					acc[r] = a.vecs(4)
					a.zero(acc[r]...)
				}
				in, keys := a.vecs(n), a.vecs(4)
				a.op("MOVD %v, %v", dim, left)
				a.loop("elements", left, func() {
					for r, q := range q {
						a.load(q, 0, in[r])
					}
					for g := range 4 {
						a.load(k, 64*g, keys...)
						for _, v := range keys {
							a.do("eor", v, v, bias)
						}
						for r := range n {
							for i, v := range keys {
								a.lane("sdot", acc[r][i], v, in[r], g)
							}
						}
					}
					a.advance(256, k)
					a.advance(16, q...)
				})
				a.load(scale, 0, keys...)
				for r, q := range q {
					a.op("FMOVS (%v), F%d", q, in[r]) // the query's scale
					for i, v := range acc[r] {
						a.do("scvtf", v, v)
						a.do("fmul", v, v, keys[i])
						a.lane("fmul.s", v, v, in[r], 0)
					}
					storeFar(a, s, r*rowBytes, acc[r])
					a.op("SUB %v<<4, %v", dim, q)
				}
				a.advance(64, s, scale)
				a.release(in...)
				a.release(keys...)
				for _, v := range acc {
					a.release(v...)
				}
			})
		})
}

// storeFar stores four registers at an offset beyond what pairs reach.
func storeFar(a *asm, base reg, offset int, v []vec) {
	if offset == 0 {
		a.store(base, 0, v...)
		return
	}
	a.scope(func() {
		far := a.reg()
		a.op("ADD $%d, %v, %v", offset, base, far)
		a.store(far, 0, v...)
	})
}

// scores is the same for keys of floats: a fused multiply-add takes an element
// of four slots, and the element of the query from a lane.
func (f floatFormat) scores(a *asm, n int) {
	a.function(fmt.Sprintf("scores%sRows%dNEON", f.name, n), fmt.Sprintf("writes the scores of %d rows of q over chunks of 16 slots.", n),
		"s *float32, q *byte, ldq int, k *byte, dim int, chunks int", "", func() {
			s, q, k := a.param("s"), a.rows("q", "ldq", n), a.param("k")
			dim, chunks, left := a.param("dim"), a.param("chunks"), a.reg()
			a.op("LSR $2, %v", dim)
			a.loop("chunk", chunks, func() {
				acc := make([][]vec, n)
				for r := range acc {
					acc[r] = a.vecs(4)
					a.zero(acc[r]...)
				}
				in, keys := a.vecs(n), a.vecs(4)
				a.op("MOVD %v, %v", dim, left)
				a.loop("elements", left, func() {
					for r, q := range q {
						a.load(q, 0, in[r])
					}
					for e := range 4 {
						f.load(a, k, 16*f.size*e, keys)
						for r := range n {
							for i, v := range keys {
								a.lane("fmla.s", acc[r][i], v, in[r], e)
							}
						}
					}
					a.advance(64*f.size, k)
					a.advance(16, q...)
				})
				for r, q := range q {
					storeFar(a, s, r*rowBytes, acc[r])
					a.op("SUB %v<<4, %v", dim, q)
				}
				a.advance(64, s)
				a.release(in...)
				a.release(keys...)
				for _, v := range acc {
					a.release(v...)
				}
			})
		})
}

// softmax turns a row of scores into weights, which the caller has set to -Inf
// where the row does not see. Of q8_0 the weights carry the values' scales.
func softmax(a *asm, ints bool) {
	name := "softmaxFloatsNEON"
	if ints {
		name = "softmaxIntsNEON"
	}
	a.function(name, "turns chunks of scores into weights. It writes masses, if any, and to out the largest score, the sum of powers and the largest weight.",
		"s *float32, scale *float32, mass *float32, floor float32, chunks int, out *[4]float32", "", func() {
			s, scale, mass, chunks, out := a.param("s"), a.param("scale"), a.param("mass"), a.param("chunks"), a.param("out")
			v := a.vecs(4)
			at, left, done := a.copyOf(s), a.copyOf(chunks), a.label("done")

			infinity := uint32(math.Float32bits(float32(math.Inf(-1))))
			largest := a.splat(infinity)
			a.loop("largest", left, func() {
				a.load(at, 0, v...)
				a.do("fmax", v[0], v[0], v[1])
				a.do("fmax", v[2], v[2], v[3])
				a.do("fmax", v[0], v[0], v[2])
				a.do("fmax", largest, largest, v[0])
				a.advance(64, at)
			})
			a.do("fmaxv", largest, largest)
			a.spread(largest, largest)
			a.zero(v[0])
			a.do("fadd", largest, largest, v[0]) // of zeros the positive one
			a.op("FMOVS F%d, (%v)", largest, out)
			// A row that sees nothing ends here.
			bits := a.reg()
			a.op("FMOVS F%d, %v", largest, bits)
			none := a.reg()
			a.op("MOVW $0x%08x, %v", infinity, none)
			a.op("CMPW %v, %v", none, bits)
			a.op("BEQ %s", done)

			e := a.exponential(2)
			// What underflows weighs nothing, nor what is below the floor.
			least, floor := a.splatFloat(-126), a.float("floor")
			a.do("fsub", floor, floor, largest)
			a.do("fmax", least, least, floor)
			a.release(floor)
			sum, seen := a.vecs(4), a.vecs(4)
			heaviest := a.vec()
			a.zero(append(sum, heaviest)...)
			a.loop("powers", chunks, func() {
				a.load(s, 0, v...)
				for _, v := range v {
					a.do("fsub", v, v, largest)
				}
				for i, v := range v {
					a.do("fcmge", seen[i], v, least)
				}
				for i := 0; i < 4; i += 2 {
					e.power(v[i : i+2]...)
				}
				for i, v := range v {
					a.do("and", v, v, seen[i])
					a.do("fadd", sum[i], sum[i], v)
				}
				noMass := a.label("noMass")
				a.op("CBZ %v, %s", mass, noMass)
				t := e.n
				a.do("fadd", t[0], v[0], v[2])
				a.do("fadd", t[1], v[1], v[3])
				tree(a, t[0], t[1])
				a.op("FMOVS F%d, (%v)", t[0], mass)
				a.advance(4, mass)
				a.put(noMass)
				if ints {
					// The scale of a slot that the row does not see may be
					// anything: its weight, 0 times that, is 0 or a NaN, which
					// rounds to 0.
					w := e.p
					a.load(scale, 0, w...)
					for i, v := range v {
						a.do("fmul", v, v, w[i])
						a.do("fmaxnm", heaviest, heaviest, v)
					}
					a.advance(64, scale)
				}
				a.store(s, 0, v...)
				a.advance(64, s)
			})
			a.do("fadd", sum[0], sum[0], sum[2])
			a.do("fadd", sum[1], sum[1], sum[3])
			tree(a, sum[0], sum[1])
			a.op("FMOVS F%d, 4(%v)", sum[0], out)
			a.do("fmaxv", heaviest, heaviest)
			a.op("FMOVS F%d, 8(%v)", heaviest, out)
			a.put(done)
		})
}

// tree adds the eight lanes of v and w: 4 apart, 2 apart, then neighbours.
func tree(a *asm, v, w vec) {
	a.do("fadd", v, v, w)
	a.do("ext.half", w, v, v)
	a.do("fadd", v, v, w)
	a.do("faddp", v, v, v)
}

// round replaces a row of weights by integers of 15 bits, as the bytes that
// values multiplies: of each chunk 16 upper ones and then 16 lower ones, both
// signed. Down to -32767 all integers have such bytes, but up to 32767 not all:
// so the integers are negative, by a negative factor.
func round(a *asm) {
	a.function("roundNEON", "replaces weights of chunks by bytes of the integers that they are when multiplied by inv ≤ 0.",
		"p *byte, s *float32, inv float32, chunks int", "", func() {
			p, s, chunks := a.param("p"), a.param("s"), a.param("chunks")
			inv, v, bytes := a.float("inv"), a.vecs(4), a.vecs(2)
			a.loop("chunk", chunks, func() {
				a.load(s, 0, v...)
				for _, v := range v {
					a.do("fmul", v, v, inv)
					a.do("fcvtns", v, v)
				}
				for i := 0; i < 4; i += 2 {
					a.do("xtn.4h", v[i], v[i])
					a.do("xtn2.8h", v[i], v[i+1])
				}
				split(a, v[0], v[2], bytes[0], bytes[1])
				a.store(p, 0, bytes...)
				a.advance(64, s)
				a.advance(32, p)
			})
		})
}

// valuesQ8 writes the sums of values by the integer weights of n rows, times a
// scale a row. Values are signed bytes of four slots side by side, and an SDOT
// multiplies four elements by the upper or by the lower bytes of four weights.
// Of 16 slots and D elements, 16·D products of a row take 2·D SDOTs and no other
// vector instruction; one row takes 0.19 instructions a product, four take 0.16.
func valuesQ8(a *asm, n int) {
	a.function(fmt.Sprintf("valuesQ8Rows%dNEON", n), fmt.Sprintf("writes the values of chunks of 16 slots, weighted by p, of %d rows.", n),
		"o *float32, scale *float32, p *byte, v *byte, dim int, chunks int", "", func() {
			o, scale, p, values := a.param("o"), a.param("scale"), a.rowsApart(a.param("p"), rowBytes, n), a.param("v")
			dim, left, quads := a.param("dim"), a.reg(), a.reg()
			chunks := a.param("chunks")
			stride := a.copyOf(dim) // of quads of slots
			a.op("LSL $2, %v", stride)
			width := 4 // vectors of elements
			if n > 2 {
				width = 2
			}
			a.op("LSR $%d, %v, %v", 2+width/2, dim, left)
			elements := left
			acc, low := make([][]vec, n), make([][]vec, n)
			for r := range n {
				acc[r], low[r] = a.vecs(width), a.vecs(width)
			}
			weights, v := a.vecs(2*n), a.vecs(width)
			at := a.reg()
			a.loop("elements", elements, func() {
				for r := range n {
					a.zero(acc[r]...)
					a.zero(low[r]...)
				}
				a.op("MOVD %v, %v", chunks, quads)
				a.op("MOVD %v, %v", values, at)
				a.loop("chunk", quads, func() {
					for r, p := range p {
						a.load(p, 0, weights[2*r:2*r+2]...)
					}
					for g := range 4 {
						a.load(at, 0, v...)
						a.op("ADD %v, %v", stride, at)
						for r := range n {
							for i, v := range v {
								a.lane("sdot", acc[r][i], v, weights[2*r], g)
								a.lane("sdot", low[r][i], v, weights[2*r+1], g)
							}
						}
					}
					a.advance(32, p...)
				})
				a.scope(func() {
					row, by := a.copyOf(o), weights[0]
					for r, p := range p {
						a.op("SUB %v<<5, %v", chunks, p)
						a.op("FMOVS %d(%v), F%d", 4*r, scale, by)
						for i, v := range acc[r] {
							a.do("shl.8", v, v)
							a.do("add", v, v, low[r][i])
							a.do("neg", v, v)
							a.do("scvtf", v, v)
							a.lane("fmul.s", v, v, by, 0)
						}
						a.store(row, 0, acc[r]...)
						a.op("ADD %v, %v", stride, row)
					}
				})
				a.advance(16*width, o, values)
			})
		})
}

// rowsApart returns pointers to n rows from x on.
func (a *asm) rowsApart(x reg, by, n int) []reg {
	rows := []reg{x}
	for i := 1; i < n; i++ {
		next := a.reg()
		a.op("ADD $%d, %v, %v", i*by, x, next)
		rows = append(rows, next)
	}
	return rows
}

// values is the same for floats, slot by slot: a chain of fused multiply-adds
// for each element.
func (f floatFormat) values(a *asm, n int) {
	a.function(fmt.Sprintf("values%sRows%dNEON", f.name, n), fmt.Sprintf("writes the values of slots, weighted by p, of %d rows.", n),
		"o *float32, p *float32, v *byte, dim int, slots int", "", func() {
			o, p, values := a.param("o"), a.rowsApart(a.param("p"), rowBytes, n), a.param("v")
			dim, slots := a.param("dim"), a.param("slots")
			stride, ld, left, at := a.copyOf(dim), a.copyOf(dim), a.reg(), a.reg()
			a.op("LSL $%d, %v", f.size/2, stride)
			a.op("LSL $2, %v", ld)
			a.op("LSR $4, %v", dim)
			acc := make([][]vec, n)
			for r := range n {
				acc[r] = a.vecs(4)
			}
			v, w := a.vecs(4), a.vecs(n)
			a.loop("elements", dim, func() {
				for r := range n {
					a.zero(acc[r]...)
				}
				a.op("MOVD %v, %v", slots, left)
				a.op("MOVD %v, %v", values, at)
				a.loop("slot", left, func() {
					f.load(a, at, 0, v)
					a.op("ADD %v, %v", stride, at)
					for r, p := range p {
						a.op("FMOVS.P 4(%v), F%d", p, w[r])
						for i, v := range v {
							a.lane("fmla.s", acc[r][i], v, w[r], 0)
						}
					}
				})
				a.scope(func() {
					row := a.copyOf(o)
					for r, p := range p {
						a.op("SUB %v<<2, %v", slots, p)
						a.store(row, 0, acc[r]...)
						a.op("ADD %v, %v", ld, row)
					}
				})
				a.advance(64, o)
				a.advance(16*f.size, values)
			})
		})
}

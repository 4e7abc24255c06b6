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
// where the row does not see. Of q8_0 the weights carry the values' scales. If it is
// sparse, it passes over chunks without a score as high as the floor, less what
// rounding may take from a difference, and says which remain.
func softmax(a *asm, ints, sparse bool) {
	name, params := "softmaxFloatsNEON", ""
	switch {
	case sparse:
		name, params = "sparseSoftmaxNEON", ", remain *uint64"
	case ints:
		name = "softmaxIntsNEON"
	}
	a.function(name, "turns chunks of scores into weights. It writes masses, if any, and to out the largest score, the sum of powers and the largest weight.",
		"s *float32, scale *float32, mass *float32, floor float32, chunks int, out *[4]float32"+params, "", func() {
			s, scale, mass, chunks, out := a.param("s"), a.param("scale"), a.param("mass"), a.param("chunks"), a.param("out")
			v := a.vecs(4)
			at, left, done := a.copyOf(s), a.copyOf(chunks), a.label("done")
			var remain, bit reg
			var low vec
			if sparse {
				remain, bit, low = a.reg(), a.reg(), a.float("floor")
				slack := a.splatFloat(0x1p-16)
				a.do("fsub", low, low, slack)
				a.release(slack)
				a.op("MOVD $0, %v", remain)
				a.op("MOVD $1, %v", bit)
			}

			infinity := uint32(math.Float32bits(float32(math.Inf(-1))))
			largest := a.splat(infinity)
			a.loop("largest", left, func() {
				a.load(at, 0, v...)
				a.do("fmax", v[0], v[0], v[1])
				a.do("fmax", v[2], v[2], v[3])
				a.do("fmax", v[0], v[0], v[2])
				a.do("fmax", largest, largest, v[0])
				if sparse {
					a.do("fcmge", v[0], v[0], low)
					a.setIf(v[0], bit, remain)
					a.op("LSL $1, %v", bit)
				}
				a.advance(64, at)
			})
			a.do("fmaxv", largest, largest)
			a.spread(largest, largest)
			a.zero(v[0])
			a.do("fadd", largest, largest, v[0]) // of zeros the positive one
			a.op("FMOVS F%d, (%v)", largest, out)
			// A row that sees nothing ends here, or leaves the tile out.
			bits := a.reg()
			a.op("FMOVS F%d, %v", largest, bits)
			none := a.reg()
			a.op("MOVW $0x%08x, %v", infinity, none)
			a.op("CMPW %v, %v", none, bits)
			a.op("BEQ %s", done)
			least, floor := a.splatFloat(-126), a.float("floor")
			if sparse {
				a.release(low)
				a.op("FCMPS F%d, F%d", floor, largest)
				a.op("BLT %s", done)
			}

			e := a.exponential(2)
			// What underflows weighs nothing, nor what is below the floor.
			a.do("fsub", floor, floor, largest)
			a.do("fmax", least, least, floor)
			a.release(floor)
			sum, seen := a.vecs(4), a.vecs(4)
			heaviest := a.vec()
			a.zero(append(sum, heaviest)...)
			powers := func(s, scale, mass reg) {
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
				if !sparse {
					a.advance(4, mass)
				}
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
				}
				a.store(s, 0, v...)
			}
			if sparse {
				a.op("MOVD %v, (%v)", remain, a.param("remain"))
				a.bits("powers", remain, func(c reg) {
					s1, scale1, mass1, none := a.reg(), a.reg(), a.reg(), a.label("none")
					a.op("ADD %v<<6, %v, %v", c, s, s1)
					a.op("ADD %v<<6, %v, %v", c, scale, scale1)
					a.op("MOVD %v, %v", mass, mass1)
					a.op("CBZ %v, %s", mass, none)
					a.op("ADD %v<<2, %v, %v", c, mass, mass1)
					a.put(none)
					powers(s1, scale1, mass1)
				})
			} else {
				a.loop("powers", chunks, func() {
					powers(s, scale, mass)
					a.advance(64, s, scale)
				})
			}
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
// so the integers are negative, by a negative factor. If it is sparse, it takes some
// chunks only, and says which have lower bytes alone, and which have upper ones.
func round(a *asm, sparse bool) {
	name, params := "roundNEON", "chunks int"
	if sparse {
		name, params = "sparseRoundNEON", "chunks uint64, small *uint64, large *uint64"
	}
	a.function(name, "replaces weights of chunks by bytes of the integers that they are when multiplied by inv ≤ 0.",
		"p *byte, s *float32, inv float32, "+params, "", func() {
			p, s, chunks := a.param("p"), a.param("s"), a.param("chunks")
			inv, v, bytes := a.float("inv"), a.vecs(4), a.vecs(2)
			chunk := func(p, s reg) {
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
			}
			if !sparse {
				a.loop("chunk", chunks, func() {
					chunk(p, s)
					a.advance(64, s)
					a.advance(32, p)
				})
				return
			}
			small, large := a.reg(), a.reg()
			a.op("MOVD $0, %v", small)
			a.op("MOVD $0, %v", large)
			a.bits("chunk", chunks, func(c reg) {
				p1, s1, bit := a.reg(), a.reg(), a.reg()
				a.op("ADD %v<<5, %v, %v", c, p, p1)
				a.op("ADD %v<<6, %v, %v", c, s, s1)
				chunk(p1, s1)
				a.op("MOVD $1, %v", bit)
				a.op("LSL %v, %v", c, bit)
				a.do("umax", v[0], bytes[0], bytes[1])
				a.setIf(v[0], bit, small)
				a.setIf(bytes[0], bit, large)
			})
			a.op("BIC %v, %v", large, small)
			a.op("MOVD %v, (%v)", small, a.param("small"))
			a.op("MOVD %v, (%v)", large, a.param("large"))
		})
}

// setIf sets bits in x if v, which it overwrites, is not zero.
func (a *asm) setIf(v vec, bits, x reg) {
	a.scope(func() {
		some, then := a.reg(), a.reg()
		a.do("umaxv", v, v)
		a.op("FMOVS F%d, %v", v, some)
		a.op("ORR %v, %v, %v", bits, x, then)
		a.op("CMPW $0, %v", some)
		a.op("CSEL NE, %v, %v, %v", then, x, x)
	})
}

// bits runs body for the bits of x, if any, from the lowest, and uses x up.
func (a *asm) bits(what string, x reg, body func(i reg)) {
	a.scope(func() {
		i, label, done := a.reg(), a.label(what), a.label("done")
		a.op("CBZ %v, %s", x, done)
		a.put(label)
		a.op("RBIT %v, %v", x, i)
		a.op("CLZ %v, %v", i, i)
		body(i)
		a.op("SUB $1, %v, %v", x, i)
		a.op("AND %v, %v", i, x)
		a.op("CBNZ %v, %s", x, label)
		a.put(done)
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

// sparseValues is valuesQ8 for one row and some chunks: those in which weights have
// upper bytes, and those in which they have not.
func sparseValues(a *asm) {
	a.function("sparseValuesNEON", "writes the values of some chunks of 16 slots, weighted by p.",
		"o *float32, scale float32, p *byte, v *byte, dim int, small uint64, large uint64", "", func() {
			o, p, values, dim := a.param("o"), a.param("p"), a.param("v"), a.param("dim")
			stride := a.copyOf(dim) // of quads of slots
			a.op("LSL $2, %v", stride)
			a.op("LSR $4, %v", dim)
			const width = 4 // vectors of elements
			acc, low, other, v, weights := a.vecs(width), a.vecs(width), a.vecs(width), a.vecs(width), a.vecs(2)
			scale := a.float("scale")
			a.loop("elements", dim, func() {
				a.zero(acc...)
				a.zero(low...)
				a.zero(other...)
				for _, which := range []string{"large", "small"} {
					a.scope(func() {
						left, at := a.param(which), a.reg()
						a.bits(which, left, func(c reg) {
							a.op("ADD %v<<5, %v, %v", c, p, at)
							a.load(at, 0, weights...)
							a.op("MUL %v, %v, %v", stride, c, at)
							a.op("ADD %v<<2, %v, %v", at, values, at)
							for g := range 4 {
								a.load(at, 0, v...)
								a.op("ADD %v, %v", stride, at)
								for i, v := range v {
									to := low
									if which == "large" {
										a.lane("sdot", acc[i], v, weights[0], g)
									} else if g%2 == 1 {
										to = other
									}
									a.lane("sdot", to[i], v, weights[1], g)
								}
							}
						})
					})
				}
				for i, v := range acc {
					a.do("shl.8", v, v)
					a.do("add", low[i], low[i], other[i])
					a.do("add", v, v, low[i])
					a.do("neg", v, v)
					a.do("scvtf", v, v)
					a.lane("fmul.s", v, v, scale, 0)
				}
				a.store(o, 0, acc...)
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

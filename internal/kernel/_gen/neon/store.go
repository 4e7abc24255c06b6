package main

// merge writes a step of the merge over one state.
func merge(a *asm) {
	a.function("mergeAsm", "adds to a state what follows: its output o[:n], n a multiple of 16, its largest score, not -Inf, and its sum.",
		"state *float32, o *float32, largest float32, sum float32, n int", "", func() {
			state, o, n := a.param("state"), a.param("o"), a.param("n")
			end := a.reg()
			a.op("ADD %v<<2, %v, %v", n, state, end)
			fa, fb, top, sum, v, w := a.vec(), a.float("largest"), a.vec(), a.float("sum"), a.vecs(4), a.vecs(4)
			factors, e, least := []vec{fa, fb}, a.exponential(2), a.splatFloat(-126)
			a.load(end, 0, v[0])
			a.spread(fa, v[0])
			a.do("fmax", top, fa, fb)
			for i, f := range factors {
				a.do("fsub", f, f, top)
				a.do("fcmge", w[i], f, least)
			}
			e.power(factors...)
			for i, f := range factors {
				a.do("and", f, f, w[i])
			}
			a.do("fmul", v[0], v[0], fa)
			a.do("fmla", v[0], sum, fb)
			a.do("trn2", v[0], v[0], v[0])
			a.do("trn1", v[0], top, v[0])
			a.op("FMOVD F%d, (%v)", uint32(v[0]), end)
			a.op("LSR $4, %v", n)
			a.loop("step", n, func() {
				a.load(state, 0, v...)
				a.load(o, 0, w...)
				for i, v := range v {
					a.do("fmul", v, v, fa)
					a.do("fmla", v, w[i], fb)
				}
				a.store(state, 0, v...)
				a.advance(64, state, o)
			})
		})
}

// hadamard writes the butterflies of a product with the Hadamard matrix: at
// distances within 16 elements in registers, further ones through memory.
func hadamard(a *asm) {
	a.function("hadamardAsm", "multiplies x[:n], n a power of two ≥ 16, by the Hadamard matrix.", "x *float32, n int", "", func() {
		x, n := a.param("x"), a.param("n")
		v, w := a.vecs(4), a.vecs(4)
		at, left := a.copyOf(x), a.reg()
		a.op("LSR $4, %v, %v", n, left)
		butterfly := func(i, j int) { // of registers, on to w
			a.do("fadd", w[i], v[i], v[j])
			a.do("fsub", w[j], v[i], v[j])
		}
		swap := func() { v, w = w, v }
		a.loop("near", left, func() {
			a.load(at, 0, v...)
			// Neighbours, and then pairs of them, part into two registers, whose
			// sums and differences come together again.
			for _, trn := range [][2]string{{"trn1", "trn2"}, {"trn1.2d", "trn2.2d"}} {
				for i := 0; i < 4; i += 2 {
					a.do(trn[0], w[i], v[i], v[i+1])
					a.do(trn[1], w[i+1], v[i], v[i+1])
				}
				swap()
				for i := 0; i < 4; i += 2 {
					butterfly(i, i+1)
				}
				swap()
				for i := 0; i < 4; i += 2 {
					a.do(trn[0], w[i], v[i], v[i+1])
					a.do(trn[1], w[i+1], v[i], v[i+1])
				}
				swap()
			}
			butterfly(0, 1)
			butterfly(2, 3)
			swap()
			butterfly(0, 2)
			butterfly(1, 3)
			swap()
			a.store(at, 0, v...)
			a.advance(64, at)
		})

		// Blocks of 2d elements, d = 16, 32, …; in bytes.
		end, d, upper := a.reg(), a.reg(), a.reg()
		a.op("ADD %v<<2, %v, %v", n, x, end)
		a.op("LSL $2, %v", n)
		a.op("MOVD $64, %v", d)
		distance, block, done := a.label("distance"), a.label("block"), a.label("done")
		a.put(distance)
		a.op("CMP %v, %v", n, d)
		a.op("BGE %s", done)
		a.op("MOVD %v, %v", x, at)
		a.put(block)
		a.op("ADD %v, %v, %v", d, at, upper)
		a.op("LSR $5, %v, %v", d, left)
		a.loop("far", left, func() {
			lower, higher := v[:2], v[2:]
			a.load(at, 0, lower...)
			a.load(upper, 0, higher...)
			butterfly(0, 2)
			butterfly(1, 3)
			a.store(at, 0, w[:2]...)
			a.store(upper, 0, w[2:]...)
			a.advance(32, at, upper)
		})
		a.op("MOVD %v, %v", upper, at)
		a.op("CMP %v, %v", end, at)
		a.op("BLT %s", block)
		a.op("LSL $1, %v", d)
		a.op("B %s", distance)
		a.put(done)
	})
}

// head writes the quantization of a vector of a head, or of a query, for which
// sums of pairs count as elements do, and which is summed up.
func head(a *asm, query bool) {
	name, doc, params := "quantizeHeadAsm", "rounds x[:n], n a multiple of 16, to 127ths of the largest: x ≈ dst·result.", "dst *byte, x *float32, n int"
	if query {
		name, doc = "quantizeQueryAsm", "is quantizeHeadAsm where sums of pairs, too, are at most 127 steps; what it writes adds up to sums."
		params += ", sums *[8]int32"
	}
	a.function(name, doc, params, "float32", func() {
		dst, x, n := a.param("dst"), a.param("x"), a.param("n")
		largest, v := a.vec(), a.vecs(4)
		a.op("LSR $4, %v", n)
		a.zero(largest)
		at, left := a.copyOf(x), a.copyOf(n)
		a.loop("largest", left, func() {
			a.load(at, 0, v...)
			all := v
			if query {
				pairs := a.vecs(2)
				a.do("faddp", pairs[0], v[0], v[1])
				a.do("faddp", pairs[1], v[2], v[3])
				all = append(pairs, v...)
			}
			for _, v := range all {
				a.do("fabs", v, v)
				a.do("fmax", largest, largest, v)
			}
			a.advance(64, at)
		})
		a.do("fmaxv", largest, largest)
		a.spread(largest, largest)
		scale, most, tiny := a.vec(), a.splatFloat(127), a.splatFloat(0x1p-112)
		a.do("fdiv", scale, largest, most)
		a.op("FMOVS F%d, ret+%d(FP)", scale, a.result)
		a.do("fdiv", scale, most, largest)
		a.do("fcmge", tiny, largest, tiny)
		a.do("and", scale, scale, tiny)
		sum := a.vec()
		if query {
			a.zero(sum)
		}
		a.loop("round", n, func() {
			a.load(x, 0, v...)
			for _, v := range v {
				a.do("fmul", v, v, scale)
				a.do("fcvtns", v, v)
				if query {
					a.do("add", sum, sum, v)
				}
			}
			for i := 0; i < 4; i += 2 {
				a.do("xtn.4h", v[i], v[i])
				a.do("xtn2.8h", v[i], v[i+1])
			}
			a.do("xtn.8b", v[0], v[0])
			a.do("xtn2.16b", v[0], v[2])
			a.store(dst, 0, v[0])
			a.advance(64, x)
			a.advance(16, dst)
		})
		if query {
			zero := a.vec()
			a.zero(zero)
			a.store(a.param("sums"), 0, sum, zero)
		}
	})
}

// half writes the rounding of a vector to half precision.
func half(a *asm) {
	a.function("halfAsm", "rounds x[:n], n a multiple of 16, to half precision.", "dst *uint16, x *float32, n int", "", func() {
		dst, x, n := a.param("dst"), a.param("x"), a.param("n")
		v := a.vecs(4)
		a.op("LSR $4, %v", n)
		a.loop("step", n, func() {
			a.load(x, 0, v...)
			for i := 0; i < 4; i += 2 {
				a.do("fcvtn", v[i], v[i])
				a.do("fcvtn2", v[i], v[i+1])
			}
			a.store(dst, 0, v[0], v[2])
			a.advance(64, x)
			a.advance(32, dst)
		})
	})
}

package kernel

import "triforce/internal/invariant"

// checked makes the kernels of s verify the sizes that they otherwise take on
// trust, and panic where assembly would read or write beyond a slice.
func checked(s *Set) *Set {
	quantize, norm, rope, swiglu, add := s.Quantize, s.RMSNorm, s.Rope, s.SwiGLU, s.Add
	s.Quantize = func(dst []byte, x []float32) {
		room("Quantize: dst", len(dst), s.ActBytes(len(x)))
		quantize(dst, x)
	}
	s.RMSNorm = func(dst, x, weight []float32, eps float32) {
		room("RMSNorm: dst", len(dst), len(x))
		room("RMSNorm: weight", len(weight), len(x))
		norm(dst, x, weight, eps)
	}
	s.Rope = func(x, cos, sin []float32) {
		room("Rope: x", len(x), 2*len(cos))
		room("Rope: sin", len(sin), len(cos))
		rope(x, cos, sin)
	}
	s.SwiGLU = func(dst, gate, up []float32) {
		room("SwiGLU: dst", len(dst), len(gate))
		room("SwiGLU: up", len(up), len(gate))
		swiglu(dst, gate, up)
	}
	s.Add = func(dst, x []float32) {
		room("Add: dst", len(dst), len(x))
		add(dst, x)
	}
	for f := range numFormats {
		if matmul := s.MatMul[f]; matmul != nil {
			s.MatMul[f] = func(dst []float32, ldd int, w []byte, panels int, x []byte, ldx, rows, n int) {
				room("MatMul: dst", len(dst), span(rows, ldd, panels*Panel))
				room("MatMul: w", len(w), panels*f.PanelBytes(n))
				room("MatMul: x", len(x), span(rows, ldx, s.ActBytes(n)))
				matmul(dst, ldd, w, panels, x, ldx, rows, n)
			}
		}
		if matmul := s.MatMulFloat[f]; matmul != nil {
			s.MatMulFloat[f] = func(dst []float32, ldd int, w []byte, panels int, x []float32, ldx, rows, n int) {
				room("MatMulFloat: dst", len(dst), span(rows, ldd, panels*Panel))
				room("MatMulFloat: w", len(w), panels*f.PanelBytes(n))
				room("MatMulFloat: x", len(x), span(rows, ldx, n))
				matmul(dst, ldd, w, panels, x, ldx, rows, n)
			}
		}
	}
	reset, merge, finish := s.Reset, s.Merge, s.Finish
	s.Reset = func(state []float32, dim, rows int) {
		room("Reset: state", len(state), rows*StateLen(dim))
		reset(state, dim, rows)
	}
	s.Merge = func(state, next []float32, dim, rows int) {
		room("Merge: state", len(state), rows*StateLen(dim))
		room("Merge: next", len(next), rows*StateLen(dim))
		merge(state, next, dim, rows)
	}
	s.Finish = func(dst []float32, ldd int, state []float32, dim, rows int) {
		room("Finish: dst", len(dst), span(rows, ldd, dim))
		room("Finish: state", len(state), rows*StateLen(dim))
		finish(dst, ldd, state, dim, rows)
	}
	for t := range s.KV {
		s.KV[t] = checkedKV(s.KV[t])
	}
	return s
}

func checkedKV(kv KVKernels) KVKernels {
	c := kv
	slot := func(what string, tile []byte, at, dim int) {
		room(what, len(tile), kv.TileBytes(dim))
		index(what, at, Tile)
	}
	c.Store = func(tile []byte, at int, k, v []float32) {
		slot("Store: tile", tile, at, len(k))
		room("Store: v", len(v), len(k))
		kv.Store(tile, at, k, v)
	}
	c.Load = func(k, v []float32, tile []byte, at int) {
		slot("Load: tile", tile, at, len(k))
		room("Load: v", len(v), len(k))
		kv.Load(k, v, tile, at)
	}
	c.Move = func(dst []byte, to int, src []byte, from, dim int) {
		slot("Move: dst", dst, to, dim)
		slot("Move: src", src, from, dim)
		kv.Move(dst, to, src, from, dim)
	}
	c.Query = func(dst []byte, q []float32, scale float32) {
		room("Query: dst", len(dst), kv.QueryBytes(len(q)))
		kv.Query(dst, q, scale)
	}
	scored := func(a *AttendArgs, tile, scratch []byte) {
		room("Attend: Query", len(a.Query), a.Rows*kv.QueryBytes(a.Dim))
		if a.Spans != nil {
			room("Attend: Spans", len(a.Spans), a.Rows)
			for _, s := range a.Spans[:a.Rows] {
				index("Attend: span", int(s.Lo), Tile+1)
				index("Attend: span", int(s.Hi), Tile+1)
			}
		}
		room("Attend: tile", len(tile), kv.TileBytes(a.Dim))
		room("Attend: scratch", len(scratch), kv.ScratchBytes(a.Dim, a.Rows))
	}
	c.Attend = func(a *AttendArgs, tile, scratch []byte) {
		scored(a, tile, scratch)
		room("Attend: State", len(a.State), a.Rows*StateLen(a.Dim))
		if a.Floor != nil {
			room("Attend: Floor", len(a.Floor), a.Rows)
		}
		if len(a.Mass)%MassLen != 0 || a.Unweighed() < 0 {
			invariant.Failf("kernel: Attend: Mass has %d elements, needs %d for each of up to %d rows", len(a.Mass), MassLen, a.Rows)
		}
		kv.Attend(a, tile, scratch)
	}
	c.Peak = func(a *AttendArgs, tile, scratch []byte, peak []float32) {
		scored(a, tile, scratch)
		room("Peak: peak", len(peak), a.Rows)
		if a.Mass != nil {
			invariant.Failf("kernel: Peak: Mass is not nil")
		}
		kv.Peak(a, tile, scratch, peak)
	}
	return c
}

// span is the length of rows of n elements that lie ld elements apart.
func span(rows, ld, n int) int {
	if rows == 0 {
		return 0
	}
	return (rows-1)*ld + n
}

func room(what string, have, want int) {
	if want < 0 || have < want {
		invariant.Failf("kernel: %s has %d elements, needs %d", what, have, want)
	}
}

func index(what string, i, n int) {
	if i < 0 || i >= n {
		invariant.Failf("kernel: %s has an index of %d, needs one below %d", what, i, n)
	}
}

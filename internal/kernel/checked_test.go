package kernel

import (
	"fmt"
	"strings"
	"testing"
)

// TestChecked gives every kernel slices of the right sizes, then each slice in
// turn one element short.
func TestChecked(t *testing.T) {
	const dim, rows, n, panels = 40, 3, 70, 2
	s := checked(portable())
	type call struct {
		name string
		run  func(cut func(size int) int) // makes slices of cut(size)
	}
	floats := func(n int) []float32 { return make([]float32, n) }
	bytes := func(n int) []byte { return make([]byte, n) }
	calls := []call{
		{"Quantize", func(cut func(int) int) { s.Quantize(bytes(cut(s.ActBytes(n))), floats(n)) }},
		{"RMSNorm", func(cut func(int) int) { s.RMSNorm(floats(cut(n)), floats(n), floats(cut(n)), 1) }},
		{"Rope", func(cut func(int) int) { s.Rope(floats(cut(n)), floats(n/2), floats(cut(n/2))) }},
		{"SwiGLU", func(cut func(int) int) { s.SwiGLU(floats(cut(n)), floats(n), floats(cut(n))) }},
		{"Add", func(cut func(int) int) { s.Add(floats(cut(n)), floats(n)) }},
		{"Reset", func(cut func(int) int) { s.Reset(floats(cut(rows*StateLen(dim))), dim, rows) }},
		{"Merge", func(cut func(int) int) {
			s.Merge(floats(cut(rows*StateLen(dim))), floats(cut(rows*StateLen(dim))), dim, rows)
		}},
		{"Finish", func(cut func(int) int) {
			s.Finish(floats(cut((rows-1)*100+dim)), 100, floats(cut(rows*StateLen(dim))), dim, rows)
		}},
	}
	for f := range numFormats {
		if f.Float() {
			calls = append(calls, call{fmt.Sprintf("MatMulFloat/%d", f), func(cut func(int) int) {
				s.MatMulFloat[f](floats(cut((rows-1)*50+panels*Panel)), 50, bytes(cut(panels*f.PanelBytes(n))), panels,
					floats(cut((rows-1)*100+n)), 100, rows, n)
			}})
		} else {
			calls = append(calls, call{fmt.Sprintf("MatMul/%d", f), func(cut func(int) int) {
				s.MatMul[f](floats(cut((rows-1)*50+panels*Panel)), 50, bytes(cut(panels*f.PanelBytes(n))), panels,
					bytes(cut((rows-1)*1000+s.ActBytes(n))), 1000, rows, n)
			}})
		}
	}
	for form := range numKVTypes {
		kv := &s.KV[form]
		tile := kv.TileBytes(dim)
		name := func(kernel string) string { return fmt.Sprintf("%s/%v", kernel, form) }
		calls = append(calls,
			call{name("Store"), func(cut func(int) int) {
				kv.Store(bytes(cut(tile)), 0, floats(dim), floats(cut(dim)))
			}},
			call{name("Load"), func(cut func(int) int) { kv.Load(floats(dim), floats(cut(dim)), bytes(cut(tile)), 0) }},
			call{name("Move"), func(cut func(int) int) { kv.Move(bytes(cut(tile)), 1, bytes(cut(tile)), 2, dim) }},
			call{name("Query"), func(cut func(int) int) { kv.Query(bytes(cut(kv.QueryBytes(dim))), floats(dim), 1) }},
			call{name("Attend"), func(cut func(int) int) {
				a := &AttendArgs{
					Dim: dim, Rows: rows, State: floats(cut(rows * StateLen(dim))), Query: bytes(cut(rows * kv.QueryBytes(dim))),
					Spans: make([]Span, cut(rows)), Floor: floats(cut(rows)), Mass: floats(cut(rows * MassLen)),
				}
				kv.Attend(a, bytes(cut(tile)), nil)
			}},
			call{name("Peak"), func(cut func(int) int) {
				a := &AttendArgs{Dim: dim, Rows: rows, Query: bytes(cut(rows * kv.QueryBytes(dim))), Spans: make([]Span, cut(rows))}
				kv.Peak(a, bytes(cut(tile)), nil, floats(cut(rows)))
			}})
	}
	for _, c := range calls {
		slices := 0
		if why := violation(func() { c.run(func(size int) int { slices++; return size }) }); why != "" {
			t.Errorf("%s with enough room: %s", c.name, why)
		}
		for short := range slices {
			i := 0
			why := violation(func() {
				c.run(func(size int) int {
					if i++; i-1 == short {
						size--
					}
					return size
				})
			})
			if !strings.HasPrefix(why, "invariant violated: kernel: ") {
				t.Errorf("%s with slice %d too short: %q, expected a violation", c.name, short, why)
			}
		}
	}
	for _, slot := range []int{-1, Tile} {
		kv := &s.KV[KVF32]
		if violation(func() { kv.Store(bytes(2*kv.TileBytes(dim)), slot, floats(dim), floats(dim)) }) == "" {
			t.Errorf("slot %d passes", slot)
		}
	}
	for _, span := range []Span{{Lo: -1, Hi: 3}, {Lo: 0, Hi: Tile + 1}} {
		kv := &s.KV[KVF32]
		a := &AttendArgs{Dim: dim, Rows: 1, State: floats(StateLen(dim)), Query: bytes(kv.QueryBytes(dim)), Spans: []Span{span}}
		if violation(func() { kv.Attend(a, bytes(kv.TileBytes(dim)), nil) }) == "" {
			t.Errorf("a span of %v passes", span)
		}
	}
}

// violation runs f and returns what it panicked with.
func violation(f func()) (why string) {
	defer func() {
		if r := recover(); r != nil {
			why = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

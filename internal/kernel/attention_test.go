package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/kernel/kerneltest"
)

func TestAttention(t *testing.T) {
	for _, tier := range accelerated() {
		t.Run("tier="+tier.String(), func(t *testing.T) { kerneltest.Attention(t, kernel.For(tier)) })
	}
}

// FuzzAttend gives every tier random problems of the fuzzer's shape.
func FuzzAttend(f *testing.F) {
	for i := range kerneltest.KVTypes {
		f.Add(uint8(i), uint8(64), uint8(3), uint64(1))
	}
	sets := make([]*kernel.Set, 0, 4)
	for _, tier := range accelerated() {
		sets = append(sets, kernel.For(tier))
	}
	f.Fuzz(func(t *testing.T, kv, dim, rows uint8, seed uint64) {
		form := kerneltest.KVTypes[int(kv)%len(kerneltest.KVTypes)]
		p := kerneltest.NewTiles(rand.New(rand.NewPCG(seed, 0)), form, int(dim)%144+1, int(rows)%20+1, 2)
		for _, set := range sets {
			p.Check(t, set)
		}
	})
}

// BenchmarkAttend attends rows to full tiles: hot, the same one over and over,
// and cold, one after another of 64 MiB. It reports the keys and values read
// and the multiplications of a plain product, two for every element of a tile
// and row.
func BenchmarkAttend(b *testing.B) {
	for _, kv := range kerneltest.KVTypes {
		for _, dim := range []int{64, 128} {
			for _, rows := range []int{1, 3, 8, 16, 24, 32} {
				for _, cold := range []bool{false, true} {
					for _, tier := range cpu.Tiers()[cpu.Portable+1:] {
						name := fmt.Sprintf("kv=%v/dim=%d/rows=%d/cold=%t/tier=%v", kv, dim, rows, cold, tier)
						b.Run(name, func(b *testing.B) { benchmarkAttend(b, kernel.For(tier), kv, dim, rows, cold) })
					}
				}
			}
		}
	}
}

func benchmarkAttend(b *testing.B, set *kernel.Set, form kernel.KVType, dim, rows int, cold bool) {
	kv := &set.KV[form]
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, dim)
	random := func() []float32 {
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	size, tiles := kv.TileBytes(dim), 1
	if cold {
		tiles = 64 << 20 / size
	}
	memory := make([]byte, tiles*size)
	for slot := range kernel.Tile {
		kv.Store(memory[:size], slot, random(), random())
	}
	for n := size; n < len(memory); n *= 2 {
		copy(memory[n:], memory[:n])
	}
	queries := make([]byte, rows*kv.QueryBytes(dim))
	for r := range rows {
		kv.Query(queries[r*kv.QueryBytes(dim):], random(), 0.2)
	}
	a := &kernel.AttendArgs{
		Dim: dim, Rows: rows, Query: queries,
		State: make([]float32, rows*kernel.StateLen(dim)),
		Spans: make([]kernel.Span, rows),
	}
	for r := range a.Spans {
		a.Spans[r] = kernel.Span{Hi: kernel.Tile}
	}
	set.Reset(a.State, dim, rows)
	scratch := make([]byte, kv.ScratchBytes(dim, rows))
	at := func(t int) []byte { return memory[t%tiles*size : (t%tiles+1)*size] }
	for t := 0; b.Loop(); t++ {
		if cold {
			a.Next = at(t + 1)
		}
		kv.Attend(a, at(t), scratch)
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(size)/seconds/1e9, "GB/s")
	b.ReportMetric(float64(2*kernel.Tile*dim*rows)/seconds/1e9, "GMAC/s")
}

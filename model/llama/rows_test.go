package llama_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/tiny"
	"triforce/kvcache"
	"triforce/model"
	"triforce/tensor"
)

// The logits of a row have the same bits whatever the number of rows in its
// pass, the chunks that the prompt came in, the number of threads, and whether
// attention is recorded; and a row of a tree has those of its path.
func TestRowIndependence(t *testing.T) {
	gqa := tiny.Options{FFN: 32, Heads: 4, KVHeads: 2, Type: tensor.Q4_1}
	mha := tiny.Options{FFN: 32, Heads: 3, Type: tensor.Q8_0}
	for _, tier := range cpu.Tiers() {
		run := func(kv kernel.KVType, name string, o tiny.Options) {
			t.Run(fmt.Sprintf("tier=%v/kv=%v/%s", tier, kv, name), func(t *testing.T) { rowIndependence(t, o, tier, kv) })
		}
		switch tier {
		case cpu.Reference: // attention is that of the next tier
			run(kernel.KVF32, "mqa", tiny.Options{FFN: 32, Heads: 2, KVHeads: 1})
		case cpu.Portable: // slow
			mqa := tiny.Options{FFN: 32, Heads: 2, KVHeads: 1, Type: tensor.Q4_1}
			run(kernel.KVQ8, "gqa", gqa)
			run(kernel.KVF16, "mqa", mqa)
			run(kernel.KVF32, "mqa", mqa)
		default:
			for _, kv := range []kernel.KVType{kernel.KVQ8, kernel.KVF16, kernel.KVF32} {
				run(kv, "gqa", gqa)
				run(kv, "mha", mha)
			}
		}
	}
}

// rowIndependence feeds one sequence in many ways. It crosses two borders of
// tiles, or, on tiers that are quick, a dozen; slow tiers see every width and
// every number of threads, but not all pairs.
func rowIndependence(t *testing.T, o tiny.Options, tier cpu.Tier, kv kernel.KVType) {
	r := newRig(t, source(t, o), tier, kv, 1)
	quick := tier > cpu.Portable
	if !quick && testing.Short() {
		t.Skip("slow")
	}
	start, border := 2*kernel.Tile+56, 60
	if quick {
		start, border = 12*kernel.Tile-10, maxRows
	}
	const tail = 33
	tokens := randomTokens(1, start+tail, r.model.Vocab)
	cache := r.full()
	r.prefill(cache, tokens[:start], maxRows)
	want := r.feed(cache, tokens[start:], 1)

	mass := kvcache.NewMass(r.model.KVShape(kv), r.model.Heads/r.model.KVHeads, 4)
	chunks := []int{maxRows, 1, 7, 16, 100, 33, 50, 64}
	for threads := 1; threads <= 8; threads++ {
		r.use(threads)
		if threads%2 == 0 {
			cache.Record(mass)
		} else {
			cache.Record(nil)
		}
		chunk := chunks[threads-1]
		// The end of the prompt again, over the border of a tile.
		cache.Rewind(start - border)
		r.prefill(cache, tokens[start-border:start], chunk)
		for _, width := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, tail} {
			rows := tail
			if !quick {
				if width%8 != threads%8 && (width <= 16 || threads > 3) {
					continue
				}
				rows = min(tail, 2*width+1)
			}
			cache.Rewind(start)
			got := r.feed(cache, tokens[start:start+rows], width)
			if !sameBits(t, fmt.Sprintf("threads %d, chunks of %d, width %d", threads, chunk, width), got, want[:rows]) {
				break
			}
		}
		cache.Rewind(start)
		if quick || threads%4 == 2 {
			treeIndependence(t, r, cache, uint64(threads))
		}
	}
}

// treeIndependence compares a random tree with its paths fed one row at a time,
// before and after Keep.
func treeIndependence(t *testing.T, r *rig, cache *kvcache.Full, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	const rows = 14
	start := cache.Len()
	tokens, parents := randomTokens(seed, rows, r.model.Vocab), make([]int32, rows)
	for i := range parents {
		parents[i] = int32(rng.IntN(i+1)) - 1
	}
	got := r.pass(cache, model.Batch{Tokens: tokens, Parents: parents, Logits: rows})
	// The path to one row, kept, must be as good as if it had been fed alone.
	keep := path(parents, rows-1-rng.IntN(4))
	cache.Keep(start, keep)
	next := r.feed(cache, tokens[:2], 1)
	for row := range rows {
		way := path(parents, row)
		if row != int(keep[len(keep)-1]) && row < rows-4 {
			continue
		}
		cache.Rewind(start)
		var line []int32
		for _, i := range way {
			line = append(line, tokens[i])
		}
		chain := r.feed(cache, line, 1)
		for i, at := range way {
			sameBits(t, fmt.Sprintf("seed %d: row %d of a tree with parents %v", seed, at, parents), got[at:at+1], chain[i:i+1])
		}
		if row == int(keep[len(keep)-1]) {
			sameBits(t, fmt.Sprintf("seed %d: after keeping %v", seed, keep), next, r.feed(cache, tokens[:2], 2))
		}
	}
	cache.Rewind(start)
}

// path lists the rows from the root of a tree to a row.
func path(parents []int32, row int) []int32 {
	if row < 0 {
		return nil
	}
	return append(path(parents, int(parents[row])), int32(row))
}

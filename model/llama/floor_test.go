package llama_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/tiny"
	"triforce/kvcache"
	"triforce/model"
	"triforce/tensor"
)

// Rows of a long text leave out tiles that weigh nothing. Which, depends on the row
// alone: logits have the same bits in passes of any width, on any number of
// threads, in trees, and over a cache on disk.
func TestNegligibleTiles(t *testing.T) {
	const start, tail = 34*kernel.Tile - 20, 40 // over the border of a tile
	for name, o := range map[string]tiny.Options{
		"gqa":    {Layers: 2, FFN: 32, Heads: 4, KVHeads: 2, Context: 1 << 14, Type: tensor.Q8_0, Sharp: 60},
		"window": {Layers: 1, FFN: 32, Heads: 2, KVHeads: 1, Context: 1 << 14, Window: 33 * kernel.Tile, Sharp: 60},
	} {
		for _, kv := range []kernel.KVType{kernel.KVQ8, kernel.KVF32} {
			t.Run(fmt.Sprintf("%s/%v", name, kv), func(t *testing.T) {
				tier := cpu.Best()
				if tier <= cpu.Portable {
					t.Skip("slow")
				}
				r := newRig(t, source(t, o), tier, kv, 2)
				tokens := randomTokens(1, start+tail, r.model.Vocab)
				cache := r.full()
				r.prefill(cache, tokens[:start], maxRows)
				r.use(1)
				want := r.feed(cache, tokens[start:], 1)
				for threads := 1; threads <= 5; threads++ {
					r.use(threads)
					for _, width := range []int{1, 3, 8, 17, tail} {
						cache.Rewind(start)
						sameBits(t, fmt.Sprintf("threads %d, width %d", threads, width), r.feed(cache, tokens[start:], width), want)
					}
					cache.Rewind(start)
					treeIndependence(t, r, cache, uint64(threads))
				}

				store := r.disk(t, 1<<14)
				onDisk := kvcache.NewFull(store, 1<<14, r.model.Window)
				r.prefill(onDisk, tokens[:start], 50)
				for _, back := range []int{0, 300, 482, 8000} { // to where less is in memory
					onDisk.Rewind(start - back)
					r.prefill(onDisk, tokens[start-back:start], 50)
					sameBits(t, fmt.Sprintf("on disk, after going back by %d", back), r.feed(onDisk, tokens[start:], 7), want)
				}

				mass := kvcache.NewMass(r.model.KVShape(kv), r.model.Heads/r.model.KVHeads, 1)
				cache.Record(mass)
				cache.Rewind(start)
				r.pass(cache, model.Batch{Tokens: tokens[start : start+1]})
				out, tiles := 0, 0
				for chunks := range slices.Chunk(mass.Chunks(0, 0), kernel.Tile/kernel.Chunk) {
					tiles++
					if slices.Max(chunks) == 0 {
						out++
					}
				}
				if out < 2 || out == tiles {
					t.Errorf("%d of %d tiles are left out: nothing is tested", out, tiles)
				}
				t.Logf("%d of %d tiles are left out", out, tiles)
			})
		}
	}
}

// disk is a store of which most is in a file.
func (r *rig) disk(t *testing.T, context int) *kvcache.Store {
	t.Helper()
	shape, start := r.model.KVShape(r.kv), time.Now()
	return kvcache.NewDiskStore(shape, r.set, kvcache.DiskOptions{
		RAM: shape.LeastRAM(r.set, maxRows), Context: context, Rows: maxRows,
		Create: func() (kvcache.File, error) {
			f, err := os.CreateTemp(t.TempDir(), "")
			return file{f}, err
		},
		Clock: func() time.Duration { return time.Since(start) },
	})
}

type file struct{ *os.File }

func (file) Reserve(int64, int64) error { return nil }

package llama_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/tiny"
	"triforce/kvcache"
	"triforce/model"
	"triforce/tensor"
)

// countdown is a context that ends when it is asked for the n-th time.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A pass whose context ends, in whatever layer, leaves every kind of cache as
// it was.
func TestCancel(t *testing.T) {
	o := tiny.Options{Layers: 3, KVHeads: 2, Type: tensor.Q8_0}
	r := newRig(t, source(t, o), cpu.Best(), kernel.KVQ8, 2)
	tokens := randomTokens(1, 80, r.model.Vocab)
	tree := model.Batch{Tokens: tokens[60:66], Parents: []int32{-1, -1, 0, 1, 2, 2}, Logits: 6}
	for name, fresh := range map[string]func() kvcache.Cache{
		"full":   func() kvcache.Cache { return r.full() },
		"stream": func() kvcache.Cache { return kvcache.NewStream(r.store(), 4, 32, maxRows) },
	} {
		want := fresh()
		wanted := append(r.feed(want, tokens[:60], 20), r.pass(want, tree)...)
		cache := fresh()
		var got [][]float32
		for at := 0; at < 60; at += 20 {
			for layer := range o.Layers {
				// More tokens than will be fed, so that leftovers would show.
				b := model.Batch{Tokens: tokens[at : at+20+layer]}
				if layer == 2 {
					b = tree
				}
				if err := r.Forward(&countdown{context.Background(), layer}, cache, b); !errors.Is(err, context.Canceled) {
					t.Fatalf("%s: error %v, expected %v", name, err, context.Canceled)
				}
				if cache.Len() != at {
					t.Fatalf("%s: %d tokens after a cancelled pass, expected %d", name, cache.Len(), at)
				}
			}
			got = append(got, r.feed(cache, tokens[at:at+20], 20)...)
		}
		got = append(got, r.pass(cache, tree)...)
		sameBits(t, name, got, wanted)
	}
}

// A cache without room and a token outside the vocabulary are errors that
// change nothing.
func TestRefusedPasses(t *testing.T) {
	r := newRig(t, source(t, tiny.Options{}), cpu.Best(), kernel.KVQ8, 1)
	cache := kvcache.NewFull(r.store(), 10, 0)
	tokens := randomTokens(1, 11, r.model.Vocab)
	r.feed(cache, tokens[:7], 7)
	if err := r.Forward(context.Background(), cache, model.Batch{Tokens: tokens[7:]}); !errors.Is(err, kvcache.ErrFull) {
		t.Errorf("error %v, expected ErrFull", err)
	}
	for _, id := range []int32{-1, int32(r.model.Vocab)} {
		if err := r.Forward(context.Background(), cache, model.Batch{Tokens: []int32{0, id}}); err == nil {
			t.Errorf("token %d of a vocabulary of %d was accepted", id, r.model.Vocab)
		}
	}
	if cache.Len() != 7 {
		t.Errorf("%d tokens, expected 7", cache.Len())
	}
	r.feed(cache, tokens[7:10], 3)
}

// Tokens that are fed again after a rewind give the same bits, whatever was
// there in between.
func TestRewind(t *testing.T) {
	r := newRig(t, source(t, tiny.Options{KVHeads: 2}), cpu.Best(), kernel.KVQ8, 2)
	tokens := randomTokens(1, 600, r.model.Vocab)
	cache := r.full()
	want := r.feed(cache, tokens, 100)
	for _, n := range []int{599, 512, 511, 257, 300, 0} {
		cache.Rewind(min(n, cache.Len()))
		r.prefill(cache, randomTokens(2, 100, r.model.Vocab), 100)
		cache.Rewind(n)
		sameBits(t, "after a rewind", r.feed(cache, tokens[n:], 37), want[n:])
	}
}

// A pass of one row allocates nothing once the session is warm.
func TestAllocations(t *testing.T) {
	tier := cpu.Best()
	if tier <= cpu.Portable {
		t.Skip("the kernels of this tier allocate")
	}
	for _, threads := range []int{1, 2} {
		r := newRig(t, source(t, tiny.Options{KVHeads: 2, Type: tensor.Q4_1}), tier, kernel.KVQ8, threads)
		tokens := randomTokens(1, 300, r.model.Vocab)
		full, mass := r.full(), r.full()
		mass.Record(kvcache.NewMass(r.model.KVShape(r.kv), r.model.Heads/r.model.KVHeads, 1))
		for name, cache := range map[string]kvcache.Cache{
			"full": full, "full with mass": mass, "stream": kvcache.NewStream(r.store(), 4, 64, maxRows),
		} {
			r.prefill(cache, tokens, 100)
			b := model.Batch{Tokens: tokens[:1], Logits: 1}
			ctx := context.Background()
			n := testing.AllocsPerRun(20, func() {
				if err := r.Forward(ctx, cache, b); err != nil {
					t.Error(err)
				}
				cache.Rewind(len(tokens))
			})
			if n != 0 {
				t.Errorf("%d threads, %s: %v allocations a pass", threads, name, n)
			}
		}
	}
}

// Attention that reaches the whole window is the same over a streaming cache,
// and over one that only ever saw the window.
func TestStream(t *testing.T) {
	const sinks, window, n = 4, 40, 400
	r := newRig(t, source(t, tiny.Options{KVHeads: 2, Layers: 1}), cpu.Best(), kernel.KVF32, 2)
	tokens := randomTokens(3, n, r.model.Vocab)
	long := kvcache.NewStream(r.store(), sinks, window, maxRows)
	logits := r.feed(long, tokens, 50)
	// While all fits, it is the full cache but for the rounding of sums.
	near := func(what string, got, want [][]float32) {
		t.Helper()
		for i := range want {
			for j := range want[i] {
				if d := got[i][j] - want[i][j]; !(d < 1e-4 && d > -1e-4) {
					t.Fatalf("%s: row %d: logit %d is %v, expected %v", what, i, j, got[i][j], want[i][j])
				}
			}
		}
	}
	near("all fits", logits[:sinks+window], r.feed(r.full(), tokens[:sinks+window], 50))
	// With one layer, a row depends on what it sees alone: sinks and window,
	// as if they followed each other.
	for _, at := range []int{60, 200, n - 1} {
		seen := slices.Concat(tokens[:sinks], tokens[at-window+1:at+1])
		alone := r.feed(r.full(), seen, 50)
		near("sinks and window alone", logits[at:at+1], alone[len(alone)-1:])
	}
	// Whatever the passes, the bits are the same.
	for _, width := range []int{1, 7, 33, 128} {
		sameBits(t, "in other passes", r.feed(kvcache.NewStream(r.store(), sinks, window, maxRows), tokens, width), logits)
	}
	// Tokens between sinks and window need not be fed.
	short := kvcache.NewStream(r.store(), sinks, window, maxRows)
	r.prefill(short, tokens[:sinks], 2)
	short.Skip(short.Wants(n - 1))
	rest := r.feed(short, tokens[short.Len():], 10)
	near("after a skip", rest[len(rest)-1:], logits[n-1:])
	// A tree is its paths.
	long.Rewind(n - 10)
	tree := model.Batch{Tokens: []int32{tokens[n-10], 5, tokens[n-9], 6, tokens[n-8]}, Parents: []int32{-1, 0, 0, 1, 2}, Logits: 5}
	got := r.pass(long, tree)
	sameBits(t, "a tree", [][]float32{got[0], got[2], got[4]}, logits[n-10:n-7])
	long.Keep(n-10, []int32{0, 2, 4})
	sameBits(t, "after a tree", r.feed(long, tokens[n-7:], 3), logits[n-7:])
}

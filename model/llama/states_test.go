package llama_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/tiny"
	"triforce/model"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/gguf"
)

// A row's logits and state have the same bits whatever pass it is in and whoever
// else is told a target's state; being told one matters, its scale does not; and
// rows that are not told any are those of a model that takes none.
func TestStates(t *testing.T) {
	for _, tier := range cpu.Tiers() {
		for _, o := range []tiny.Options{
			{FFN: 32, Heads: 4, KVHeads: 2, Type: tensor.Q8_0, State: 96},
			{Heads: 2, FFN: 2080, Layers: 1, State: 20}, // no pass of several rows is small
		} {
			t.Run(fmt.Sprintf("tier=%v/ffn=%d", tier, o.FFN), func(t *testing.T) { statesIndependence(t, o, tier) })
		}
	}
}

func statesIndependence(t *testing.T, o tiny.Options, tier cpu.Tier) {
	if tier <= cpu.Portable && testing.Short() {
		t.Skip("slow")
	}
	r := newRig(t, source(t, o), tier, kernel.KVF32, 1)
	const n = 12
	tokens, random := randomTokens(1, n, r.model.Vocab), rand.New(rand.NewPCG(5, 0))
	states := make([][]float32, n)
	for i := range states {
		if random.IntN(3) > 0 {
			for range o.State {
				states[i] = append(states[i], float32(random.NormFloat64()))
			}
		}
	}
	feed := func(states [][]float32, width int) (all [][]float32) {
		cache := r.full()
		r.KeepStates()
		for at := 0; at < n; at += width {
			end := min(at+width, n)
			batch := model.Batch{Tokens: tokens[at:end], Logits: end - at}
			if states != nil {
				batch.States = states[at:end]
			}
			if err := r.Forward(context.Background(), cache, batch); err != nil {
				t.Fatal(err)
			}
			for i := range end - at {
				all = append(all, append(slices.Clone(r.Logits(i)), r.State(i)...))
			}
		}
		return all
	}
	same := func(a, b [][]float32) bool {
		return slices.EqualFunc(a, b, func(a, b []float32) bool { return slices.Equal(a, b) })
	}
	want := feed(states, 1)
	for _, threads := range []int{1, 2, 3} {
		r.use(threads)
		for _, width := range []int{2, 3, 8, n} {
			if !same(feed(states, width), want) {
				t.Errorf("%d threads, passes of %d rows: another result than row by row", threads, width)
			}
		}
	}
	larger := make([][]float32, n)
	for i, s := range states {
		for _, v := range s {
			larger[i] = append(larger[i], 4*v)
		}
	}
	if got := feed(larger, 8); !near(got, want, 1e-3) {
		t.Error("the scale of states matters")
	}
	blind := feed(nil, 8)
	if near(blind, want, 1e-3) {
		t.Error("states do not matter")
	}
	if !same(feed(make([][]float32, n), 8), blind) {
		t.Error("unknown states are not as none")
	}
	without := o
	without.State = 0
	var tensors []tensor.Tensor
	for _, w := range tiny.Tensors(o) {
		if w.Name != llama.StateTensor {
			tensors = append(tensors, w)
		}
	}
	r = newRig(t, write(t, tiny.Meta(without), tensors), tier, kernel.KVF32, 2)
	if !same(feed(nil, 8), blind) {
		t.Error("a model that takes states differs where there are none")
	}
}

func near(a, b [][]float32, by float32) bool {
	return slices.EqualFunc(a, b, func(a, b []float32) bool {
		return slices.EqualFunc(a, b, func(x, y float32) bool { return max(x-y, y-x) <= by })
	})
}

// A model takes in its own states only if they are as wide as those it takes in.
func TestOwnStateWidth(t *testing.T) {
	for state, fits := range map[int]bool{32: true, 31: false} {
		o := tiny.Options{Dim: 32, State: state}
		meta := append(tiny.Meta(o), gguf.KV{Key: llama.OwnStateKey, Value: true})
		c, err := llama.ParseConfig(write(t, meta, tiny.Tensors(o)))
		if fits && (err != nil || !c.OwnState) || !fits && !errors.Is(err, weights.ErrCorrupt) {
			t.Errorf("states of %d: %v, %v", state, c.OwnState, err)
		}
	}
}

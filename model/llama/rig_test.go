package llama_test

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/internal/testutil/tiny"
	"triforce/kvcache"
	"triforce/model"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/gguf"
)

// maxRows is the widest pass of most tests.
const maxRows = 128

// rig is a model with all that a pass needs.
type rig struct {
	t     testing.TB
	model *llama.Model
	set   *kernel.Set
	kv    kernel.KVType
	team  *par.Team
	*llama.Session
}

// source is the model that o describes, in memory.
func source(t testing.TB, o tiny.Options) weights.Source {
	t.Helper()
	return write(t, tiny.Meta(o), tiny.Tensors(o))
}

// newRig loads a model.
func newRig(t testing.TB, src weights.Source, tier cpu.Tier, kv kernel.KVType, threads int) *rig {
	t.Helper()
	r := &rig{t: t, set: kernel.For(tier), kv: kv}
	r.use(threads)
	m, err := llama.Load(context.Background(), src, llama.Options{Set: r.set, Team: r.team})
	if err != nil {
		t.Fatal(err)
	}
	r.model = m
	r.use(threads)
	return r
}

// use starts a new session on that many threads.
func (r *rig) use(threads int) {
	r.team = par.NewTeam(threads)
	r.t.Cleanup(r.team.Close)
	if r.model != nil {
		r.Session = r.model.NewSession(r.team, r.kv, maxRows, maxRows)
	}
}

func (r *rig) store() *kvcache.Store { return kvcache.NewStore(r.model.KVShape(r.kv), r.set) }

func (r *rig) full() *kvcache.Full { return kvcache.NewFull(r.store(), 1<<14, r.model.Window) }

// feed appends tokens to a cache in passes of up to width rows, and returns the
// logits of each.
func (r *rig) feed(cache kvcache.Cache, tokens []int32, width int) [][]float32 {
	r.t.Helper()
	var all [][]float32
	for len(tokens) > 0 {
		n := min(width, len(tokens), maxRows)
		all = append(all, r.pass(cache, model.Batch{Tokens: tokens[:n], Logits: n})...)
		tokens = tokens[n:]
	}
	return all
}

// pass runs one pass and returns the logits that it asks for.
func (r *rig) pass(cache kvcache.Cache, b model.Batch) [][]float32 {
	r.t.Helper()
	if err := r.Forward(context.Background(), cache, b); err != nil {
		r.t.Fatal(err)
	}
	var all [][]float32
	for i := range b.Logits {
		all = append(all, append([]float32(nil), r.Logits(i)...))
	}
	return all
}

// prefill appends tokens without logits.
func (r *rig) prefill(cache kvcache.Cache, tokens []int32, width int) {
	r.t.Helper()
	for len(tokens) > 0 {
		n := min(width, len(tokens), maxRows)
		r.pass(cache, model.Batch{Tokens: tokens[:n]})
		tokens = tokens[n:]
	}
}

// randomTokens returns n tokens of a vocabulary.
func randomTokens(seed uint64, n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(r.IntN(vocab))
	}
	return tokens
}

// sameBits fails unless rows a and b have the same bits. It names the first
// rows that differ.
func sameBits(t testing.TB, what string, got, want [][]float32) bool {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows, expected %d", what, len(got), len(want))
	}
	for r := range want {
		for i := range want[r] {
			if math.Float32bits(got[r][i]) != math.Float32bits(want[r][i]) {
				t.Errorf("%s: row %d: logit %d is %v, expected %v to the last bit", what, r, i, got[r][i], want[r][i])
				return false
			}
		}
	}
	return true
}

// write makes a GGUF model in memory.
func write(t testing.TB, meta []gguf.KV, tensors []tensor.Tensor) weights.Source {
	t.Helper()
	var b bytes.Buffer
	if err := gguf.Write(&b, meta, tensors); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse("tiny.gguf", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

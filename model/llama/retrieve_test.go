package llama_test

import (
	"fmt"
	"math"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/internal/testutil/tiny"
	"triforce/kvcache"
	"triforce/model"
	"triforce/tensor"
)

// viewOf feeds tokens to a full cache that records attention, and returns it
// with a view of it.
func viewOf(t *testing.T, r *rig, tokens []int32, o kvcache.ViewOptions) (*kvcache.Full, *kvcache.View) {
	t.Helper()
	full := r.full()
	full.Record(kvcache.NewMass(r.model.KVShape(r.kv), r.model.Heads/r.model.KVHeads, 4))
	team := par.NewTeam(2)
	t.Cleanup(team.Close)
	view := kvcache.NewView(r.set, full, team, o)
	r.prefill(full, tokens, 100)
	view.Refresh()
	return full, view
}

// While the whole sequence fits the budget, a view gives the bits of the full
// cache.
func TestViewOfAll(t *testing.T) {
	for _, tier := range cpu.Tiers()[1:] {
		for _, kv := range []kernel.KVType{kernel.KVQ8, kernel.KVF16, kernel.KVF32} {
			r := newRig(t, source(t, tiny.Options{KVHeads: 2, Type: tensor.Q8_0}), tier, kv, 2)
			tokens := randomTokens(1, 330, r.model.Vocab)
			full, view := viewOf(t, r, tokens[:300], kvcache.ViewOptions{Budget: 512, Chunk: 16, Sinks: 4, Window: 64})
			what := fmt.Sprintf("tier %v, %v", tier, kv)
			sameBits(t, what, r.feed(view, tokens[300:], 4), r.feed(full, tokens[300:], 7))
			// And again, after a rewind and a tree.
			view.Rewind(310)
			full.Rewind(310)
			view.Refresh()
			tree := model.Batch{Tokens: tokens[310:316], Parents: []int32{-1, 0, 0, 2, 1, 3}, Logits: 6}
			sameBits(t, what+": tree", r.pass(view, tree), r.pass(full, tree))
			view.Keep(310, []int32{0, 2, 3})
			full.Keep(310, []int32{0, 2, 3})
			sameBits(t, what+": after a tree", r.feed(view, tokens[320:], 3), r.feed(full, tokens[320:], 10))
		}
	}
}

// The chunks that attention was given most are its sums over the newest rows'
// softmax: in the first layer the textbook knows them.
func TestMass(t *testing.T) {
	o := tiny.Options{KVHeads: 2, Layers: 1}
	const rows, n, heads, group, d = 3, 520, 2, 2, 8
	tokens := randomTokens(2, n, 300)
	p := newPlain(o)
	for pos, id := range tokens {
		p.token(id, pos, nil) // keys of the first layer need no attention
	}
	var want [heads][]float64
	for h := range want {
		want[h] = make([]float64, (n+kernel.Tile-1)/kernel.Tile*(kernel.Tile/kernel.Chunk))
		for pos := n - rows; pos < n; pos++ {
			for g := range group {
				sum, one := 0.0, make([]float64, pos+1)
				q := p.query(tokens[pos], pos, h*group+g)
				for j := range one {
					one[j] = math.Exp(dot(q, p.k[0][j][h*d:(h+1)*d]) / math.Sqrt(d))
					sum += one[j]
				}
				for j, w := range one {
					want[h][j/kernel.Chunk] += w / sum
				}
			}
		}
	}
	src := source(t, o)
	for _, tier := range cpu.Tiers() {
		r := newRig(t, src, tier, kernel.KVF32, 2)
		full := r.full()
		mass := kvcache.NewMass(r.model.KVShape(r.kv), group, rows)
		full.Record(mass)
		r.prefill(full, tokens, 100)
		for h := range want {
			got := mass.Chunks(0, h)
			if len(got) != len(want[h]) {
				t.Fatalf("%d chunks, expected %d", len(got), len(want[h]))
			}
			for c, w := range want[h] {
				if math.Abs(float64(got[c])-w) > 1e-4 {
					t.Errorf("tier %v, head %d: chunk %d was given %v, expected %v", tier, h, c, got[c], w)
				}
			}
		}
	}
}

// query is the rotated query of a head of the first layer.
func (p *plain) query(id int32, pos, head int) []float64 {
	x := p.w["token_embd.weight"][int(id)*p.Dim : (int(id)+1)*p.Dim]
	q := p.times("blk.0.attn_q.weight", p.norm("blk.0.attn_norm.weight", x))
	p.rotate(q, pos)
	return q[head*p.HeadDim : (head+1)*p.HeadDim]
}

// The logits of a view are the nearer to the full cache's the more it shows;
// choosing chunks by their mean keys brings them nearer than none.
func TestViewOverlap(t *testing.T) {
	r := newRig(t, source(t, tiny.Options{KVHeads: 2, Type: tensor.Q8_0, Seed: 3}), cpu.Best(), kernel.KVQ8, 2)
	const n, rounds = 1500, 60
	tokens := randomTokens(1, n+rounds, r.model.Vocab)
	// off is how far logits are from those of the full cache, on average.
	off := func(o kvcache.ViewOptions) (mean float64) {
		o.Chunk, o.Sinks, o.Window = 16, 16, 64
		full, view := viewOf(t, r, tokens[:n], o)
		for i := n; i < n+rounds; i++ {
			a := r.feed(view, tokens[i:i+1], 1)[0]
			b := r.feed(full, tokens[i:i+1], 1)[0]
			for j := range a {
				mean += math.Abs(float64(a[j]-b[j])) / float64(len(a)*rounds)
			}
			view.Rewind(i)
			view.Refresh()
		}
		return mean
	}
	least, half, most := off(kvcache.ViewOptions{Budget: 128}), off(kvcache.ViewOptions{Budget: 768}), off(kvcache.ViewOptions{Budget: 1400})
	keys := off(kvcache.ViewOptions{Budget: 768, Rule: kvcache.ByMean})
	t.Logf("off by %.3f with 128, %.3f with 768, %.3f with 1400 tokens; %.3f with 768 by mean keys", least, half, most, keys)
	if !(most < half/2 && half < 0.8*least && most < 0.2) {
		t.Error("a larger budget does not help as it should")
	}
	if keys > 0.9*least {
		t.Error("chunks by their mean keys do not help as they should")
	}
}

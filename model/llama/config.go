// Package llama is the Llama architecture (Touvron et al. 2023) with its
// variants: grouped-query attention, tied embeddings, stretched rotary
// embedding, Mistral's sliding window.
//
// A Model is immutable after Load and may serve many sessions at once; it owns
// its packed weights and reads embeddings from the Source, which must outlive
// it. A Session belongs to one goroutine at a time.
package llama

import (
	"fmt"
	"math"

	"triforce/internal/kernel"
	"triforce/kvcache"
	"triforce/model"
	"triforce/weights"
)

// Limits on what metadata may claim, checked before anything is allocated.
const (
	maxLayers  = 1 << 10
	maxHeads   = 1 << 10
	maxHeadDim = 1 << 10
	maxDim     = 1 << 17
	maxFFN     = 1 << 20
	maxVocab   = 1 << 22
	maxContext = 1 << 28
)

// Config is the shape of a model.
type Config struct {
	Name                    string
	Layers, Dim, FFN        int
	Heads, KVHeads, HeadDim int
	Vocab                   int
	// Head lists, ascending, the tokens that have logits, if not all of them do:
	// row i of the output head belongs to Head[i], and every other token has
	// probability zero. A draft saves most of its time that way.
	Head []int32
	// State is the width of another model's state that the model takes in beside
	// each token, or 0: that of the target, for which a draft was made (EAGLE: Li
	// et al. 2024).
	State int
	// OwnState says that the model's own final hidden state, of the same width,
	// stands in for a target's that is not known yet.
	OwnState bool
	// Context is the number of tokens that the model was made for.
	Context int
	// Window is the reach of sliding-window attention, or 0.
	Window   int
	Eps      float32
	RopeDims int
	RopeBase float64
	Scaling  model.RopeScaling
}

// HeadKey is the metadata key of a trimmed head: its tokens, ascending, one for
// each row of output.weight. Without it there is a row for every token.
const HeadKey = "triforce.head.tokens"

// StateTensor is the name of the matrix (Dim, State) that makes of a target's
// state what is added to a token's embedding. The state is the target's final
// hidden state after the token before, as its output head takes it, scaled to a
// mean square of 1; where it is not known nothing is added.
const StateTensor = "triforce.state.weight"

// OwnStateKey is the metadata key of Config.OwnState.
const OwnStateKey = "triforce.state.own"

// ParseConfig reads the shape from metadata. Errors wrap weights.ErrCorrupt or
// weights.ErrUnsupported and name the key.
func ParseConfig(src weights.Source) (Config, error) {
	m := src.Meta()
	p := parser{path: src.Path(), meta: m}
	if arch := m.String("general.architecture", ""); arch != "llama" {
		return Config{}, fmt.Errorf("%s: general.architecture is %q; llama is supported: %w", src.Path(), arch, weights.ErrUnsupported)
	}
	c := Config{
		Name:    m.String("general.name", ""),
		Layers:  p.count("llama.block_count", 0, maxLayers),
		Dim:     p.count("llama.embedding_length", 0, maxDim),
		FFN:     p.count("llama.feed_forward_length", 0, maxFFN),
		Heads:   p.count("llama.attention.head_count", 0, maxHeads),
		Context: p.count("llama.context_length", 0, maxContext),
	}
	if p.err != nil {
		return Config{}, p.err
	}
	c.KVHeads = p.count("llama.attention.head_count_kv", c.Heads, maxHeads)
	c.HeadDim = p.count("llama.attention.key_length", c.Dim/c.Heads, maxHeadDim)
	if v := p.count("llama.attention.value_length", c.HeadDim, maxHeadDim); v != c.HeadDim && p.err == nil {
		return Config{}, fmt.Errorf("%s: heads with keys of %d and values of %d elements: %w", src.Path(), c.HeadDim, v, weights.ErrUnsupported)
	}
	c.RopeDims = p.count("llama.rope.dimension_count", c.HeadDim, maxHeadDim)
	if _, ok := m["llama.attention.sliding_window"]; ok {
		c.Window = p.count("llama.attention.sliding_window", 0, maxContext)
	}
	c.Eps = float32(p.positive("llama.attention.layer_norm_rms_epsilon", 1e-5))
	c.RopeBase = p.positive("llama.rope.freq_base", 10000)
	c.Scaling = p.scaling(c.Context)
	if p.err != nil {
		return Config{}, p.err
	}
	if c.Heads%c.KVHeads != 0 {
		return Config{}, p.corrupt("llama.attention.head_count_kv is %d, expected a divisor of the %d heads", c.KVHeads, c.Heads)
	}
	if c.RopeDims%2 != 0 || c.RopeDims > c.HeadDim {
		return Config{}, p.corrupt("llama.rope.dimension_count is %d, expected an even number up to the head's %d", c.RopeDims, c.HeadDim)
	}
	embed, ok := src.Tensor("token_embd.weight")
	if !ok {
		return Config{}, p.corrupt("tensor token_embd.weight is missing")
	}
	if embed.Rows < 1 || embed.Rows > maxVocab {
		return Config{}, p.corrupt("token_embd.weight has %d rows, expected 1 to %d", embed.Rows, maxVocab)
	}
	c.Vocab = embed.Rows
	c.Head = p.head(c.Vocab)
	if state, ok := src.Tensor(StateTensor); ok {
		if c.State = state.Cols; c.State < 1 || c.State > maxDim {
			return Config{}, p.corrupt("%s has %d columns, expected 1 to %d", StateTensor, c.State, maxDim)
		}
		if c.OwnState = m.Bool(OwnStateKey, false); c.OwnState && c.State != c.Dim {
			return Config{}, p.corrupt("%s is true, but states have %d elements and the model %d", OwnStateKey, c.State, c.Dim)
		}
	}
	return c, p.err
}

// HeadRows is the number of tokens that have logits.
func (c *Config) HeadRows() int {
	if c.Head != nil {
		return len(c.Head)
	}
	return c.Vocab
}

// KVShape is what the model keeps for each token.
func (c *Config) KVShape(t kernel.KVType) kvcache.Shape {
	return kvcache.Shape{Layers: c.Layers, Heads: c.KVHeads, Dim: c.HeadDim, Type: t}
}

// parser keeps the first error of a sequence of look-ups.
type parser struct {
	path string
	meta weights.Meta
	err  error
}

func (p *parser) corrupt(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", p.path, fmt.Sprintf(format, args...), weights.ErrCorrupt)
}

// count reads a number from 1 to limit; def, if not zero, stands for a missing
// one.
func (p *parser) count(key string, def, limit int) int {
	v, ok := p.meta[key]
	n, isInt := v.(int64)
	switch {
	case p.err != nil:
	case !ok && def != 0:
		return def
	case !ok:
		p.err = p.corrupt("%s is missing", key)
	case !isInt || n < 1 || n > int64(limit):
		p.err = p.corrupt("%s is %v, expected a number from 1 to %d", key, v, limit)
	default:
		return int(n)
	}
	return 1
}

// positive reads a finite number above zero.
func (p *parser) positive(key string, def float64) float64 {
	v := p.meta.Float(key, def)
	if p.err == nil && !(v > 0 && v <= math.MaxFloat32) {
		p.err = p.corrupt("%s is %v, expected a positive number", key, p.meta[key])
	}
	return v
}

// head reads the tokens of a trimmed head, or nil.
func (p *parser) head(vocab int) []int32 {
	if _, ok := p.meta[HeadKey]; !ok || p.err != nil {
		return nil
	}
	value := p.meta.Value(HeadKey)
	tokens, isInts := value.([]int64)
	if !isInts || len(tokens) == 0 {
		p.err = p.corrupt("%s is %.64v, expected a list of tokens", HeadKey, value)
		return nil
	}
	head := make([]int32, len(tokens))
	last := int64(-1)
	for i, t := range tokens {
		if t <= last || t >= int64(vocab) {
			p.err = p.corrupt("%s has token %d after %d at %d, expected ascending tokens below %d", HeadKey, t, last, i, vocab)
			return nil
		}
		head[i], last = int32(t), t
	}
	return head
}

func (p *parser) scaling(context int) model.RopeScaling {
	s := model.RopeScaling{Type: p.meta.String("llama.rope.scaling.type", "")}
	switch s.Type {
	case "", "none":
		// Older files scale linearly without saying so.
		if f := p.positive("llama.rope.scale_linear", 1); f != 1 {
			return model.RopeScaling{Type: "linear", Factor: f}
		}
		return model.RopeScaling{}
	case "linear", "llama3", "yarn":
	default:
		if p.err == nil {
			p.err = fmt.Errorf("%s: llama.rope.scaling.type is %q; linear, llama3 and yarn are supported: %w", p.path, s.Type, weights.ErrUnsupported)
		}
		return s
	}
	s.Factor = p.positive("llama.rope.scaling.factor", 1)
	s.Original = p.count("llama.rope.scaling.original_context_length", context, maxContext)
	s.LowFreq = p.positive("llama.rope.scaling.low_freq_factor", 1)
	s.HighFreq = p.positive("llama.rope.scaling.high_freq_factor", 4)
	s.BetaFast = p.positive("llama.rope.scaling.yarn_beta_fast", 32)
	s.BetaSlow = p.positive("llama.rope.scaling.yarn_beta_slow", 1)
	s.AttnFactor = p.positive("llama.rope.scaling.attn_factor", 1)
	return s
}

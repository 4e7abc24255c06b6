package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"

	"triforce/weights"
)

// config is the part of config.json that matters; a nil field is absent.
type config struct {
	ModelType     string           `json:"model_type"`
	Name          string           `json:"_name_or_path"`
	Context       *int64           `json:"max_position_embeddings"`
	Embedding     *int64           `json:"hidden_size"`
	Blocks        *int64           `json:"num_hidden_layers"`
	FeedForward   *int64           `json:"intermediate_size"`
	Vocab         *int64           `json:"vocab_size"`
	Heads         *int64           `json:"num_attention_heads"`
	HeadsKV       *int64           `json:"num_key_value_heads"`
	HeadDim       *int64           `json:"head_dim"`
	Epsilon       *float64         `json:"rms_norm_eps"`
	Activation    *string          `json:"hidden_act"`
	SlidingWindow *int64           `json:"sliding_window"`
	Tied          bool             `json:"tie_word_embeddings"`
	Quantization  *json.RawMessage `json:"quantization_config"`
	PartialRotary *float64         `json:"partial_rotary_factor"`
	// Rotary embeddings have an older spelling, the first two, and a newer.
	RopeTheta      *float64 `json:"rope_theta"`
	RopeScaling    *rope    `json:"rope_scaling"`
	RopeParameters *rope    `json:"rope_parameters"`
	tokens
}

type rope struct {
	Theta         *float64 `json:"rope_theta"`
	Type          *string  `json:"rope_type"`
	OldType       *string  `json:"type"`
	Factor        *float64 `json:"factor"`
	Original      *int64   `json:"original_max_position_embeddings"`
	LowFreq       *float64 `json:"low_freq_factor"`
	HighFreq      *float64 `json:"high_freq_factor"`
	Attention     *float64 `json:"attention_factor"`
	BetaFast      *float64 `json:"beta_fast"`
	BetaSlow      *float64 `json:"beta_slow"`
	Scale         *float64 `json:"mscale"`
	ScaleAll      *float64 `json:"mscale_all_dim"`
	PartialRotary *float64 `json:"partial_rotary_factor"`
}

// tokens are in config.json and again, with precedence, in
// generation_config.json.
type tokens struct {
	BOS *int64    `json:"bos_token_id"`
	EOS oneOrMany `json:"eos_token_id"`
}

// oneOrMany is a number, a list of numbers, or null.
type oneOrMany []int64

func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	var one *int64
	if json.Unmarshal(data, &one) != nil {
		return json.Unmarshal(data, (*[]int64)(o))
	}
	if *o = nil; one != nil {
		*o = oneOrMany{*one}
	}
	return nil
}

// readConfig reads the metadata of the model in folder, and whether its output
// matrix is its embedding.
func readConfig(folder string) (meta weights.Meta, tied bool, err error) {
	return Config(filepath.Join(folder, "config.json"))
}

// Config is the metadata in a model's config.json, which may stand alone, and
// whether its output matrix is its embedding.
func Config(path string) (meta weights.Meta, tied bool, err error) {
	folder := filepath.Dir(path)
	var c config
	if err := readJSON(path, &c); err != nil {
		return nil, false, err
	}
	var generation tokens
	if err := readJSON(filepath.Join(folder, "generation_config.json"), &generation); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if generation.BOS != nil {
		c.BOS = generation.BOS
	}
	if generation.EOS != nil {
		c.EOS = generation.EOS
	}
	if c.Name == "" {
		if absolute, err := filepath.Abs(folder); err == nil {
			c.Name = filepath.Base(absolute)
		}
	}
	if err := c.supported(); err != nil {
		return nil, false, fmt.Errorf("safetensors: %s: %w: %w", path, err, weights.ErrUnsupported)
	}
	return c.meta(), c.Tied, nil
}

// supported names what models of this program do not compute.
func (c *config) supported() error {
	switch {
	case c.ModelType != "llama" && c.ModelType != "mistral":
		return fmt.Errorf("model_type %.64q (supported: llama, mistral)", c.ModelType)
	case c.Activation != nil && *c.Activation != "silu":
		return fmt.Errorf("hidden_act %.64q (supported: silu)", *c.Activation)
	case c.Quantization != nil:
		return errors.New("quantization_config (supported: F32, F16, BF16)")
	}
	r := c.rope()
	switch r.kind() {
	case "", "linear", "yarn", "llama3":
	default:
		return fmt.Errorf("rope_type %.64q (supported: default, linear, yarn, llama3)", r.kind())
	}
	for _, p := range []*float64{c.PartialRotary, r.PartialRotary} {
		if p != nil && *p != 1 {
			return fmt.Errorf("partial_rotary_factor %v (supported: 1)", *p)
		}
	}
	return nil
}

// rope merges the two spellings.
func (c *config) rope() rope {
	var r rope
	switch {
	case c.RopeParameters != nil:
		r = *c.RopeParameters
	case c.RopeScaling != nil:
		r = *c.RopeScaling
	}
	if r.Theta == nil {
		r.Theta = c.RopeTheta
	}
	return r
}

// kind is the sort of scaling, "" for none.
func (r *rope) kind() string {
	for _, s := range []*string{r.Type, r.OldType} {
		if s != nil && *s != "default" {
			return *s
		}
		if s != nil {
			break
		}
	}
	return ""
}

// attention returns GGUF's attn_factor, which multiplies yarn's customary
// magnitude 0.1·ln(factor)+1, where Hugging Face gives the product; nil for 1.
func (r *rope) attention() *float64 {
	if r.kind() != "yarn" || r.Factor == nil || r.Attention == nil && (r.Scale == nil || r.ScaleAll == nil || *r.Scale == 0 || *r.ScaleAll == 0) {
		return nil
	}
	magnitude := func(scale float64) float64 { return 0.1*scale*math.Log(max(1, *r.Factor)) + 1 }
	var product float64
	if r.Attention != nil {
		product = *r.Attention
	} else {
		product = magnitude(*r.Scale) / magnitude(*r.ScaleAll)
	}
	product /= magnitude(1)
	return &product
}

func (c *config) meta() weights.Meta {
	meta := weights.Meta{"general.architecture": "llama", "general.name": c.Name}
	put(meta, "llama.context_length", c.Context)
	put(meta, "llama.embedding_length", c.Embedding)
	put(meta, "llama.block_count", c.Blocks)
	put(meta, "llama.feed_forward_length", c.FeedForward)
	put(meta, "llama.vocab_size", c.Vocab)
	put(meta, "llama.attention.head_count", c.Heads)
	put(meta, "llama.attention.head_count_kv", c.Heads)
	put(meta, "llama.attention.head_count_kv", c.HeadsKV)
	put(meta, "llama.attention.key_length", c.HeadDim)
	put(meta, "llama.attention.value_length", c.HeadDim)
	if c.HeadDim == nil && c.Embedding != nil && c.Heads != nil && *c.Heads > 0 {
		dim := *c.Embedding / *c.Heads
		c.HeadDim = &dim
	}
	put(meta, "llama.rope.dimension_count", c.HeadDim)
	put(meta, "llama.attention.layer_norm_rms_epsilon", c.Epsilon)
	if c.ModelType == "mistral" {
		put(meta, "llama.attention.sliding_window", c.SlidingWindow)
	}
	r := c.rope()
	put(meta, "llama.rope.freq_base", r.Theta)
	if kind := r.kind(); kind != "" {
		meta["llama.rope.scaling.type"] = kind
		put(meta, "llama.rope.scaling.factor", r.Factor)
		put(meta, "llama.rope.scaling.original_context_length", r.Original)
		put(meta, "llama.rope.scaling.low_freq_factor", r.LowFreq)
		put(meta, "llama.rope.scaling.high_freq_factor", r.HighFreq)
		put(meta, "llama.rope.scaling.yarn_beta_fast", r.BetaFast)
		put(meta, "llama.rope.scaling.yarn_beta_slow", r.BetaSlow)
		put(meta, "llama.rope.scaling.attn_factor", r.attention())
	}
	put(meta, "tokenizer.ggml.bos_token_id", c.BOS)
	if len(c.EOS) > 0 {
		meta["tokenizer.ggml.eos_token_id"] = c.EOS[0]
	}
	if len(c.EOS) > 1 {
		meta["tokenizer.ggml.eos_token_ids"] = []int64(c.EOS)
	}
	return meta
}

// put sets a key, if there is a value.
func put[T any](meta weights.Meta, key string, value *T) {
	if value != nil {
		meta[key] = *value
	}
}

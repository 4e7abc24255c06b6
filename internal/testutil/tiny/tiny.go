// Package tiny makes Llama models of a few thousand random weights for tests:
// as GGUF files or Hugging Face folders, with every layout of heads, every kind
// of rotary scaling and every stored format.
//
// The same options give the same bytes. A tensor depends on the seed, its name
// and its shape alone, so a model with fewer layers shares the rest with its
// bigger twin and often proposes the same tokens: a draft. Functions are pure
// but for the files that they write.
package tiny

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"triforce/tensor"
	"triforce/weights/gguf"
)

// Options is the shape of a model. Zeros stand for the numbers in brackets.
type Options struct {
	Seed    uint64
	Layers  int // [2]
	Dim     int // [32]
	FFN     int // [2·Dim]
	Heads   int // [4]
	KVHeads int // [Heads]
	HeadDim int // [8], whatever Dim/Heads is
	// RopeDims is how many elements of a head rotate [HeadDim].
	RopeDims int
	Rope     Rope
	// Sharp is how much attention prefers some tokens to others [1.5].
	Sharp float64
	// Window is the reach of sliding-window attention [none].
	Window  int
	Context int // [8192]
	// Untied gives the output head a matrix of its own.
	Untied bool
	// Type is the stored format of matrices [F32]; those whose rows it cannot
	// hold, and vectors, are F32.
	Type  tensor.DType
	Vocab Vocab
	// State is the width of another model's states that it takes in [none].
	State int
	// Chat is a chat template, for files [none].
	Chat string
	// Padding is how many unused tokens follow the vocabulary.
	Padding int
}

// Rope is a kind of rotary scaling.
type Rope string

// The kinds, spelled as in metadata but for two: no scaling, and Llama 3's as a
// tensor of factors (rope_freqs.weight), which folders cannot have.
const (
	RopeNone    Rope = ""
	RopeLinear  Rope = "linear"
	RopeLlama3  Rope = "llama3"
	RopeYarn    Rope = "yarn"
	RopeFactors Rope = "factors"
)

// What the scaled kinds scale by: contexts of RopeOriginal tokens by RopeFactor,
// with Llama 3's and yarn's customary bounds, from a base of RopeBase.
const (
	RopeBase     = 10000
	RopeFactor   = 4
	RopeOriginal = 64
	LowFreq      = 1
	HighFreq     = 4
	BetaFast     = 32
	BetaSlow     = 1
)

// Epsilon is that of every normalization.
const Epsilon = 1e-5

// Fill returns the options with numbers for zeros.
func (o Options) Fill() Options {
	fill := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	fill(&o.Layers, 2)
	fill(&o.Dim, 32)
	fill(&o.FFN, 2*o.Dim)
	fill(&o.Heads, 4)
	fill(&o.KVHeads, o.Heads)
	fill(&o.HeadDim, 8)
	fill(&o.RopeDims, o.HeadDim)
	fill(&o.Context, 8192)
	if o.Sharp == 0 {
		o.Sharp = 1.5
	}
	return o
}

// Model writes a GGUF file to a folder of the test and returns its path.
func Model(tb testing.TB, o Options) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "tiny.gguf")
	if err := WriteFile(path, o); err != nil {
		tb.Fatal(err)
	}
	return path
}

// WriteFile writes a GGUF file.
func WriteFile(path string, o Options) error { return gguf.WriteFile(path, Meta(o), Tensors(o)) }

// Meta returns the metadata of a model.
func Meta(o Options) []gguf.KV {
	o = o.Fill()
	meta := []gguf.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.name", Value: "tiny"},
		{Key: "llama.context_length", Value: o.Context},
		{Key: "llama.embedding_length", Value: o.Dim},
		{Key: "llama.block_count", Value: o.Layers},
		{Key: "llama.feed_forward_length", Value: o.FFN},
		{Key: "llama.attention.head_count", Value: o.Heads},
		{Key: "llama.attention.head_count_kv", Value: o.KVHeads},
		{Key: "llama.attention.key_length", Value: o.HeadDim},
		{Key: "llama.attention.value_length", Value: o.HeadDim},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: Epsilon},
		{Key: "llama.rope.dimension_count", Value: o.RopeDims},
		{Key: "llama.rope.freq_base", Value: float64(RopeBase)},
	}
	if o.Window > 0 {
		meta = append(meta, gguf.KV{Key: "llama.attention.sliding_window", Value: o.Window})
	}
	if o.Rope != RopeNone && o.Rope != RopeFactors {
		meta = append(meta,
			gguf.KV{Key: "llama.rope.scaling.type", Value: string(o.Rope)},
			gguf.KV{Key: "llama.rope.scaling.factor", Value: float64(RopeFactor)},
			gguf.KV{Key: "llama.rope.scaling.original_context_length", Value: RopeOriginal})
	}
	if o.Rope == RopeLlama3 {
		meta = append(meta,
			gguf.KV{Key: "llama.rope.scaling.low_freq_factor", Value: float64(LowFreq)},
			gguf.KV{Key: "llama.rope.scaling.high_freq_factor", Value: float64(HighFreq)})
	}
	if o.Chat != "" {
		meta = append(meta, gguf.KV{Key: "tokenizer.chat_template", Value: o.Chat})
	}
	return append(meta, o.Vocab.meta(o.Padding)...)
}

// Tensors returns the weights of a model, in a model's row order.
func Tensors(o Options) []tensor.Tensor {
	o = o.Fill()
	var all []tensor.Tensor
	matrix := func(name string, rows, cols int, gain float64) {
		r := source(o.Seed, name)
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = float32(gain / math.Sqrt(float64(cols)) * r.NormFloat64())
		}
		t := o.Type
		if cols%t.BlockSize() != 0 {
			t = tensor.F32
		}
		all = append(all, encode(name, t, rows, cols, x))
	}
	norm := func(name string) {
		r := source(o.Seed, name)
		x := make([]float32, o.Dim)
		for i := range x {
			x[i] = float32(1 + 0.1*r.NormFloat64())
		}
		all = append(all, encode(name, tensor.F32, 1, o.Dim, x))
	}
	vocab, q, kv := len(o.Vocab.Tokens(o.Padding)), o.Heads*o.HeadDim, o.KVHeads*o.HeadDim
	matrix("token_embd.weight", vocab, o.Dim, 2)
	if o.Rope == RopeFactors {
		all = append(all, encode("rope_freqs.weight", tensor.F32, 1, o.RopeDims/2, o.factors()))
	}
	for i := range o.Layers {
		name := func(s string) string { return blockName(i, s) }
		norm(name("attn_norm"))
		// Some tokens should matter more than others to attention, and no
		// layer should drown what came before it.
		matrix(name("attn_q"), q, o.Dim, o.Sharp)
		matrix(name("attn_k"), kv, o.Dim, 1.5)
		matrix(name("attn_v"), kv, o.Dim, 1)
		matrix(name("attn_output"), o.Dim, q, 0.5)
		norm(name("ffn_norm"))
		matrix(name("ffn_gate"), o.FFN, o.Dim, 1)
		matrix(name("ffn_up"), o.FFN, o.Dim, 1)
		matrix(name("ffn_down"), o.Dim, o.FFN, 0.5)
	}
	norm("output_norm.weight")
	if o.Untied {
		matrix("output.weight", vocab, o.Dim, 2)
	}
	if o.State > 0 {
		matrix("triforce.state.weight", o.Dim, o.State, 1)
	}
	return all
}

// factors divides the frequencies as Llama 3's scaling does.
func (o *Options) factors() []float32 {
	f := make([]float32, o.RopeDims/2)
	for i := range f {
		wavelength := 2 * math.Pi * math.Pow(RopeBase, 2*float64(i)/float64(o.RopeDims))
		switch turns := RopeOriginal / wavelength; {
		case turns > HighFreq:
			f[i] = 1
		case turns < LowFreq:
			f[i] = RopeFactor
		default:
			keep := (turns - LowFreq) / (HighFreq - LowFreq)
			f[i] = float32(1 / ((1-keep)/RopeFactor + keep))
		}
	}
	return f
}

func encode(name string, t tensor.DType, rows, cols int, x []float32) tensor.Tensor {
	data := make([]byte, rows*t.RowBytes(cols))
	tensor.Quantize(data, t, x)
	return tensor.Tensor{Name: name, DType: t, Rows: rows, Cols: cols, Data: data}
}

// source is the random numbers of one tensor.
func source(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

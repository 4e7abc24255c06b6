package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"triforce/internal/testutil/tiny"
	"triforce/tensor"
	"triforce/weights/gguf"
)

// shape is what a config.json says of a model's size.
type shape struct {
	Dim     int  `json:"hidden_size"`
	FFN     int  `json:"intermediate_size"`
	Layers  int  `json:"num_hidden_layers"`
	Heads   int  `json:"num_attention_heads"`
	KVHeads int  `json:"num_key_value_heads"`
	HeadDim int  `json:"head_dim"`
	Vocab   int  `json:"vocab_size"`
	Context int  `json:"max_position_embeddings"`
	Tied    bool `json:"tie_word_embeddings"`
}

// writeShape writes a model of the shape that a config.json describes, with
// random weights. All matrices of as many columns are made of the same run of
// blocks, over and over, so that billions of weights take seconds: a model to
// time, not to read.
func writeShape(path, config, format string) error {
	formats := tensor.DTypes()
	at := slices.IndexFunc(formats, func(d tensor.DType) bool { return strings.EqualFold(d.String(), format) })
	if at < 0 {
		return fmt.Errorf("-type %q: expected one of %v", format, formats)
	}
	t := formats[at]
	data, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var s shape
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	if min(s.Dim, s.FFN, s.Layers, s.Heads, s.Vocab) < 1 {
		return fmt.Errorf("%s: expected hidden_size, intermediate_size, num_hidden_layers, num_attention_heads and vocab_size", config)
	}
	kvHeads, headDim := cmp.Or(s.KVHeads, s.Heads), cmp.Or(s.HeadDim, s.Dim/s.Heads)
	padding := s.Vocab - len(tiny.ByteLevel.Tokens(0))
	if padding < 0 {
		return fmt.Errorf("%s: vocab_size %d, expected at least %d", config, s.Vocab, s.Vocab-padding)
	}
	meta := tiny.Meta(tiny.Options{
		Layers: s.Layers, Dim: s.Dim, FFN: s.FFN, Heads: s.Heads, KVHeads: kvHeads, HeadDim: headDim,
		Context: s.Context, Vocab: tiny.ByteLevel, Padding: padding,
	})
	runs := map[int][]byte{} // by number of columns
	var all []tensor.Tensor
	matrix := func(name string, rows, cols int) {
		need := rows * t.RowBytes(cols)
		run := runs[cols]
		if run == nil {
			x := make([]float32, cols*max(1, 1<<20/cols))
			r := rand.New(rand.NewPCG(1, uint64(cols)))
			for i := range x {
				x[i] = float32(r.NormFloat64() / math.Sqrt(float64(cols)))
			}
			run = make([]byte, t.RowBytes(len(x)))
			tensor.Quantize(run, t, x)
		}
		for len(run) < need {
			run = append(run, run...)
		}
		runs[cols] = run
		all = append(all, tensor.Tensor{Name: name, DType: t, Rows: rows, Cols: cols, Data: run[:need:need]})
	}
	ones := make([]float32, s.Dim)
	for i := range ones {
		ones[i] = 1
	}
	norm := func(name string) {
		data := make([]byte, 4*s.Dim)
		tensor.Quantize(data, tensor.F32, ones)
		all = append(all, tensor.Tensor{Name: name, DType: tensor.F32, Rows: 1, Cols: s.Dim, Data: data})
	}
	matrix("token_embd.weight", s.Vocab, s.Dim)
	for i := range s.Layers {
		name := func(part string) string { return fmt.Sprintf("blk.%d.%s.weight", i, part) }
		norm(name("attn_norm"))
		matrix(name("attn_q"), s.Heads*headDim, s.Dim)
		matrix(name("attn_k"), kvHeads*headDim, s.Dim)
		matrix(name("attn_v"), kvHeads*headDim, s.Dim)
		matrix(name("attn_output"), s.Dim, s.Heads*headDim)
		norm(name("ffn_norm"))
		matrix(name("ffn_gate"), s.FFN, s.Dim)
		matrix(name("ffn_up"), s.FFN, s.Dim)
		matrix(name("ffn_down"), s.Dim, s.FFN)
	}
	norm("output_norm.weight")
	if !s.Tied {
		matrix("output.weight", s.Vocab, s.Dim)
	}
	return gguf.WriteFile(path, meta, all)
}

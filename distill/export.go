package distill

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"triforce/engine"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/tokenizer"
	"triforce/weights"
	"triforce/weights/gguf"
)

// formats are those of a file's inner matrices, and of embedding and head.
type formats struct{ inner, outer tensor.DType }

// stored is what drafts are written in. Most of their weights are in embedding and
// head, and these bear four bits.
var stored = formats{tensor.Q8_0, tensor.Q4_1}

// export writes the student as a model file that replaces what is at path at
// once or not at all. vocabulary is metadata of which the tokenizer's keys are
// taken.
func export(path, name string, s Shape, params []param, tokens []int32, vocabulary weights.Meta, f formats) error {
	meta := []gguf.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.name", Value: name},
		{Key: "llama.context_length", Value: s.Length},
		{Key: "llama.embedding_length", Value: s.Dim},
		{Key: "llama.block_count", Value: s.Layers},
		{Key: "llama.feed_forward_length", Value: s.FFN},
		{Key: "llama.attention.head_count", Value: s.Heads},
		{Key: "llama.attention.head_count_kv", Value: s.KVHeads},
		{Key: "llama.attention.key_length", Value: s.HeadDim},
		{Key: "llama.attention.value_length", Value: s.HeadDim},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: epsilon},
		{Key: "llama.rope.dimension_count", Value: s.HeadDim},
		{Key: "llama.rope.freq_base", Value: s.RopeBase},
	}
	if s.own() {
		meta = append(meta, gguf.KV{Key: llama.OwnStateKey, Value: true})
	}
	if s.Head < s.Vocab {
		meta = append(meta, gguf.KV{Key: llama.HeadKey, Value: widen(tokens)})
	}
	for _, key := range slices.Sorted(maps.Keys(vocabulary)) {
		if strings.HasPrefix(key, "tokenizer.") {
			meta = append(meta, gguf.KV{Key: key, Value: vocabulary[key]})
		}
	}
	return write(path, func(w io.Writer) error { return gguf.Write(w, meta, fileTensors(s, params, f)) })
}

func widen(tokens []int32) []int64 {
	all := make([]int64, len(tokens))
	for i, t := range tokens {
		all[i] = int64(t)
	}
	return all
}

// fileTensors are the student's matrices as files store them, in a model's row
// order: transposed, and cut where several stand side by side.
func fileTensors(s Shape, params []param, f formats) []tensor.Tensor {
	named := byName(params)
	var all []tensor.Tensor
	put := func(name string, t tensor.DType, rows, cols int, x []float32) {
		if cols%t.BlockSize() != 0 {
			t = tensor.F32
		}
		data := make([]byte, rows*t.RowBytes(cols))
		tensor.Quantize(data, t, x)
		all = append(all, tensor.Tensor{Name: name, DType: t, Rows: rows, Cols: cols, Data: data})
	}
	columns := func(name string, t tensor.DType, p param, lo, n int) {
		x := make([]float32, n*p.rows)
		for i := range p.rows {
			for j := range n {
				x[j*p.rows+i] = p.data[i*p.cols+lo+j]
			}
		}
		put(name, t, n, p.rows, x)
	}
	ones := make([]float32, s.Dim)
	for i := range ones {
		ones[i] = 1
	}
	put("token_embd.weight", f.outer, s.Vocab, s.Dim, named[embedName].data)
	if s.State > 0 {
		columns(llama.StateTensor, f.inner, named[stateName], 0, s.Dim)
	}
	for i := range s.Layers {
		name := func(what string) string { return fmt.Sprintf("blk.%d.%s.weight", i, what) }
		get := func(what string) param { return named[layerName(i, what)] }
		q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
		put(name("attn_norm"), tensor.F32, 1, s.Dim, ones)
		columns(name("attn_q"), f.inner, get("qkv"), 0, q)
		columns(name("attn_k"), f.inner, get("qkv"), q, kv)
		columns(name("attn_v"), f.inner, get("qkv"), q+kv, kv)
		columns(name("attn_output"), f.inner, get("out"), 0, s.Dim)
		put(name("ffn_norm"), tensor.F32, 1, s.Dim, ones)
		columns(name("ffn_gate"), f.inner, get("gate_up"), 0, s.FFN)
		columns(name("ffn_up"), f.inner, get("gate_up"), s.FFN, s.FFN)
		columns(name("ffn_down"), f.inner, get("down"), 0, s.Dim)
	}
	put("output_norm.weight", tensor.F32, 1, s.Dim, ones)
	columns("output.weight", f.outer, named[headName], 0, s.Head)
	return all
}

// vocabularyOf is the tokenizer's metadata of the target: its own if it is a
// GGUF file. For a folder it is the tokens, by which engines compare a draft
// with its target, and scores that merge none of them: a draft is never asked to
// encode text.
func vocabularyOf(f *engine.File) weights.Meta {
	meta := f.Source().Meta()
	if meta.Strings("tokenizer.ggml.tokens") != nil {
		return meta
	}
	v := f.Tokenizer().Vocab()
	n := v.Size()
	tokens, types, scores := make([]string, n), make([]int64, n), make([]float64, n)
	for i := range n {
		tokens[i], types[i], scores[i] = v.Token(int32(i)), int64(v.Type(int32(i))), float64(-i)
	}
	const key = "tokenizer.ggml."
	return weights.Meta{
		key + "model": string(tokenizer.SentencePiece), key + "tokens": tokens, key + "token_type": types, key + "scores": scores,
		key + "bos_token_id": int64(v.BOS()), key + "eos_token_id": int64(v.EOS()), key + "unknown_token_id": int64(v.Unk()),
		key + "add_bos_token": v.AddsBOS(),
	}
}

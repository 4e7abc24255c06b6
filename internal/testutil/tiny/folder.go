package tiny

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triforce/tensor"
)

// Folder writes the model as a Hugging Face folder, with the same weights as
// Model, and returns its path. Type must be F32, F16 or BF16.
func Folder(tb testing.TB, o Options) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "tiny")
	if err := WriteFolder(path, o); err != nil {
		tb.Fatal(err)
	}
	return path
}

// WriteFolder makes a folder of model.safetensors, config.json,
// tokenizer.json and tokenizer_config.json.
func WriteFolder(path string, o Options) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	data, err := safetensors(Tensors(o))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(path, "model.safetensors"), data, 0o644); err != nil {
		return err
	}
	for name, v := range map[string]any{
		"config.json":           config(o),
		"tokenizer.json":        o.Vocab.json(o.Padding),
		"tokenizer_config.json": map[string]any{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": o.Vocab == SentencePiece},
	} {
		data, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(path, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func blockName(layer int, part string) string { return fmt.Sprintf("blk.%d.%s.weight", layer, part) }

// folderName is the name that folders have for a tensor.
func folderName(name string) string {
	switch name {
	case "token_embd.weight":
		return "model.embed_tokens.weight"
	case "output_norm.weight":
		return "model.norm.weight"
	case "output.weight":
		return "lm_head.weight"
	}
	layer, part, _ := strings.Cut(strings.TrimPrefix(name, "blk."), ".")
	part = map[string]string{
		"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
		"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
		"attn_output": "self_attn.o_proj",
		"ffn_gate":    "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
	}[strings.TrimSuffix(part, ".weight")]
	return "model.layers." + layer + "." + part + ".weight"
}

func safetensors(tensors []tensor.Tensor) ([]byte, error) {
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header, at := map[string]entry{}, 0
	for _, t := range tensors {
		shape := []int{t.Rows, t.Cols}
		if t.Rows == 1 {
			shape = shape[1:]
		}
		header[folderName(t.Name)] = entry{t.DType.String(), shape, [2]int{at, at + len(t.Data)}}
		at += len(t.Data)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	for _, t := range tensors {
		data = append(data, t.Data...)
	}
	return data, nil
}

func config(o Options) map[string]any {
	o = o.Fill()
	c := map[string]any{
		"model_type":              "llama",
		"_name_or_path":           "tiny",
		"max_position_embeddings": o.Context,
		"hidden_size":             o.Dim,
		"num_hidden_layers":       o.Layers,
		"intermediate_size":       o.FFN,
		"vocab_size":              len(o.Vocab.Tokens(o.Padding)),
		"num_attention_heads":     o.Heads,
		"num_key_value_heads":     o.KVHeads,
		"head_dim":                o.HeadDim,
		"rms_norm_eps":            Epsilon,
		"hidden_act":              "silu",
		"rope_theta":              RopeBase,
		"tie_word_embeddings":     !o.Untied,
		"bos_token_id":            BOS,
		"eos_token_id":            EOS,
	}
	if o.Window > 0 {
		c["model_type"], c["sliding_window"] = "mistral", o.Window
	}
	if o.Rope != RopeNone {
		c["rope_scaling"] = map[string]any{
			"rope_type": string(o.Rope), "factor": RopeFactor, "original_max_position_embeddings": RopeOriginal,
			"low_freq_factor": LowFreq, "high_freq_factor": HighFreq, "beta_fast": BetaFast, "beta_slow": BetaSlow,
		}
	}
	return c
}

// object is one of JSON.
type object = map[string]any

// json returns the content of tokenizer.json.
func (v Vocab) json(padding int) object {
	vocab, added := map[string]int{}, []object{}
	for i, t := range v.Tokens(padding) {
		vocab[t] = i
		if i < specials {
			added = append(added, object{"id": i, "content": t, "special": true})
		}
	}
	model := object{"type": "BPE", "vocab": vocab, "merges": v.merges(), "byte_fallback": v == SentencePiece, "fuse_unk": v == SentencePiece}
	f := object{"version": "1.0", "added_tokens": added, "model": model}
	if v == ByteLevel {
		f["pre_tokenizer"] = object{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}
		f["decoder"] = object{"type": "ByteLevel"}
		return f
	}
	model["unk_token"] = "<unk>"
	space := object{"String": " "}
	f["normalizer"] = object{"type": "Sequence", "normalizers": []object{
		{"type": "Prepend", "prepend": "▁"},
		{"type": "Replace", "pattern": space, "content": "▁"},
	}}
	f["decoder"] = object{"type": "Sequence", "decoders": []object{
		{"type": "Replace", "pattern": object{"String": "▁"}, "content": " "},
		{"type": "ByteFallback"},
		{"type": "Fuse"},
		{"type": "Strip", "content": " ", "start": 1, "stop": 0},
	}}
	f["post_processor"] = object{"type": "TemplateProcessing", "single": []object{
		{"SpecialToken": object{"id": "<s>", "type_id": 0}},
		{"Sequence": object{"id": "A", "type_id": 0}},
	}}
	return f
}

package safetensors

import (
	"strconv"
	"strings"
)

// translate returns GGUF's name of a Hugging Face tensor, "" for one that
// models do not need, and the name itself if there is no other.
func translate(name string) string {
	dot := strings.LastIndexByte(name, '.')
	stem, kind := name[:max(dot, 0)], name[max(dot, 0):]
	if kind == ".inv_freq" { // old checkpoints store the rotary frequencies
		return ""
	}
	if kind != ".weight" && kind != ".bias" {
		return name
	}
	switch stem {
	case "model.embed_tokens":
		return "token_embd" + kind
	case "model.norm":
		return "output_norm" + kind
	case "lm_head":
		return "output" + kind
	}
	layer, part, _ := strings.Cut(strings.TrimPrefix(stem, "model.layers."), ".")
	if n, err := strconv.ParseUint(layer, 10, 31); err != nil || strconv.FormatUint(n, 10) != layer || !strings.HasPrefix(stem, "model.layers.") {
		return name
	}
	short := ""
	switch part {
	case "input_layernorm":
		short = "attn_norm"
	case "self_attn.q_proj":
		short = "attn_q"
	case "self_attn.k_proj":
		short = "attn_k"
	case "self_attn.v_proj":
		short = "attn_v"
	case "self_attn.o_proj":
		short = "attn_output"
	case "post_attention_layernorm":
		short = "ffn_norm"
	case "mlp.gate_proj":
		short = "ffn_gate"
	case "mlp.up_proj":
		short = "ffn_up"
	case "mlp.down_proj":
		short = "ffn_down"
	default:
		return name
	}
	return "blk." + layer + "." + short + kind
}

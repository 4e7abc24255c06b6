"""Writes a checkpoint as GGUF: matrices in Q8_0, norms in F32, the SentencePiece vocabulary.

    python export.py OUT/target.pt target tok.model fable-target.gguf
"""
import argparse
from dataclasses import replace

import gguf
import numpy as np
import sentencepiece
import torch

from model import CONTEXT, EPSILON, SHAPES, THETA, VOCABULARY, Llama, load

MATRICES = {"wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output", "w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down"}
Q8_0 = gguf.GGMLQuantizationType.Q8_0


def interleaved(w, heads):
    """Rows of w with the pairs of each head side by side, as GGUF wants queries and keys of this architecture."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def separated(w, heads):
    """The inverse of interleaved."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def read(path, network, **changes):
    """The network with the weights of a GGUF file as they are stored, in float32; changes are of its shape."""
    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    shape = replace(SHAPES[network], **changes)
    state = {"emb.weight": stored["token_embd.weight"], "norm": stored["output_norm.weight"]}
    for i in range(shape.layers):
        for ours, theirs in MATRICES.items():
            x = stored[f"blk.{i}.{theirs}.weight"]
            state[f"blocks.{i}.{ours}.weight"] = separated(x, shape.heads) if ours in ("wq", "wk") else x
        state[f"blocks.{i}.n1"] = stored[f"blk.{i}.attn_norm.weight"]
        state[f"blocks.{i}.n2"] = stored[f"blk.{i}.ffn_norm.weight"]
    loaded = Llama(shape)
    loaded.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    return loaded.eval()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("checkpoint")
    p.add_argument("network", choices=SHAPES)
    p.add_argument("tokenizer")
    p.add_argument("out")
    a = p.parse_args()
    shape = SHAPES[a.network]
    state = {k: v.float().numpy() for k, v in load(a.checkpoint, a.network).state_dict().items()}
    sp = sentencepiece.SentencePieceProcessor(model_file=a.tokenizer)

    w = gguf.GGUFWriter(a.out, "llama")
    w.add_name(f"fable-{a.network}")
    w.add_license("other")
    w.add_description("Small Llama pair trained on public-domain books and TinyStories (CDLA-Sharing-1.0)")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(shape.dim)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.ffn)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.heads)
    w.add_layer_norm_rms_eps(EPSILON)
    w.add_rope_freq_base(THETA)
    w.add_rope_dimension_count(shape.dim // shape.heads)
    w.add_vocab_size(VOCABULARY)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)

    def kind(i):
        t = gguf.TokenType
        return t.UNKNOWN if sp.is_unknown(i) else t.CONTROL if sp.is_control(i) else t.BYTE if sp.is_byte(i) else t.NORMAL

    ids = range(sp.get_piece_size())
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([sp.id_to_piece(i).encode() for i in ids])
    w.add_token_scores([sp.get_score(i) for i in ids])
    w.add_token_types([kind(i) for i in ids])
    w.add_bos_token_id(sp.bos_id())
    w.add_eos_token_id(sp.eos_id())
    w.add_unk_token_id(sp.unk_id())
    w.add_add_bos_token(True)
    w.add_add_space_prefix(True)

    def matrix(name, x):
        w.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(x), Q8_0), raw_dtype=Q8_0)

    matrix("token_embd.weight", state["emb.weight"])
    w.add_tensor("output_norm.weight", state["norm"])
    for i in range(shape.layers):
        for ours, theirs in MATRICES.items():
            x = state[f"blocks.{i}.{ours}.weight"]
            matrix(f"blk.{i}.{theirs}.weight", interleaved(x, shape.heads) if ours in ("wq", "wk") else x)
        w.add_tensor(f"blk.{i}.attn_norm.weight", state[f"blocks.{i}.n1"])
        w.add_tensor(f"blk.{i}.ffn_norm.weight", state[f"blocks.{i}.n2"])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()

"""Writes the tiny Hugging Face folder beside this file with the Python package transformers, and prints checksums for the test."""
import os, zlib
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(1)
here = os.path.dirname(os.path.abspath(__file__))
config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                     max_position_embeddings=64, rms_norm_eps=1e-5, attention_bias=True, tie_word_embeddings=False, eos_token_id=[2, 3],
                     rope_parameters=dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))
model = LlamaForCausalLM(config).to(torch.bfloat16)
for p in model.parameters(): p.data.normal_()
model.save_pretrained(os.path.join(here, "tiny"))
for k in ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"):
    print(k, hex(zlib.crc32(model.state_dict()[k].contiguous().view(torch.int16).numpy().tobytes())))

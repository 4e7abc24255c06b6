"""Writes the fixtures beside this file with the independent implementation of the Python packages gguf and numpy.

dequantize/NAME: four blocks of random codes and chosen scales, then their elements as little-endian float32.
quantize/NAME: the elements of four blocks as little-endian float32, then the blocks.
"""
import os
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

here, rng = os.path.dirname(os.path.abspath(__file__)), np.random.default_rng(1)
# Offsets of the halves in a block: ordinary scales, then the largest, the smallest normal and subnormal, and negative.
HALVES = dict(Q4_0=[0], Q4_1=[0, 2], Q5_0=[0], Q5_1=[0, 2], Q8_0=[0], Q2_K=[80, 82], Q3_K=[108], Q4_K=[0, 2],
              Q5_K=[0, 2], Q6_K=[208], IQ4_NL=[0], IQ4_XS=[0])
SCALES = np.array([[0.0123, 1.5], [65504, 6.1e-5], [6e-8, 3.3e-6], [-0.77, -1e-3]], np.float16)

def save(kind, name, *parts):
    os.makedirs(os.path.join(here, kind), exist_ok=True)
    with open(os.path.join(here, kind, name), "wb") as f:
        for p in parts: f.write(p.tobytes())

for name, halves in HALVES.items():
    size, nbytes = GGML_QUANT_SIZES[T[name]]
    b = rng.integers(0, 256, (4, nbytes), np.uint8)
    for i, at in enumerate(halves): b[:, at:at + 2] = SCALES[:, i:i + 1].copy().view(np.uint8)
    save("dequantize", name, b, dequantize(b, T[name]).astype("<f4"))
for name, width in (("F32", 4), ("F16", 2), ("BF16", 2)):
    b = rng.integers(0, 256, (1, 256 * width), np.uint8)
    w = np.ascontiguousarray(dequantize(b, T[name])).astype("<f4").reshape(-1)
    keep = ~np.isnan(w)
    save("dequantize", name, b.reshape(-1, width)[keep], w[keep])

for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
    n = 32
    x = rng.standard_normal((4, n)).astype(np.float32) * np.array([[1], [1e-3], [700], [1e-7]], np.float32)
    x[3, 5:9] = 0
    x[1, :16] = np.round(x[1, :16], 3)  # repeated extremes and ties
    save("quantize", name, x, quantize(x, T[name]))

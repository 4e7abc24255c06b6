"""The two networks of the fable pair: Llama, once with full attention and once over a streaming cache."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, THETA, EPSILON, CONTEXT = 4096, 500_000.0, 1e-5, 32768


@dataclass(frozen=True)
class Shape:
    dim: int
    layers: int
    heads: int
    ffn: int
    sinks: int = 0   # of the streaming cache that the network runs over
    window: int = 0  # its newest tokens; 0 is attention to everything


SHAPES = {"target": Shape(256, 6, 4, 704), "draft": Shape(128, 2, 2, 352, sinks=16, window=256)}


def rotate(x, angles):
    """Turns pairs (i, i + half) of x (batch, heads, tokens, size) by angles (batch, 1, tokens, half)."""
    a, b = x.chunk(2, -1)
    c, s = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat((a * c - b * s, b * c + a * s), -1)


def stream_attention(q, turned, k, v, sinks, window):
    """Attention as over a streaming cache: each row sees the sinks, by the query turned to its place
    in the cache, and the newest window tokens after them. All are (batch, heads, tokens, size); tokens
    are a multiple of window. Rows go in blocks of window, which see their own block and the one before."""
    B, H, T, D = q.shape
    n = T // window
    blocks = lambda x: x.view(B, H, n, window, D)
    before = lambda x: torch.cat((blocks(F.pad(x, (0, 0, window, 0))[:, :, :T]), blocks(x)), 3)
    row = torch.arange(T, device=q.device).view(n, window, 1)
    key = torch.arange(-window, window, device=q.device) + row[:, :1]       # (n, 1, 2·window)
    near = (key <= row) & (key > row - window) & (key >= sinks)
    far = torch.arange(sinks, device=q.device) <= row
    scores = torch.cat((blocks(q) @ before(k).transpose(3, 4),
                        blocks(turned) @ k[:, :, None, :sinks].transpose(3, 4)), -1).float() * D**-0.5
    p = scores.masked_fill(~torch.cat((near, far), -1), float("-inf")).softmax(-1).to(v.dtype)
    out = p[..., :2 * window] @ before(v) + p[..., 2 * window:] @ v[:, :, None, :sinks]
    return out.view(B, H, T, D)


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        d = shape.dim
        self.shape = shape
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.w1, self.w3 = nn.Linear(d, shape.ffn, bias=False), nn.Linear(d, shape.ffn, bias=False)
        self.w2 = nn.Linear(shape.ffn, d, bias=False)
        self.n1, self.n2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))

    def forward(self, x, angles, cache_angles, sinks, window):
        B, T, d = x.shape
        h = F.rms_norm(x, (d,), self.n1, EPSILON)
        q, k, v = (w(h).view(B, T, self.shape.heads, -1).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        k = rotate(k, angles)
        if window:
            o = stream_attention(rotate(q, angles), rotate(q, cache_angles), k, v, sinks, window)
        else:
            o = F.scaled_dot_product_attention(rotate(q, angles), k, v, is_causal=True)
        x = x + self.wo(o.transpose(1, 2).reshape(B, T, d))
        h = F.rms_norm(x, (d,), self.n2, EPSILON)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.emb = nn.Embedding(VOCABULARY, shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.dim))
        half = shape.dim // shape.heads // 2
        self.register_buffer("frequencies", THETA ** (-torch.arange(half).float() / half), persistent=False)
        nn.init.normal_(self.emb.weight, std=0.02)
        for name, p in self.named_parameters():
            if name.endswith(("wo.weight", "w2.weight")):  # what is added to the stream starts small
                nn.init.normal_(p, std=0.2 * (p.shape[1] * shape.layers) ** -0.5)
            elif p.ndim == 2 and "emb" not in name:
                nn.init.normal_(p, std=0.5 * p.shape[1] ** -0.5)

    def forward(self, tokens, positions, view=None):
        """tokens and positions are (batch, tokens); the result is (batch, tokens, dim), see logits.
        With a view (sinks, window) a network that sees everything sees these only, at their own places."""
        turn = lambda p: p.float()[:, None, :, None] * self.frequencies
        angles = turn(positions)
        sinks, window = view or (self.shape.sinks, self.shape.window)
        cached = turn(positions.clamp(max=sinks + window - 1)) if self.shape.window else angles
        x = self.emb(tokens)
        for block in self.blocks:
            x = block(x, angles, cached, sinks, window)
        return F.rms_norm(x, (self.shape.dim,), self.norm, EPSILON)

    def logits(self, hidden):
        return hidden @ self.emb.weight.t()


def load(path, name, device="cpu"):
    """The network called name with the weights of a checkpoint, or of a file that holds weights alone."""
    state = torch.load(path, map_location=device)
    network = Llama(SHAPES[name]).to(device)
    network.load_state_dict(state.get("weights", state))
    return network

"""What a pair of GGUF files has learnt, on novels that it was not trained on.

    python evaluate.py NOVELS tok.model fable-target.gguf fable-draft.gguf --triforce TRIFORCE

Bits per byte in windows of 2K and 32K tokens and the loss by position are the program's own
(triforce perplexity); facts asked back and the draft's overlap are PyTorch's, in float32.
"""
import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch

import prepare
from export import read

SHORT, ROWS = 2047, 16           # tokens after BOS in a short window, and how many windows make the long one
LONG = SHORT * ROWS
PLACES = (1024, 4096, 16384, LONG)
DISTANCE, ASKED = 16384, 12      # tokens from facts to questions, facts in a window
OVERLAP = 8192


def mean_loss(triforce, model, ids):
    """The mean loss of the tokens after the first, in nats."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(ids, f)
        f.flush()
        out = subprocess.run([triforce, "perplexity", "-m", model, "--ids", f.name, "--json"], check=True, capture_output=True)
    return json.loads(out.stdout)["mean_nll"]


def bits_per_byte(a, sp, ids):
    """For short windows and for one long window over the same tokens."""
    size = len(sp.decode(ids).encode()) * np.log(2)
    bos = [sp.bos_id()]
    short = sum(SHORT * mean_loss(a.triforce, a.target, bos + ids[i:i + SHORT]) for i in range(0, LONG, SHORT))
    return short / size, LONG * mean_loss(a.triforce, a.target, bos + ids) / size


def loss_by_position(a, sp, ids):
    """Mean losses from each place of PLACES to the next."""
    sums = [0.0] + [n * mean_loss(a.triforce, a.target, [sp.bos_id()] + ids[:n]) for n in PLACES]
    return [(high - low) / (m - n) for low, high, n, m in zip(sums, sums[1:], (0, *PLACES), PLACES)]


@torch.no_grad()
def asked_back(target, sp, ids, rng):
    """How many of ASKED facts the target answers greedily: when they were told at the beginning, and when not.

    An answer counts by its first token.
    """
    facts = [prepare.fact(rng) for _ in range(ASKED)]
    inside = lambda text: prepare.encode_inside(sp, text)
    piece = DISTANCE // 8 // ASKED
    right = []
    for told in (True, False):
        x = [sp.bos_id()]
        for i, (_, statement, *_) in enumerate(facts):
            x += ids[i * piece:(i + 1) * piece] + (inside(statement + "\n\n") if told else [])
        x += ids[ASKED * piece:ASKED * piece + DISTANCE - len(x)]
        places, answers = [], []
        for _, _, question, answer, end in facts:
            x += inside(question)
            places.append(len(x) - 1)
            answers.append(inside(answer)[0])
            x += inside(answer + end)
        hidden = target(torch.tensor([x]), torch.arange(len(x))[None])[0, places]
        right.append(int((target.logits(hidden).argmax(-1) == torch.tensor(answers)).sum()))
    return right


@torch.no_grad()
def overlap(target, draft, sp, ids, temperatures=(1.0, 0.6)):
    """The mean of sum(min(p, q)) over tokens, where the draft's window is full, at each temperature."""
    x, at = torch.tensor([[sp.bos_id()] + ids[:OVERLAP - 1]]), torch.arange(OVERLAP)[None]
    p, q = (n.logits(n(x, at)[0, OVERLAP // 2:]) for n in (target, draft))
    return [float(torch.minimum((p / t).softmax(-1), (q / t).softmax(-1)).sum(-1).mean()) for t in temperatures]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("novels", type=Path)
    p.add_argument("tokenizer")
    p.add_argument("target")
    p.add_argument("draft")
    p.add_argument("--triforce", default="triforce")
    p.add_argument("--parts", default="facts,overlap,clean,position,raw")
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    sp = sentencepiece.SentencePieceProcessor(model_file=a.tokenizer)
    target, draft = read(a.target, "target"), read(a.draft, "draft")
    novels = [f.read_text() for f in sorted(a.novels.glob("*.txt"))]
    middle = lambda text: sp.encode(text[len(text) // 4:len(text) // 4 * 3])[:LONG]
    clean = [middle(prepare.clean(t)) for t in novels]
    raw = [middle(t) for t in novels]
    rng = random.Random(2)
    parts = {
        "facts": lambda: [asked_back(target, sp, ids, rng) for ids in clean],
        "overlap": lambda: [overlap(target, draft, sp, ids) for ids in clean],
        "clean": lambda: [bits_per_byte(a, sp, ids) for ids in clean],
        "position": lambda: [loss_by_position(a, sp, ids) for ids in clean],
        "raw": lambda: [bits_per_byte(a, sp, ids) for ids in raw],
    }
    for name in a.parts.split(","):
        each = parts[name]()
        print(name, np.round(each, 4).tolist(), "mean", np.mean(each, 0).round(4).tolist(), flush=True)


if __name__ == "__main__":
    main()

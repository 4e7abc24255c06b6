"""What the embedded pair must say, in float32 on the weights as they are stored.

    python golden.py CASES.json fable-target.gguf fable-draft.gguf > ../testdata/golden.json

CASES.json has prompts and a text as token ids, and is of the form that is written. Both networks attend to
everything here, also the draft.
"""
import json
import sys

import torch

from export import read

STEPS = 48


@torch.no_grad()
def remade(network, old):
    logits = lambda ids: network.logits(network(torch.tensor([ids]), torch.arange(len(ids))[None])[0])
    cases = []
    for c in old["cases"]:
        ids, tokens, gaps = list(c["prompt_ids"]), [], []
        for step in range(STEPS):
            top = logits(ids)[-1].topk(20)
            if step == 0:
                first = {"ids": top.indices.tolist(), "logits": [round(x, 4) for x in top.values.tolist()]}
            tokens.append(int(top.indices[0]))
            gaps.append(round(float(top.values[0] - top.values[1]), 4))
            ids.append(tokens[-1])
        cases.append({"name": c["name"], "prompt": c["prompt"], "prompt_ids": c["prompt_ids"], "top20": first, "greedy_ids": tokens, "greedy_gap": gaps})
    text = old["nll"]["text_ids"]
    nll = torch.nn.functional.cross_entropy(logits(text)[:-1], torch.tensor(text[1:]))
    return {"cases": cases, "nll": {"text_ids": text, "mean_nll": round(float(nll), 6)}}


def main():
    cases, target, draft = sys.argv[1:]
    old = json.load(open(cases))
    out = {"oracle": "PyTorch float32 on the dequantized weights (demo/train/golden.py)"}
    for name, network in (("target", read(target, "target")), ("draft", read(draft, "draft", sinks=0, window=0))):
        out[name] = remade(network, old[name])
    json.dump(out, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()

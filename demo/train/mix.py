"""Windows of training text, a pure function of seed and step, so that a run resumes where it was.

Beside plain books and stories a third of the rows cannot be told without what is far back: stories
that share made-up people, passages that come again, facts that are told and later asked. Short
windows are spread over the whole context: their pieces stand at far-apart positions.
"""
import numpy as np
import torch

SHARES = {"books": 0.82, "stories": 0.06, "cast": 0.12}
COPIES, FACTS = 0.12, 0.1  # of all rows


class Mix:
    def __init__(self, folder, device, seed, context):
        self.device, self.seed, self.context = device, seed, context
        read = lambda name: torch.from_numpy(np.memmap(f"{folder}/{name}.bin", np.uint16, "r").astype(np.int16)).to(device)
        self.texts = {name: read(name) for name in SHARES}
        facts = np.load(f"{folder}/facts.npz")
        self.facts = {k: torch.from_numpy(facts[k].astype(np.int64)).to(device) for k in facts.files}

    def batch(self, step, rows, length, spread=0.5):
        """Tokens (rows, length + 1) and positions (rows, length); spread is the share of rows with gaps."""
        g = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
        uniform = lambda n=rows: torch.rand(n, 1, generator=g, device=self.device)
        below = lambda limit, n=rows: (uniform(n) * limit).long()
        at = torch.arange(length + 1, device=self.device)
        which = uniform()
        x = torch.empty(rows, length + 1, dtype=torch.int64, device=self.device)
        low = 0.0
        for name, share in SHARES.items():
            mine = ((which >= low) & (which < low + share))[:, 0]
            text = self.texts[name]
            x[mine] = text[(below(len(text) - length - 1) + at)[mine]].long()
            low += share
        special = uniform()
        for _ in range(max(1, length // 1024)):
            x = torch.where(special < COPIES, self.copied(x, at, below), x)
        for _ in range(max(1, length // 1024)):
            x = torch.where(special > 1 - FACTS, self.told(x, at, below), x)
        return x, self.spread(at[:-1], uniform() < spread, below, rows, length)

    @staticmethod
    def copied(x, at, below):
        """A passage of 32 to 160 tokens of each row comes again, somewhere later."""
        n = 32 + below(129)
        source = below(x.shape[1] - 2 * n)
        target = source + n + below(x.shape[1] - 2 * n - source + 1)
        inside = (at >= target) & (at < target + n)
        return x.gather(1, torch.where(inside, at - (target - source), at.expand_as(x)))

    def told(self, x, at, below):
        """A fact in each row, and its question with the answer somewhere later, each between paragraphs."""
        newline = self.facts["told"][0, 0]
        ends = (x == newline) & (x.roll(-1, 1) == newline) & (x.roll(1, 1) != newline)
        end_from = lambda i: torch.where(ends & (at >= i), at, x.shape[1]).amin(1, keepdim=True)
        k = below(len(self.facts["told"]))[:, 0]
        early = end_from(below(x.shape[1] - 128))
        late = end_from(early + 1 + below((x.shape[1] - early).clamp(min=1)))
        for name, begin in (("asked", late), ("told", early)):
            ids, n = self.facts[name][k], self.facts[name + "_len"][k][:, None]
            x = x.gather(1, torch.where(at >= begin + n, at - n, at.expand_as(x)))
            offset = at - begin
            inside = (offset >= 0) & (offset < n)
            x = torch.where(inside, ids.gather(1, offset.clamp(0, ids.shape[1] - 1)), x)
        return x

    def spread(self, at, chosen, below, rows, length):
        """Ascending positions below the context with up to three gaps in the rows that are chosen."""
        positions = at.expand(rows, -1)
        room = self.context - length
        for _ in range(3):
            gap = below(room // 3 + 1)
            positions = positions + torch.where(chosen & (at >= below(length)), gap, 0)
        return positions

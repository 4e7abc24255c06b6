"""Trains the target, or distils the draft from it.

    python train.py target DATA OUT --from shared/fable/target.pt --until 23:50
    python train.py draft  DATA OUT --until 00:10

OUT/NAME.pt holds weights, optimizer, step, tokens and progress; a run goes on from it if it is there.
The schedule follows the clock, so that a run that is stopped for a while, or shares its machine, still
ends at a rate of zero when it should. Ctrl-C and SIGTERM write a checkpoint and end.
"""
import argparse
import datetime
import os
import signal
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from mix import Mix
from model import CONTEXT, SHAPES, Llama, load


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal by Newton and Schulz's iteration; all of a shape at once."""

    def __init__(self, matrices, lr, momentum=0.95, decay=0.01):
        super().__init__(list(matrices), dict(lr=lr, momentum=momentum, decay=decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                by_shape.setdefault(p.shape, []).append(p)
            for (rows, columns), ps in by_shape.items():
                for p in ps:
                    self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(p.grad, 1 - group["momentum"])
                u = torch.stack([p.grad.lerp(self.state[p]["momentum"], group["momentum"]) for p in ps])
                u = orthogonal(u.mT).mT if rows > columns else orthogonal(u)
                for p, d in zip(ps, u):
                    p.mul_(1 - group["lr"] * group["decay"])
                    p.add_(d, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonal(x):
    """x (n, rows, columns) with singular values near one."""
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def optimizers(network, rate, fused):
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and "emb" not in n]
    rest = [p for n, p in network.named_parameters() if p.ndim != 2 or "emb" in n]
    return [Muon(matrices, rate), torch.optim.AdamW(rest, lr=0.2 * rate, betas=(0.9, 0.95), weight_decay=0, fused=fused)]


def seconds_until(clock):
    """Seconds from now to the next HH:MM."""
    now = datetime.datetime.now()
    end = datetime.datetime.combine(now, datetime.time.fromisoformat(clock))
    return ((end - now).total_seconds()) % 86400


def text(losses):
    """A line's losses: of the text and, beside it, how far apart the two predictions are."""
    return "none" if losses is None else " ".join(f"{x:.4f}" for x in losses.tolist())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("network", choices=SHAPES)
    p.add_argument("data", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--from", dest="start", help="weights to start from where OUT has no checkpoint")
    p.add_argument("--until", help="end at this time of day, HH:MM")
    p.add_argument("--minutes", type=float, default=60, help="or after so many minutes")
    p.add_argument("--windows", default="0:1024,0.7:8192,0.9:32768", help="tokens of a window from each share of the run on")
    p.add_argument("--step-tokens", type=int, default=8192, help="tokens of a step")
    p.add_argument("--pass-tokens", type=int, default=8192, help="tokens of a pass; several passes make a step")
    p.add_argument("--view", type=int, nargs=2, default=(16, 512), metavar=("SINKS", "WINDOW"), help="of which the target's predictions shall be those over everything")
    p.add_argument("--agree", type=float, default=0, help="weight of the divergence between the two")
    p.add_argument("--rate", type=float, default=0.012, help="of Muon; a fifth of it is AdamW's")
    p.add_argument("--hold", type=float, default=0.4, help="share of the run before the rate falls")
    p.add_argument("--warm-up", type=int, default=40, help="steps")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--bf16", action="store_true", help="products in bfloat16")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--every", type=float, default=20, help="seconds between lines of the log")
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args()
    if a.agree and a.network != "target":
        p.error("--agree is for the target")
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / f"{a.network}.pt"

    saved = torch.load(path, map_location=a.device) if path.exists() else None
    if saved or a.start:
        network = load(path if saved else a.start, a.network, a.device)
    else:
        network = Llama(SHAPES[a.network]).to(a.device)
    opts = optimizers(network, a.rate, a.device != "cpu")
    step = tokens = first = 0
    begun = 0.0  # progress at the start of this process
    if saved:
        for o, s in zip(opts, saved["optimizers"]):
            o.load_state_dict(s)
        first = step = saved["step"]
        tokens, begun, a.seed = saved["tokens"], saved["progress"], saved["seed"]
    rates = [a.rate, 0.2 * a.rate]
    teacher = load(a.out / "target.pt", "target", a.device).eval().requires_grad_(False) if a.network == "draft" else None
    mix = Mix(a.data, a.device, a.seed, CONTEXT)
    windows = [(float(f), int(w)) for f, w in (x.split(":") for x in a.windows.split(","))]
    total = seconds_until(a.until) if a.until else 60 * a.minutes

    def cross_entropy(hidden, head, y):
        return F.cross_entropy((hidden @ head.t()).float().flatten(0, 1), y.flatten())

    def divergence(hidden, head, teacher_hidden, teacher_head):
        q, p = (F.log_softmax((h @ w.t()).float(), -1).flatten(0, 1) for h, w in ((hidden, head), (teacher_hidden, teacher_head)))
        return F.kl_div(q, p, reduction="batchmean", log_target=True)

    if a.compile:
        for n in (network, teacher):
            for block in n.blocks if n else ():
                block.compile(dynamic=False)
        cross_entropy, divergence = torch.compile(cross_entropy, dynamic=False), torch.compile(divergence, dynamic=False)

    def save(progress):
        partial = path.with_suffix(".partial")
        torch.save({"weights": network.state_dict(), "optimizers": [o.state_dict() for o in opts],
                    "step": step, "tokens": tokens, "progress": progress, "seed": a.seed}, partial)
        os.replace(partial, path)

    stop = []
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda *_: stop.append(1))
    start = printed = written = time.time()
    since, smooth = tokens, None
    while True:
        progress = begun + (1 - begun) * min(1, (time.time() - start) / total)
        if stop or progress >= 1:
            break
        rate = min(1, (step - first + 1) / a.warm_up) * min(1, (1 - progress) / (1 - a.hold))
        for o, r in zip(opts, rates):
            o.param_groups[0]["lr"] = r * rate
        window = max(w for f, w in windows if progress >= f)
        rows = max(1, a.pass_tokens // window)
        passes = max(1, a.step_tokens // (rows * window))
        mean = apart = 0.0
        for i in range(passes):
            x, positions = mix.batch(step * 4096 + i, rows, window, spread=0 if teacher else 0.5)
            with torch.autocast(torch.device(a.device).type, torch.bfloat16, enabled=a.bf16):
                hidden = network(x[:, :-1], positions)
                if teacher:
                    with torch.no_grad():
                        known = teacher(x[:, :-1], positions)
                    loss = divergence(hidden, network.emb.weight, known, teacher.emb.weight)
                else:
                    loss = cross_entropy(hidden, network.emb.weight, x[:, 1:])
            (loss / passes).backward()
            mean = mean + loss.detach() / passes
            if a.agree:
                with torch.autocast(torch.device(a.device).type, torch.bfloat16, enabled=a.bf16):
                    seen = network(x[:, :-1], positions, tuple(a.view))
                    loss = divergence(seen, network.emb.weight, hidden.detach(), network.emb.weight.detach())
                (a.agree * loss / passes).backward()
                apart = apart + loss.detach() / passes
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for o in opts:
            o.step()
        network.zero_grad(set_to_none=True)
        step += 1
        tokens += passes * rows * window
        losses = torch.stack((mean, apart)) if a.agree else mean[None]
        smooth = losses if smooth is None else 0.95 * smooth + 0.05 * losses
        now = time.time()
        if now - printed > a.every:
            print(f"step {step} progress {progress:.3f} tokens {tokens / 1e6:.2f}M window {window} loss {text(smooth)} "
                  f"rate {rate:.3f} {(tokens - since) / (now - printed):.0f} tokens/s", flush=True)
            printed, since = now, tokens
        if now - written > 120:
            save(progress)
            written = now
    save(progress)
    print(f"ended: step {step} tokens {tokens} loss {text(smooth)} progress {progress:.3f}", flush=True)


if __name__ == "__main__":
    main()

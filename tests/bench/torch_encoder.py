#!/usr/bin/python3
"""Forward latency of the encoder in PyTorch, microseconds per sequence.

2 layers, 2 heads, D=64, FFN 256 with gelu; item ids in, the states of every position out, no
dropout, one thread.  Lengths 10 and 50, batches of 1 and 32 equal lengths (no padding), eager and
torch.jit (traced; frozen; optimize_for_inference): the best of them is PyTorch's figure.
Prints one JSON line.
"""

import argparse
import json
import math
import statistics
import time

import torch_common as common


def build(n_items, max_len=50, width=64, heads=2, layers=2):
    """The encoder of plain nn.Module parts, which torch.jit knows how to optimise."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.attn_norm = nn.LayerNorm(width, eps=1e-12)
            self.ffn_norm = nn.LayerNorm(width, eps=1e-12)

        def forward(self, x, blocked):
            size, n = x.shape[0], x.shape[1]
            d = width // heads
            q, k, v = self.qkv(x).view(size, n, 3, heads, d).permute(2, 0, 3, 1, 4).unbind(0)
            weight = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d) + blocked, dim=-1)
            context = (weight @ v).transpose(1, 2).reshape(size, n, width)
            x = self.attn_norm(x + self.out(context))
            return self.ffn_norm(x + self.down(F.gelu(self.up(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.item, self.pos = nn.Embedding(n_items, width), nn.Embedding(max_len, width)
            self.norm = nn.LayerNorm(width, eps=1e-12)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.register_buffer("blocked", torch.triu(
                torch.full((max_len, max_len), -math.inf), 1))

        def forward(self, ids):
            n = ids.shape[1]
            x = self.norm(self.item(ids) + self.pos.weight[:n])
            for block in self.blocks:
                x = block(x, self.blocked[:n, :n])
            return x

    return Encoder().eval()


def measure(variants, ids, seconds):
    """Microseconds per sequence of every variant: the median of rounds, the variants taking
    turns, so that a disturbed moment doesn't fall on one of them."""
    import torch
    rounds = {name: [] for name in variants}
    with torch.no_grad():
        calls = {}
        for name, model in variants.items():
            for _ in range(20):
                model(ids)
            begin = time.perf_counter()
            model(ids)
            calls[name] = max(3, int(0.02 / max(1e-6, time.perf_counter() - begin)))
        stop = time.perf_counter() + seconds * len(variants)
        while len(rounds[name]) < 5 or time.perf_counter() < stop:
            for name, model in variants.items():
                begin = time.perf_counter()
                for _ in range(calls[name]):
                    model(ids)
                rounds[name].append((time.perf_counter() - begin) / calls[name])
    return {name: round(1e6 * statistics.median(r) / ids.shape[0], 1)
            for name, r in rounds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each of the 16 figures")
    parser.add_argument("--items", type=int, default=12101)
    args = parser.parse_args()
    facts = common.fair_environment(1)

    import torch
    torch.manual_seed(1)
    model = build(args.items)
    figures, best = {}, {}
    for n in (10, 50):
        for size in (1, 32):
            ids = torch.randint(0, args.items, (size, n))
            with torch.no_grad():
                traced = torch.jit.trace(model, ids)
                frozen = torch.jit.freeze(traced)
                variants = {"eager": model, "jit_trace": traced, "jit_freeze": frozen,
                            "jit_optimize_for_inference": torch.jit.optimize_for_inference(
                                torch.jit.trace(model, ids))}
                for name, variant in variants.items():
                    assert (variant(ids) - model(ids)).abs().max() < 1e-4
            key = "n%d_b%d" % (n, size)
            figures[key] = measure(variants, ids, args.seconds)
            best[key] = min(figures[key].values())
    print(json.dumps({"bench": "torch_encoder", "unit": "us_per_sequence", "best": best,
                      "variants": figures, **facts}))


if __name__ == "__main__":
    main()

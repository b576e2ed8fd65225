#!/usr/bin/python3
"""Time of MCLRec's three steps a batch in PyTorch, padded to 50 as the authors' code pads: the baseline of ours.

Two augmented views (crop .5, mask .5 as padding, reorder .8), two augmenters, the contrasts and their regulariser; the encoder
moves, the augmenters move, the encoder moves again, each after a fresh forward pass of the sequence and both views
(models/README.md, mclrec).  Prints one JSON line.
"""

import argparse
import json
import os
import statistics
import time

import torch_common as common

CROP, MASK, REORDER = .5, .5, .8


class Mclrec(common.Model):
    """The encoder with keys that may be left out, and two augmenters in self.w."""

    hidden = None  # [B,1,1,n] added to the scores

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        nn, width = self.torch.nn, self.p["item.weight"].shape[1]
        self.w = [nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, width // 4), nn.GELU(),
                                nn.Linear(width // 4, width)) for _ in range(2)]

    def attention(self, name, x):
        size, n, width = x.shape
        d = width // self.heads
        q, k, v = self.linear(name + ".qkv", x).view(size, n, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        score = q @ k.transpose(-1, -2) / d ** .5 + self.causal[:n, :n]
        if self.hidden is not None:
            score = score + self.hidden
        weight = self.dropout(self.torch.softmax(score, dim=-1), self.attention_dropout)
        return self.linear(name + ".out", (weight @ v).transpose(1, 2).reshape(size, n, width))

    def vectors(self, view):
        ids, length, shown = view
        self.hidden = (~shown)[:, None, None, :] * -1e4
        h = self.last(self.encode(ids), length)
        self.hidden = None
        return h

    def contrast(self, a, b):
        """NT-Xent and the regulariser."""
        torch, size = self.torch, len(a)
        z = torch.cat([a, b])
        s = z @ z.t()
        pair = torch.arange(2 * size).roll(size)
        own = torch.eye(2 * size, dtype=torch.bool)
        loss = self.F.cross_entropy(s.masked_fill(own, float("-inf")), pair)
        p = s.gather(1, pair[:, None])
        negative = s[~own.scatter(1, pair[:, None], True)].view(2 * size, -1)
        hardest = negative.max(1, keepdim=True).values
        lo, hi = torch.minimum(p, hardest), torch.maximum(p, hardest)
        return loss, torch.relu(p - lo).mean() + torch.relu(hi - negative).mean()

    def losses(self, batch, lam, beta):
        """L_0 and L_1."""
        ids, length, target, views = batch
        rec = self.F.cross_entropy(self.logits(self.encode(ids), length), target)
        h1, h2 = (self.vectors(v) for v in views)
        z1, z2 = (self.F.normalize(w(h), dim=1) for w, h in zip(self.w, (h1, h2)))
        pairs = [self.contrast(a, b) for a, b in ((z1, z2), (h1, z2), (h2, z1))]
        second = sum(x[0] for x in pairs) + .1 * sum(x[1] for x in pairs)
        return rec + lam * self.contrast(h1, h2)[0] + beta * second, second


def augment(seq, how, rng):
    """ids and which of them are shown."""
    n, shown = len(seq), [True] * len(seq)
    if n > 1 and how == 0:
        keep = max(1, int(CROP * n))
        first = rng.randint(0, n - keep + 1)
        seq, shown = seq[first:first + keep], shown[:keep]
    elif n > 1 and how == 1:
        for i in rng.permutation(n)[:int(MASK * n)]:
            shown[i] = False
    elif n > 1:
        keep = int(REORDER * n)
        first = rng.randint(0, n - keep + 1)
        seq = list(seq)
        seq[first:first + keep] = [seq[first + i] for i in rng.permutation(keep)]
    return list(seq), shown


def draw_views(data, batch, width, rng):
    import torch
    start, end, _ = batch
    views = [(torch.zeros(len(start), width, dtype=torch.long), torch.zeros(len(start), dtype=torch.long),
              torch.zeros(len(start), width, dtype=torch.bool)) for _ in range(2)]
    for r, (a, b) in enumerate(zip(start, end)):
        for view, how in zip(views, rng.permutation(3)[:2]):
            ids, shown = augment(data.tokens[a:b].tolist(), how, rng)
            view[0][r, :len(ids)] = torch.tensor(ids)
            view[1][r] = len(ids)
            view[2][r, :len(ids)] = torch.tensor(shown)
    return views


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="amazon-yelp/Beauty.txt", help="below $DATA")
    parser.add_argument("--steps", type=int, default=15, help="batches to time, the epoch extrapolated")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    facts = common.fair_environment(args.threads)

    import numpy as np
    import torch
    torch.manual_seed(1)
    rng = np.random.RandomState(1)
    data = common.Sequences(os.path.join(common.data_root(), args.dataset))
    model = Mclrec(data.n_items)
    theta = torch.optim.Adam(model.parameters(), lr=1e-3)
    augmenters = torch.optim.Adam([p for w in model.w for p in w.parameters()], lr=1e-3)
    epoch = common.batches(data.samples(50), 256, rng, False)

    def step(batch):
        ids, length = data.padded(batch[0], batch[1], 50)
        whole = (ids, length, torch.from_numpy(data.tokens[batch[1]]), draw_views(data, batch, 50, rng))
        for turn in range(3):
            learns = augmenters if turn == 1 else theta
            for w in model.w:
                w.requires_grad_(turn == 1)
            for p in model.parameters():
                p.requires_grad_(turn != 1)
            learns.zero_grad(set_to_none=True)
            loss = model.losses(whole, .04, .4)[turn == 1]
            loss.backward()
            learns.step()
        return loss.item()

    for batch in epoch[:args.warmup]:
        step(batch)
    seconds = []
    for batch in epoch[:args.steps]:
        begin = time.perf_counter()
        loss = step(batch)
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"bench": "torch_mclrec", "dataset": args.dataset, "steps_timed": len(seconds), "steps_per_epoch": len(epoch),
                      "ms_per_step_median": round(1e3 * statistics.median(seconds), 2),
                      "epoch_s": round(statistics.median(seconds) * len(epoch), 2), "loss_last": round(loss, 4), **facts}))


if __name__ == "__main__":
    main()

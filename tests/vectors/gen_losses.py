#!/usr/bin/python3
"""Golden vectors of next_item's losses: full and sampled softmax, BCE, gBCE and BPR, with temperature, label
smoothing, log-Q correction and weights of the targets.  Every loss is written from its definition, row by row."""

import numpy as np
import torch

import ref

V, D, H, L, K = 19, 8, 2, 6, 3
LENGTHS = [1, 2, 6, 4, 3]
LOSSES = ["softmax", "sampled", "bce", "gbce", "bpr"]
LOG_Q = ["none", "both", "negatives"]

# name, loss, layout A (all positions), interests, negatives, options
CASES = [
    ("softmax_smooth", "softmax", False, 0, 0, dict(smoothing=0.1, temperature=0.7)),
    ("softmax_smooth_interests", "softmax", False, K, 0, dict(smoothing=0.2, weighted=True)),
    ("softmax_all", "softmax", True, 0, 0, dict(weighted=True)),
    ("sampled", "sampled", True, 0, 9, dict(log_q="both")),
    ("sampled_interests", "sampled", False, K, 9, dict(log_q="both", smoothing=0.1, weighted=True,
                                                       temperature=2.0)),
    ("sampled_importance", "sampled", True, 0, 9, dict(log_q="negatives", weighted=True)),
    ("sampled_uncorrected", "sampled", False, K, 9, dict(smoothing=0.1)),
    ("bce", "bce", True, 0, 1, dict()),
    ("bce_interests", "bce", False, K, 4, dict(weighted=True)),
    ("gbce", "gbce", True, 0, 5, dict(gbce_t=0.75)),
    ("bpr", "bpr", False, 0, 1, dict()),
    ("bpr_interests", "bpr", False, K, 4, dict(temperature=0.5)),
]


def log_sigma(x):
    return torch.nn.functional.logsigmoid(x)


def row_loss(loss, s, target, negatives, opt, log_q):
    """One target: s [V] the scores of all items, negatives a list of items."""
    if loss == "softmax":
        e = opt.get("smoothing", 0.0)
        return torch.logsumexp(s, 0) - (1 - e) * s[target] - e * s.mean()
    others = [v for v in negatives if v != target]
    positive, negative = s[target], s[others]
    if loss == "sampled":
        candidates = torch.cat([positive[None], negative])
        if opt.get("log_q") == "both":
            candidates = candidates - log_q[[target] + others]
        elif opt.get("log_q") == "negatives":
            # e^s / (n q): the sum over the draws estimates the sum over the catalogue
            weights = 1 / (len(negatives) * torch.exp(log_q[others]))
            candidates = torch.cat([positive[None], negative + torch.log(weights)])
        e = opt.get("smoothing", 0.0)
        return torch.logsumexp(candidates, 0) - (1 - e) * candidates[0] - e * candidates.mean()
    if loss == "bce":
        return -log_sigma(positive) - torch.log(1 - torch.sigmoid(negative)).sum()
    if loss == "gbce":
        alpha = len(negatives) / (V - 1)
        beta = alpha * ((1 - 1 / alpha) * opt["gbce_t"] + 1 / alpha)
        power = torch.sigmoid(positive) ** beta
        return -(torch.log(power) + torch.log(1 - torch.sigmoid(negative)).sum()) / (
            len(negatives) + 1)
    return -log_sigma(positive - negative).mean()


def next_item(q, cfg, pack, target, negatives, weight, log_q, loss, layout_a, interests, opt):
    z = ref.encode(q, cfg, pack)
    if interests:
        s = ref.logits_interests(q, ref.interests(q, z, pack)[2])
    else:
        s = (z if layout_a else ref.last_states(z, pack)) @ q["item.weight"].T
    s = s / opt.get("temperature", 1.0)
    rows = torch.stack([row_loss(loss, s[i], int(target[i]), negatives[i], opt, log_q)
                        for i in range(len(target))])
    return (rows * weight).sum() / weight.sum()


def main():
    for seed, (name, loss, layout_a, interests, n, opt) in enumerate(CASES):
        rng = np.random.RandomState(600 + seed)
        cfg = ref.Config(1, H, True, "gelu")
        shapes = ref.encoder_shapes(V, D, L, cfg.layers)
        if interests:
            shapes.update(ref.interest_shapes(D, L, interests))
            del shapes["interest.beta_out"]
        p = ref.random_parameters(shapes, rng, 0.5)
        pack = ref.random_pack(rng, LENGTHS, V, L, "first")
        count = sum(LENGTHS) if layout_a else len(LENGTHS)
        target = rng.randint(0, V, count)
        shared = loss == "sampled"
        # drawn negatives never are the target, except among those that a batch shares
        if shared:
            drawn = rng.randint(0, V, n)
            drawn[0] = target[1]
            negatives = [list(drawn)] * count
        else:
            drawn = np.array([[(t + 1 + rng.randint(0, V - 1)) % V for _ in range(n)]
                              for t in target]).reshape(count, n)
            negatives = [list(row) for row in drawn]
        popularity = rng.dirichlet(np.ones(V)).astype(np.float32).astype(np.float64)
        log_q = torch.log(torch.from_numpy(popularity)).float().double()
        weight = (rng.uniform(0.5, 3.0, count) if opt.get("weighted") else np.ones(count))
        weight = torch.from_numpy(weight.astype(np.float32).astype(np.float64))

        def run(q):
            total = next_item(q, cfg, pack, target, negatives, weight.to(q["item.weight"].dtype),
                              log_q.to(q["item.weight"].dtype), loss, layout_a, interests, opt)
            return {"out.loss": total.reshape(1)}, total

        tensors = {**ref.stored_pack(pack), "target": torch.from_numpy(target.astype(np.int64)),
                   **ref.describe(cfg, interests=interests, loss=LOSSES.index(loss),
                                  layout_a=int(layout_a), negatives=n,
                                  log_q=LOG_Q.index(opt.get("log_q", "none"))),
                   "config.temperature": np.array([opt.get("temperature", 1.0)]),
                   "config.smoothing": np.array([opt.get("smoothing", 0.0)]),
                   "config.gbce_t": np.array([opt.get("gbce_t", 0.75)])}
        if opt.get("weighted"):
            tensors["weight"] = weight
        if n:
            flat = torch.from_numpy(np.asarray(drawn).astype(np.int64)).flatten()
            tensors.update({"neg": flat, "neg_log_q": log_q[flat], "target_log_q": log_q[target]})
        ref.write_case("loss_" + name + ".safetensors", run, p, tensors,
                       {"case": "loss_" + name, "positions": "first", "scalar": "out.loss"})


if __name__ == "__main__":
    main()

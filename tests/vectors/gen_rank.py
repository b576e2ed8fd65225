#!/usr/bin/python3
"""Golden vectors of the rank model (EasyRec's CL4SRec): forward, losses and gradients from the equations.

  inputs     u | tags | item: rows of three tables beside each other, the rows of a bag of tags added up
  steps      x_t = item_t | brand_t, the item's table shared with the input
  package    y = LN(ReLU(x W + b) + pos), without the projection where the width fits; bidirectional post-LN blocks;
             the first state, the last or their mean; a learned vector for an empty sequence
  top        h = ReLU(BN(h W)), BN(h) = (h - mean) / sqrt(var + 1e-3) * gain + bias over the batch (biased
             variance) in training, over running averages otherwise; logit = h w + b
  loss       mean of log(1 + e^s) - label s
             + contrast_weight NT-Xent(package(view 1), package(view 2))
             + l2 / 2 sum W^2 + embedding / 2 sum of squares of all that was looked up
Views are given as rows of the steps, -1: the vector of a masked step."""

import numpy as np
import torch

import ref

BN_EPS = float(np.float32(1e-3))
H, LAYERS, HEADS, L = 16, 2, 2, 8
LENGTHS = [3, 1, 0, 8, 2, 5]
TABLES = {"user": (7, 4), "tags": (6, 3), "item": (11, 6), "brand": (5, 5)}
OUTPUTS = ["head", "last", "mean"]


def spans(cu):
    return [slice(int(a), int(b)) for a, b in zip(cu[:-1], cu[1:])]


def package(p, steps, cu, output):
    """One vector for each sequence, whatever the steps are made of."""
    cfg = ref.Config(LAYERS, HEADS, False, "gelu")
    out = []
    for s in spans(cu):
        x = steps[s]
        n = len(x)
        if n == 0:
            out.append(p["seq_empty.weight"][0])
            continue
        if "seq_project.weight" in p:
            x = torch.relu(ref.linear(p, "seq_project", x))
        x = ref.layer_norm(p, "emb_norm", x + p["pos.weight"][:n])
        everywhere = torch.ones(n, n, dtype=torch.bool)
        for i in range(LAYERS):
            layer = "layers.%d." % i
            x = ref.layer_norm(p, layer + "attn_norm",
                               x + ref.attention(p, layer + "attn", x, cfg, everywhere))
            inner = ref.gelu(ref.linear(p, layer + "ffn.up", x))
            x = ref.layer_norm(p, layer + "ffn_norm", x + ref.linear(p, layer + "ffn.down", inner))
        out.append({"head": x[0], "last": x[-1], "mean": x.mean(0)}[output])
    return torch.stack(out)


def batch_norm(p, name, x, train):
    """The normalised rows, and the statistics that they were normalised by."""
    mean, var = p[name + ".mean"][0].detach(), p[name + ".var"][0].detach()  # constants
    if train:
        mean = x.sum(0) / len(x)
        var = ((x - mean) ** 2).sum(0) / len(x)
    y = (x - mean) / torch.sqrt(var + BN_EPS) * p[name + ".weight"] + p[name + ".bias"]
    return y, mean, var


def nt_xent(a, b, temperature):
    z = torch.cat([a, b])
    n = len(a)
    s = z @ z.T / temperature
    total = 0
    for r in range(2 * n):
        pair = (r + n) % (2 * n)
        others = [k for k in range(2 * n) if k != r]
        total = total + torch.logsumexp(s[r, others], 0) - s[r, pair]
    return total / (2 * n)


def run(p, t):
    """Outputs and the scalar, from the tensors of a file."""
    number = lambda key: float(np.asarray(t["config." + key]).reshape(-1)[0])
    rows = lambda key: torch.as_tensor(np.asarray(t[key]).astype(np.int64))
    train, output = number("train") > 0, OUTPUTS[int(number("output"))]
    cu = rows("cu")
    bags = torch.stack([p["embedding.tags.weight"][rows("tags")[s]].sum(0) for s in spans(rows("tags.cu"))])
    inputs = torch.cat([p["embedding.user.weight"][rows("user")], bags,
                        p["embedding.item.weight"][rows("item")]], 1)
    steps = torch.cat([p["embedding.item.weight"][rows("seq.item")],
                       p["embedding.brand.weight"][rows("seq.brand")]], 1)
    out = {}
    x = torch.cat([package(p, steps, cu, output), inputs], 1)
    for i in range(2):
        x, mean, var = batch_norm(p, "top.%d.norm" % i, x @ p["top.%d.weight" % i], train)
        x = torch.relu(x)
        if train:  # the running averages afterwards
            m = number("momentum")
            for key, now in (("mean", mean), ("var", var)):
                was = p["top.%d.norm.%s" % (i, key)][0]
                out["out.top.%d.norm.%s" % (i, key)] = (m * was + (1 - m) * now).detach()
    logit = ref.linear(p, "logit", x)[:, 0]
    out["out.logit"] = logit
    if not train:
        return out, (logit * torch.as_tensor(np.asarray(t["R"])).to(logit.dtype)).sum()
    label = torch.as_tensor(np.asarray(t["label"])).to(logit.dtype)
    click = (torch.log1p(torch.exp(logit)) - label * logit).mean()
    views = []
    for v in ("view1", "view2"):
        chosen = rows(v + ".row")
        x = torch.stack([steps[r] if r >= 0 else p["seq_mask.weight"][0] for r in chosen])
        views.append(package(p, x, rows(v + ".cu"), output))
    contrast = number("contrast_weight") * nt_xent(views[0], views[1], number("temperature"))
    l2 = number("l2") / 2 * sum((w ** 2).sum() for name, w in p.items() if name in (
        "seq_project.weight", "top.0.weight", "top.1.weight", "logit.weight"))
    embedding = number("embedding") / 2 * ((inputs ** 2).sum() + (steps ** 2).sum())
    loss = click + contrast + l2 + embedding
    out.update({"out.click": click, "out.contrast": contrast, "out.l2": l2, "out.embedding": embedding,
                "out.loss": loss})
    return out, loss


def shapes(tables):
    steps = tables["item"][1] + tables["brand"][1]
    width = sum(tables[name][1] for name in ("user", "tags", "item")) + H
    s = {"embedding.%s.weight" % name: shape for name, shape in tables.items()}
    s.update({"seq_mask.weight": (1, steps), "seq_empty.weight": (1, H), "pos.weight": (L + 1, H)})
    if steps != H:
        s.update({"seq_project.weight": (steps, H), "seq_project.bias": (1, H)})
    blocks = ref.encoder_shapes(1, H, 1, LAYERS)
    for name in blocks:
        if name not in ("item.weight", "pos.weight"):
            wide = "ffn" in name and "norm" not in name
            s[name] = tuple(H if wide and n == 4 * H else n for n in blocks[name])
    for i, (n_in, n_out) in enumerate([(width, 12), (12, 6)]):
        top = "top.%d" % i
        s.update({top + ".weight": (n_in, n_out), top + ".norm.weight": (1, n_out), top + ".norm.bias": (1, n_out),
                  top + ".norm.mean": (1, n_out), top + ".norm.var": (1, n_out)})
    s.update({"logit.weight": (6, 1), "logit.bias": (1, 1)})
    return s


def random_view(rng, cu):
    """Pieces, masks and other orders of the sequences that are not empty."""
    row, ends = [], [0]
    for k, s in enumerate(s for s in spans(cu) if s.stop > s.start):
        chosen = list(range(s.start, s.stop))
        if k % 3 == 0:
            chosen = chosen[-max(1, len(chosen) // 2):]
        elif k % 3 == 1:
            chosen = [-1 if rng.rand() < 0.6 else r for r in chosen]
        else:
            rng.shuffle(chosen)
        row += chosen
        ends.append(len(row))
    return np.array(row), np.array(ends)


def case(name, seed, output, train, tables):
    rng = np.random.RandomState(seed)
    p = ref.random_parameters(shapes(tables), rng)
    for name_, x in p.items():
        if name_.endswith("norm.var"):
            x.data = x.data.abs() + 0.5
    cu = np.concatenate([[0], np.cumsum(LENGTHS)])
    n, B = int(cu[-1]), len(LENGTHS)
    draw = lambda table, k: rng.randint(0, tables[table][0], k)
    tags_cu = np.concatenate([[0], np.cumsum([2, 0, 1, 3, 1, 2])])
    t = {"cu": cu, "pos": np.concatenate([np.arange(k) for k in LENGTHS]), "user": draw("user", B),
         "tags": draw("tags", int(tags_cu[-1])), "tags.cu": tags_cu, "item": draw("item", B),
         "seq.item": draw("item", n), "seq.brand": draw("brand", n),
         "label": np.array([1, 0, 0, 1, 0, 1], np.float32), "R": rng.standard_normal(B).astype(np.float32)}
    for v in ("view1", "view2"):
        t[v + ".row"], t[v + ".cu"] = random_view(rng, cu)
    config = {"train": int(train), "output": OUTPUTS.index(output), "layers": LAYERS, "heads": HEADS, "causal": 0}
    t.update({"config." + k: np.array([v]) for k, v in config.items()})
    numbers = {"momentum": 0.9, "contrast_weight": 0.1, "temperature": 0.15, "l2": 0.01, "embedding": 0.02}
    t.update({"config." + k: np.array([v], np.float32) for k, v in numbers.items()})
    # Running averages learn nothing: their gradient is zero whatever the loss does with them.
    fixed = {key: p.pop(key) for key in list(p) if key.endswith((".mean", ".var"))}
    t.update({key: x.detach() for key, x in fixed.items()})
    t.update({"grad." + key: torch.zeros_like(x) for key, x in fixed.items()})
    ref.write_case(name + ".safetensors",
                   lambda q: run({**q, **{key: x.to(q["logit.bias"].dtype) for key, x in fixed.items()}}, t), p, t,
                   {"case": name, "positions": "first", "scalar": "out.loss" if train else "sum(out.logit * R)"})


def main():
    case("rank", 418, "head", True, TABLES)
    case("rank_mean", 419, "mean", True, {**TABLES, "item": (11, 9), "brand": (5, 7)})
    case("rank_last", 403, "last", False, TABLES)


if __name__ == "__main__":
    main()

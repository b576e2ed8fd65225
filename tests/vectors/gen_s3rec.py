#!/usr/bin/python3
"""Golden vectors of S3-Rec's four pre-training losses, as the authors' code computes them and as
their paper writes them.

H are the states of the sequence with some items masked, the last always; E the attributes' rows.
f(x,y) = sigma(W x + b, y), each loss with its own W and b.  Every loss is a sum divided by B.

           code                                              paper
  aap      at items not masked: BCE of E (W H_t + b)         the item's row e_i instead of H_t;
           against the item's attributes, over all of them   spread(f) over its attributes
  mip      at masked items: -log sigma(f(H_t,e_i) -          -log( exp f(H_t,e_i) /
           f(H_t,e_n)), n a negative                               sum over all v exp f(H_t,e_v) )
  map      as aap, at masked items                           spread(f), f(H_t,a), at masked items
  sp       -log sigma(f(c,p) - f(c,q)), c, p, q the last     -log( exp f(c_b,p_b) /
           states of the sequence with a segment masked,     sum over b' exp f(c_b,p_b') )
           of that segment alone, of a foreign one

  spread(f) = sum over a the item has of
              -log( exp f(a) / (exp f(a) + sum over a' it lacks exp f(a')) )
"""

import numpy as np
import torch

import ref

V, D, H, L, A = 23, 16, 2, 8, 7
LENGTHS = [1, 2, 8, 5, 3]
WEIGHTS = {"aap": 0.2, "mip": 1.0, "map": 1.0, "sp": 0.5}
log_sigma = torch.nn.functional.logsigmoid


# ---------------------------------------------------------------------------------- the equations

def attributes_of(t, item):
    return t["attributes.ids"][t["attributes.cu"][item]:t["attributes.cu"][item + 1]].tolist()


def score(p, name, x, rows):
    """(W x + b) . y of one x [D] and every row y."""
    return rows @ ref.linear(p, "s3rec." + name, x[None])[0]


def multi_label(logits, has):
    """Binary cross-entropy summed over all attributes."""
    return -sum(log_sigma(x) if a in has else log_sigma(-x) for a, x in enumerate(logits))


def spread(f, has):
    lacks = [a for a in range(len(f)) if a not in has]
    return sum((torch.logsumexp(f[[a] + lacks], dim=0) - f[a] for a in has), f.new_zeros(()))


def states(p, cfg, t, name):
    return ref.encode(p, cfg, ref.Pack(t[name], t["cu"], t["pos"], None))


def code_losses(p, cfg, t):
    items, attributes = p["item.weight"], p["s3rec.attribute.weight"]
    h = states(p, cfg, t, "masked.ids")
    loss = dict.fromkeys(WEIGHTS, h.new_zeros(()))
    for i, item in enumerate(t["ids"].tolist()):
        masked = t["masked.ids"][i] < 0
        name = "map" if masked else "aap"
        loss[name] = loss[name] + multi_label(score(p, name, h[i], attributes),
                                              attributes_of(t, item))
        if masked:
            pair = items[[item, t["negative"][i].item()]]
            f = torch.sigmoid(score(p, "mip", h[i], pair))
            loss["mip"] = loss["mip"] - log_sigma(f[0] - f[1])
    last = t["cu"][1:] - 1
    c, own, foreign = [states(p, cfg, t, name + ".ids")[last]
                       for name in ("segment", "positive", "other")]
    for b in range(len(last)):
        f = torch.sigmoid(score(p, "sp", c[b], torch.stack([own[b], foreign[b]])))
        loss["sp"] = loss["sp"] - log_sigma(f[0] - f[1])
    return loss


def paper_losses(p, cfg, t):
    items, attributes = p["item.weight"], p["s3rec.attribute.weight"]
    h = states(p, cfg, t, "masked.ids")
    loss = dict.fromkeys(WEIGHTS, h.new_zeros(()))
    for i, item in enumerate(t["ids"].tolist()):
        masked = t["masked.ids"][i] < 0
        name = "map" if masked else "aap"
        f = torch.sigmoid(score(p, name, h[i] if masked else items[item], attributes))
        loss[name] = loss[name] + spread(f, attributes_of(t, item))
        if masked:
            f = torch.sigmoid(score(p, "mip", h[i], items))
            loss["mip"] = loss["mip"] + torch.logsumexp(f, dim=0) - f[item]
    last = t["cu"][1:] - 1
    c, own = [states(p, cfg, t, name + ".ids")[last] for name in ("segment", "positive")]
    for b in range(len(last)):
        f = torch.sigmoid(score(p, "sp", c[b], own))
        loss["sp"] = loss["sp"] + torch.logsumexp(f, dim=0) - f[b]
    return loss


def s3rec(p, cfg, t, paper):
    """t: the integer tensors of the file."""
    n_seq = len(t["cu"]) - 1
    loss = {name: x / n_seq
            for name, x in (paper_losses if paper else code_losses)(p, cfg, t).items()}
    return ref.named_losses(**loss, loss=sum(WEIGHTS[name] * x for name, x in loss.items()))


# --------------------------------------------------------------------------------------- the cases

def shapes():
    more = {"s3rec.attribute.weight": (A, D), "mask.weight": (1, D)}
    for name in WEIGHTS:
        more["s3rec.%s.weight" % name] = (D, D)
        more["s3rec.%s.bias" % name] = (1, D)
    return {**ref.encoder_shapes(V, D, L, 1), **more}


def random_attributes(rng, bare):
    """CSR lists of all items, without any for the bare ones."""
    lists = [[] if item in bare else np.flatnonzero(rng.rand(A) < 0.4).tolist()
             for item in range(V)]
    cu = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])])
    return {"attributes.cu": torch.from_numpy(cu.astype(np.int64)),
            "attributes.ids": torch.tensor([a for ids in lists for a in ids])}


def mask_items(rng, ids):
    """(the prefix with some items masked, the last too; negatives of those outside the prefix)"""
    masked = [x if keep else -1 for x, keep in zip(ids[:-1], rng.rand(len(ids) - 1) < 0.6)] + [-1]
    outside = [v for v in range(V) if v not in ids]
    return masked, [int(rng.choice(outside)) if m < 0 else x for x, m in zip(ids, masked)]


def segments(rng, ids):
    """(a span masked, the span alone, a foreign span alone); one item has no span."""
    n = len(ids)
    if n < 2:
        return ids, ids, ids
    size = rng.randint(1, n // 2 + 1)
    start = rng.randint(0, n - size + 1)
    span = range(start, start + size)
    foreign = rng.randint(0, V, n).tolist()
    return ([-1 if i in span else x for i, x in enumerate(ids)],
            [x if i in span else -1 for i, x in enumerate(ids)],
            [x if i in span else -1 for i, x in enumerate(foreign)])


def make_case(seed):
    """(parameters, the integer tensors)"""
    rng = np.random.RandomState(seed)
    p = ref.random_parameters(shapes(), rng)
    pack = ref.random_pack(rng, LENGTHS, V, L, "last")
    t = ref.stored_pack(pack)
    lists = {}
    for ids in ref.lists_of(pack):
        parts = mask_items(rng, ids) + segments(rng, ids)
        for name, part in zip(["masked.ids", "negative", "segment.ids", "positive.ids",
                               "other.ids"], parts):
            lists[name] = lists.get(name, []) + part
    t.update({name: torch.tensor(ids) for name, ids in lists.items()})
    # A masked item and one that is not have no attributes.
    bare = [t["ids"][t["masked.ids"] < 0][1].item(), t["ids"][t["masked.ids"] >= 0][0].item()]
    return p, {**t, **random_attributes(rng, bare)}


def main():
    for name, paper in [("s3rec", False), ("s3rec_paper", True)]:
        p, t = make_case(930)                     # the same inputs
        cfg = ref.Config(1, H, False, "gelu")

        def run(q):
            out = s3rec(q, cfg, t, paper)
            return out, out["out.loss"][0]

        ref.write_case(name + ".safetensors", run, p,
                       {**t, **ref.describe(cfg, interests=0, paper=int(paper)),
                        **{"config.%s_weight" % loss: np.array([weight])
                           for loss, weight in WEIGHTS.items()}},
                       {"case": name, "positions": "last", "scalar": "out.loss"})


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Golden vectors of the item tower, and of its self-supervision by masked features (Yao et al.).

  x(item) = W2 relu(W1 [id ; f0 ; f1 ; f2] + b1) + b2
            id its row of item.weight; f_j the mean of the rows of its values of field j, the
            default row if it has none; a masked part is its default row
  next_item: the encoder embeds and scores with the table T [V,D] of x of every item
  self = -1/n sum_i log( exp(cos(z_i,z'_i)/tau) / sum_j exp(cos(z_i,z'_j)/tau) )
         z, z' the towers of n items with complementary parts masked and some values dropped
"""

import numpy as np
import torch

import ref

V, D, H, L = 23, 16, 2, 8
LENGTHS = [1, 2, 8, 5, 3]
E, M, VALUES = 4, 12, (5, 4, 6)                   # width of a field, of the hidden layer; values
SAMPLE, DROP = 6, 0.4
TEMPERATURE, WEIGHT = 0.1, 0.5


# ---------------------------------------------------------------------------------- the equations

def values_of(t, prefix, field, row):
    cu, values = t["%sf%d.cu" % (prefix, field)], t["%sf%d.values" % (prefix, field)]
    return values[cu[row]:cu[row + 1]]


def tower(p, item, values, masked=(False,) * 4):
    """x [D]: values of each field; masked: id, f0, f1, f2."""
    parts = [p["tower.id.default"][0] if masked[0] else p["item.weight"][item]]
    for j, ids in enumerate(values):
        field = "tower.f%d." % j
        parts.append(p[field + "default"][0] if masked[1 + j] or len(ids) == 0
                     else p[field + "weight"][ids].mean(dim=0))
    hidden = torch.relu(ref.linear(p, "tower.mlp.0", torch.cat(parts)[None]))
    return ref.linear(p, "tower.mlp.1", hidden)[0]


def table(p, t):
    return torch.stack([tower(p, v, [values_of(t, "", j, v) for j in range(3)])
                        for v in range(len(p["item.weight"]))])


def view(p, t, prefix):
    return torch.stack([tower(p, item, [values_of(t, prefix, j, i) for j in range(3)],
                              t[prefix + "mask"][i].tolist())
                        for i, item in enumerate(t["items"].tolist())])


def self_loss(p, t, temperature):
    z, other = view(p, t, "view1."), view(p, t, "view2.")
    loss = []
    for i in range(len(z)):
        s = torch.stack([(z[i] @ x) / torch.sqrt((z[i] @ z[i]) * (x @ x)) for x in other])
        loss.append(torch.logsumexp(s / temperature, dim=0) - s[i] / temperature)
    return torch.stack(loss).mean()


def item_ssl(p, cfg, t, temperature, weight):
    """t: the integer tensors of the file; without items, next_item alone."""
    pack = ref.Pack(t["ids"], t["cu"], t["pos"], None)
    q = {**p, "item.weight": table(p, t)}
    recommend = ref.next_item(q, cfg, pack, t["target"], False)[0]
    if "items" not in t:
        return ref.named_losses(next_item=recommend, loss=recommend)
    own = self_loss(p, t, temperature)
    return ref.named_losses(next_item=recommend, self=own, loss=recommend + weight * own)


# --------------------------------------------------------------------------------------- the cases

def shapes():
    more = {"tower.id.default": (1, D)}
    for j, count in enumerate(VALUES):
        more.update({"tower.f%d.weight" % j: (count, E), "tower.f%d.default" % j: (1, E)})
    return {**ref.encoder_shapes(V, D, L, 1), **more,
            "tower.mlp.0.weight": (D + 3 * E, M), "tower.mlp.0.bias": (1, M),
            "tower.mlp.1.weight": (M, D), "tower.mlp.1.bias": (1, D)}


def stored_lists(name, lists):
    cu = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])])
    return {name + ".cu": torch.from_numpy(cu.astype(np.int64)),
            name + ".values": torch.tensor([v for ids in lists for v in ids])}


def random_fields(rng):
    """Of every item the values of each field; about one in five has none."""
    return [[np.flatnonzero(rng.rand(count) < 1 - 0.2 ** (1 / count)).tolist()
             for _ in range(V)] for count in VALUES]


def random_sample(rng, fields):
    """Items and two views with complementary masks; values are drawn for masked fields too."""
    items = rng.choice(V, SAMPLE, replace=False)
    mask = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0],
                     [0, 1, 0, 1]])
    t = {"items": torch.from_numpy(items), "view1.mask": torch.from_numpy(mask),
         "view2.mask": torch.from_numpy(1 - mask)}
    for prefix in ("view1.", "view2."):
        for j, lists in enumerate(fields):
            left = [[v for v in lists[item] if rng.rand() >= DROP] for item in items]
            t.update(stored_lists("%sf%d" % (prefix, j), left))
    return t


def main():
    for seed, name in enumerate(["item_ssl", "tower"]):
        rng = np.random.RandomState(940 + seed)
        cfg = ref.Config(1, H, True, "gelu")
        p = ref.random_parameters(shapes(), rng)
        pack = ref.random_pack(rng, LENGTHS, V, L, "first")
        fields = random_fields(rng)
        target = torch.from_numpy(rng.randint(0, V, len(LENGTHS)).astype(np.int64))
        target[3] = target[1]                     # a target that repeats within the batch
        t = {**ref.stored_pack(pack), "target": target}
        for j, lists in enumerate(fields):
            t.update(stored_lists("f%d" % j, lists))
        options = {}
        if name == "item_ssl":
            t.update(random_sample(rng, fields))
            options = {"temperature": TEMPERATURE, "ssl_weight": WEIGHT}

        def run(q):
            out = item_ssl(q, cfg, t, TEMPERATURE, WEIGHT)
            return out, out["out.loss"][0]

        ref.write_case(name + ".safetensors", run, p,
                       {**t, **ref.describe(cfg, interests=0, **options)},
                       {"case": name, "positions": "first", "scalar": "out.loss"})


if __name__ == "__main__":
    main()

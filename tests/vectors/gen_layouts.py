#!/usr/bin/python3
"""Golden vectors of the sample layouts: the training rows of five users by each of A, B and C, and next_item's
full-softmax loss over all of them in one batch.

Users' sequences end in a validation and a test event, which no row may show.  Items are numbered as they appear.

  A  one row a user, a target after every position; a longer history is cut into windows of L from its end
  B  a row for every event but the first: the L events before it -> the event         (RecBole)
  C  the prefixes of the newest L events, each with its next item                     (BSARec; the empty prefix, which
     padded codes train as well, is left out)
"""

import numpy as np
import torch

import ref

D, H, L = 8, 2, 4
USERS = [[0, 1, 2, 3, 4, 0, 2], [5, 1, 6], [2, 2, 7, 8, 1, 3, 9, 4, 5, 6, 10, 0], [9], [3, 8, 11, 12]]


def rows_of(layout, s):
    """(inputs, targets) pairs of one training part."""
    rows = []
    if layout == "A":
        end = len(s) - 1
        while end >= 1:
            start = max(0, end - L)
            rows.append((s[start:end], s[start + 1:end + 1]))
            end -= L
    elif layout == "B":
        rows = [(s[max(0, i - L):i], [s[i]]) for i in range(1, len(s))]
    else:
        window = s[-L:]
        rows = [(window[:i], [window[i]]) for i in range(1, len(window))]
    return rows


def main():
    order = {}
    for s in USERS:
        for item in s:
            order.setdefault(item, len(order))
    users = [[order[item] for item in s] for s in USERS]
    V = len(order)
    for seed, layout in enumerate("ABC"):
        rng = np.random.RandomState(700 + seed)
        cfg = ref.Config(1, H, True, "gelu")
        p = ref.random_parameters(ref.encoder_shapes(V, D, L, cfg.layers), rng, 0.5)
        # users with fewer than three events only train
        rows = [r for s in users for r in rows_of(layout, s[:-2] if len(s) >= 3 else s)]
        lengths = [len(inputs) for inputs, _ in rows]
        pack = ref.Pack(torch.tensor([i for r in rows for i in r[0]]),
                        torch.tensor([0] + list(np.cumsum(lengths))),
                        torch.tensor([i for n in lengths for i in range(n)]), None)
        target = torch.tensor([i for r in rows for i in r[1]])

        def run(q):
            z = ref.encode(q, cfg, pack)
            z = z if layout == "A" else ref.last_states(z, pack)
            loss = ref.cross_entropy(z @ q["item.weight"].T, target)
            return {"out.loss": loss.reshape(1)}, loss

        ref.write_case("layout_%s.safetensors" % layout.lower(), run, p,
                       {**ref.stored_pack(pack), "target": target,
                        **ref.describe(cfg, layout=seed),
                        "users.items": np.concatenate([np.array(s) for s in users]),
                        "users.cu": np.concatenate([[0], np.cumsum([len(s) for s in users])])},
                       {"case": "layout_" + layout.lower(), "positions": "first",
                        "scalar": "out.loss"})


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Golden vectors of the next-item objective: mean cross-entropy over all V items, from the last
state (K = 0) and from the maximum over K interests."""

import numpy as np
import torch

import ref

V, D, H, L, K = 23, 16, 2, 8, 3
LENGTHS = [1, 2, 8, 5, 3]


def main():
    for seed, (name, interests, convention, activation) in enumerate([
            ("next_item", 0, "first", "gelu"),
            ("next_item_interests", K, "last", "relu")]):
        rng = np.random.RandomState(300 + seed)
        cfg = ref.Config(1, H, True, activation)
        shapes = ref.encoder_shapes(V, D, L, cfg.layers)
        if interests:
            shapes.update(ref.interest_shapes(D, L, interests))
            del shapes["interest.beta_out"]       # labels are items here, not sequences
        p = ref.random_parameters(shapes, rng)
        pack = ref.random_pack(rng, LENGTHS, V, L, convention)
        target = torch.from_numpy(rng.randint(0, V, len(LENGTHS)).astype(np.int64))
        target[3] = target[1]                     # a target that repeats within the batch

        def run(q):
            loss, logits = ref.next_item(q, cfg, pack, target, interests > 0)
            return {"out.loss": loss.reshape(1), "out.logits": logits}, loss

        ref.write_case(name + ".safetensors", run, p,
                       {**ref.stored_pack(pack), **ref.describe(cfg, interests=interests),
                        "target": target},
                       {"case": name, "positions": convention, "scalar": "out.loss"})


if __name__ == "__main__":
    main()

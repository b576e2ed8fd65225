#!/usr/bin/python3
"""Golden vectors of the Siamese halves: next_item plus NT-Xent (cosine) between the two parts of a
random split of every sequence.  The items keep their order; one item alone is in both parts."""

import numpy as np
import torch

import ref

V, D, H, L, K = 23, 16, 2, 8, 3
LENGTHS = [1, 2, 8, 5, 3]
TEMPERATURE, WEIGHT = 0.1, 0.1


def split(rng, ids):
    """Two non-empty parts of the list, every item in one of them."""
    if len(ids) == 1:
        return ids, ids
    side = rng.permutation([0, 1] + rng.randint(0, 2, len(ids) - 2).tolist())
    return [[x for x, s in zip(ids, side) if s == half] for half in (0, 1)]


def write(seed, name, interests):
    convention = "first"
    rng = np.random.RandomState(seed)
    cfg = ref.Config(1, H, True, "gelu")
    shapes = ref.encoder_shapes(V, D, L, cfg.layers)
    if interests:
        shapes.update(ref.interest_shapes(D, L, interests))
        del shapes["interest.beta_out"]           # labels are items here, not sequences
    p = ref.random_parameters(shapes, rng)
    pack = ref.random_pack(rng, LENGTHS, V, L, convention)
    parts = [split(rng, ids) for ids in ref.lists_of(pack)]
    halves = [ref.pack_lists([part[half] for part in parts], L, convention) for half in (0, 1)]
    target = torch.from_numpy(rng.randint(0, V, len(LENGTHS)).astype(np.int64))
    target[3] = target[1]                         # a target that repeats within the batch

    def run(q):
        out = ref.contrastive(q, cfg, pack, halves, target, interests > 0, TEMPERATURE, True, WEIGHT)
        return out, out["out.loss"][0]

    ref.write_case(name + ".safetensors", run, p,
                   {**ref.stored_pack(pack), **ref.stored_pack(halves[0], "half1."),
                    **ref.stored_pack(halves[1], "half2."), "target": target,
                    **ref.describe(cfg, interests=interests, cosine=1, temperature=TEMPERATURE,
                                   cl_weight=WEIGHT)},
                   {"case": name, "positions": convention, "scalar": "out.loss"})


def main():
    write(910, "siamese", 0)
    write(911, "siamese_interests", K)


if __name__ == "__main__":
    main()

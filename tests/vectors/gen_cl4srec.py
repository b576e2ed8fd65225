#!/usr/bin/python3
"""Golden vectors of CL4SRec: next_item plus NT-Xent between two views of every sequence."""

import numpy as np
import torch

import ref

V, D, H, L, K = 23, 16, 2, 8, 3
LENGTHS = [1, 2, 8, 5, 3]
WEIGHT = 0.1


def main():
    for seed, (name, interests, convention, activation, temperature, cosine, pad) in enumerate([
            ("cl4srec", 0, "first", "gelu", 1.0, False, False),
            ("cl4srec_pad", 0, "last", "relu", 0.5, True, True),
            ("cl4srec_interests", K, "first", "gelu", 1.0, False, False)]):
        rng = np.random.RandomState(900 + seed)
        cfg = ref.Config(1, H, True, activation)
        shapes = {**ref.encoder_shapes(V, D, L, cfg.layers), "mask.weight": (1, D)}
        if interests:
            shapes.update(ref.interest_shapes(D, L, interests))
            del shapes["interest.beta_out"]       # labels are items here, not sequences
        p = ref.random_parameters(shapes, rng)
        pack = ref.random_pack(rng, LENGTHS, V, L, convention)
        views = ref.random_views(rng, pack, V, L, convention, pad)
        target = torch.from_numpy(rng.randint(0, V, len(LENGTHS)).astype(np.int64))
        target[3] = target[1]                     # a target that repeats within the batch
        constant = {"mask.weight": p.pop("mask.weight").detach()} if pad else {}

        def run(q, *values):
            q = {**q, **dict(zip(constant, values))}
            out = ref.contrastive(q, cfg, pack, views, target, interests > 0, temperature,
                                  cosine, WEIGHT)
            return out, out["out.loss"][0]

        ref.write_case(name + ".safetensors", run, p,
                       {**constant, **ref.stored_pack(pack),
                        **ref.stored_pack(views[0], "view1."),
                        **ref.stored_pack(views[1], "view2."), "target": target,
                        **ref.describe(cfg, interests=interests, pad=int(pad),
                                       cosine=int(cosine), temperature=temperature,
                                       cl_weight=WEIGHT)},
                       {"case": name, "positions": convention, "scalar": "out.loss"},
                       constant.values())


if __name__ == "__main__":
    main()

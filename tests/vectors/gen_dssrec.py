#!/usr/bin/python3
"""Golden vectors of the DSSRec objective, alone and added to next_item with weight 1/2."""

import numpy as np
import torch

import ref

V, D, H, L, K = 23, 16, 2, 8, 3
LENGTHS = [1, 2, 8, 5, 3]
FUTURE = [4, 1, 2, 3, 8]
KEEP = 0.5                                        # lambda


def main():
    for seed, (name, layers, convention, next_weight, dss_weight) in enumerate([
            ("dssrec", 1, "first", 0.0, 1.0),
            ("next_item_dssrec", 1, "last", 1.0, 0.5)]):
        rng = np.random.RandomState(400 + seed)
        cfg = ref.Config(layers, H, True, "gelu")
        p = ref.random_parameters({**ref.encoder_shapes(V, D, L, layers),
                                   **ref.interest_shapes(D, L, K)}, rng)
        pack = ref.random_pack(rng, LENGTHS, V, L, convention)
        future = ref.random_pack(rng, FUTURE, V, L, convention)
        # The future is reversed: its last item is the next item, the target.  The first and the
        # last sequence share theirs.
        future.ids[future.cu[-1] - 1] = future.ids[future.cu[1] - 1]
        target = future.ids[future.cu[1:] - 1].clone()

        def run(q):
            r = ref.dssrec(q, cfg, pack, future, target, KEEP)
            total = dss_weight * r.loss
            out = {"out.dssrec": r.loss.reshape(1), "out.s2i": r.s2i,
                   "out.s2s": r.s2s.flatten(), "out.tau": r.tau.reshape(1),
                   "out.phi": r.phi.reshape(-1, D), "out.phi_future": r.phi_future.reshape(-1, D)}
            if next_weight:
                loss = ref.next_item(q, cfg, pack, target, True)[0]
                total = total + next_weight * loss
                out["out.next_item"] = loss.reshape(1)
            out["out.loss"] = total.reshape(1)
            return out, total

        ref.write_case(name + ".safetensors", run, p,
                       {**ref.stored_pack(pack), **ref.stored_pack(future, "future."),
                        "target": target, **ref.describe(cfg, interests=K),
                        "config.keep": np.array([KEEP]),
                        "config.next_weight": np.array([next_weight]),
                        "config.dssrec_weight": np.array([dss_weight])},
                       {"case": name, "positions": convention, "scalar": "out.loss"})


if __name__ == "__main__":
    main()

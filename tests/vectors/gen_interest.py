#!/usr/bin/python3
"""Golden vectors of the K-interest head on given states: assign, importance, phi, and the
gradients of sum(phi * R), the states included."""

import numpy as np
import torch

import ref

D, L, K = 16, 8, 3
LENGTHS = [1, 2, 8, 5, 3]

CASES = [("interest_in", "first", "interest.beta_in"),
         ("interest_out", "last", "interest.beta_out")]


def main():
    for seed, (name, convention, beta) in enumerate(CASES):
        rng = np.random.RandomState(200 + seed)
        tokens = sum(LENGTHS)
        # The states are a parameter here, so that their gradient is found with the others.
        p = ref.random_parameters({"states": (tokens, D), **ref.interest_shapes(D, L, K)}, rng)
        p["states"] = ref.as_parameter(rng.standard_normal((tokens, D)))
        pack = ref.random_pack(rng, LENGTHS, 1, L, convention)
        weight = torch.from_numpy(
            rng.standard_normal((len(LENGTHS) * K, D)).astype(np.float32))

        def run(q, r):
            assign, importance, phi = ref.interests(q, q["states"], pack, beta)
            phi = phi.reshape(-1, D)
            return {"out.assign": assign, "out.importance": importance,
                    "out.phi": phi}, (phi * r).sum()

        ref.write_case(name + ".safetensors", run, p,
                       {"cu": pack.cu, "pos": pack.pos, "R": weight,
                        "config.beta_out": np.array([int(beta.endswith("out"))])},
                       {"case": name, "positions": convention, "beta": beta,
                        "scalar": "sum(out.phi * R)"}, inputs=[weight.double()])


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Golden vectors of the Transformer encoder: states [N,D] and the gradients of sum(states * R)."""

import numpy as np
import torch

import ref

V, D, H, L = 23, 16, 2, 8
LENGTHS = [1, 2, 8, 5, 3]

# name, layers, causal, positions, activation, tokens that may not be attended as keys
CASES = [
    ("encoder", 2, True, "first", "gelu", None),
    # Bidirectional; a masked token in the middle, at the start, and at the end of its sequence.
    ("encoder_bidirectional", 1, False, "last", "relu", [1, 4, 7, 13, 18]),
    # Causal, every masked token still a query: the last item of sequences 2 and 3 is masked, and
    # the first of sequences 0 and 4, which therefore have a query that may attend no key.
    ("encoder_masked", 1, True, "last", "gelu", [0, 5, 10, 14, 15, 16]),
]


def main():
    for seed, (name, layers, causal, convention, activation, masked) in enumerate(CASES):
        rng = np.random.RandomState(100 + seed)
        cfg = ref.Config(layers, H, causal, activation)
        p = ref.random_parameters(ref.encoder_shapes(V, D, L, layers), rng)
        key_mask = None
        if masked is not None:
            key_mask = [0 if i in masked else 1 for i in range(sum(LENGTHS))]
        pack = ref.random_pack(rng, LENGTHS, V, L, convention, key_mask)
        weight = torch.from_numpy(rng.standard_normal((sum(LENGTHS), D)).astype(np.float32))

        def run(q, r):
            states = ref.encode(q, cfg, pack)
            return {"out.states": states}, (states * r).sum()

        ref.write_case(name + ".safetensors", run, p,
                       {**ref.stored_pack(pack), **ref.describe(cfg), "R": weight},
                       {"case": name, "positions": convention, "scalar": "sum(out.states * R)"},
                       inputs=[weight.double()])


if __name__ == "__main__":
    main()

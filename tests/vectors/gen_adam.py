#!/usr/bin/python3
"""Golden vectors of Adam (Kingma & Ba 2015): five steps on one parameter with given gradients.

Compared with torch.optim.Adam before anything is written; with --check nothing is.
"""

import os
import sys

import numpy as np
import torch

import ref

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
STEPS, SHAPE = 5, (3, 4)


def adam(x, grads):
    """x_t, m_t and v_t after every step, in float64."""
    m, v, path = np.zeros(SHAPE), np.zeros(SHAPE), []
    for t, g in enumerate(grads, start=1):
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        m_hat, v_hat = m / (1 - BETA1 ** t), v / (1 - BETA2 ** t)
        x = x - LR * m_hat / (np.sqrt(v_hat) + EPS)
        path.append((x, m, v))
    return [np.stack(part) for part in zip(*path)]


def main():
    rng = np.random.RandomState(500)
    start = rng.standard_normal(SHAPE).astype(np.float32)
    grads = rng.standard_normal((STEPS,) + SHAPE).astype(np.float32)
    grads[:, 0, 0] = 0.0                          # never touched: the parameter must stay
    grads[:, 0, 1] *= 1e-8                        # of the size of eps: shows where eps is added
    grads[:, 0, 2] *= 1e4
    grads[1:, 0, 3] = 0.0                         # one gradient, then only momentum
    params, m, v = adam(start.astype(np.float64), grads.astype(np.float64))

    x = torch.from_numpy(start.astype(np.float64)).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=LR, betas=(BETA1, BETA2), eps=EPS, weight_decay=0)
    for t in range(STEPS):
        x.grad = torch.from_numpy(grads[t].astype(np.float64))
        optimizer.step()
        assert np.abs(x.detach().numpy() - params[t]).max() < 1e-14

    name = "adam.safetensors"
    if "--check" in sys.argv:
        print(name + ": agrees with torch.optim.Adam")
        return
    ref.save_safetensors(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), name),
        {"param": start, "grads": grads, "out.params": params, "out.m": m, "out.v": v},
        {"case": "adam", "lr": str(LR), "beta1": str(BETA1), "beta2": str(BETA2),
         "eps": str(EPS), "weight_decay": "0", "torch": torch.__version__,
         "numpy": np.__version__})
    print(name)


if __name__ == "__main__":
    main()

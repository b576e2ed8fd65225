#!/usr/bin/python3
"""Golden vectors of the optimiser's options: L2 and decoupled weight decay, clipping by global norm, a running average
of the weights, steps that touch only some rows; six steps on two parameters, the learning rate changing.

AdamW, Adam with L2 and clipping are compared with PyTorch's before anything is written."""

import os
import sys

import numpy as np
import torch

import ref

BETA1, BETA2, EPS, STEPS = 0.9, 0.99, 1e-8, 6
A, B = (5, 4), (1, 3)                             # a decays and may be touched by rows, b does neither
CASES = {
    "l2": dict(decay=0.1),
    "adamw": dict(decay=0.1, decoupled=True),
    "clip": dict(clip=1.5),
    "ema": dict(ema=0.4),
    "touched": dict(touched=True, ema=0.9, decay=0.1, decoupled=True),
}


def steps(x, grads, rates, rows, decay=0.0, decoupled=False, clip=0.0, ema=0.0, touched=False):
    """x: [a, b]; grads[t]: their gradients; rows[t]: which rows of a step t touches.  All after every step."""
    x = [v.copy() for v in x]
    m, v = [np.zeros_like(p) for p in x], [np.zeros_like(p) for p in x]
    average, path = [p.copy() for p in x], []
    for t in range(STEPS):
        use = [rows[t] if touched else np.ones(A[0], bool), np.ones(1, bool)]
        norm = np.sqrt(sum((g[r] ** 2).sum() for g, r in zip(grads[t], use)))
        factor = clip / norm if clip and norm > clip else 1.0
        for i in range(2):
            r, g = use[i], factor * grads[t][i]
            d = decay if i == 0 else 0.0
            if decoupled:
                x[i][r] *= 1 - rates[t] * d
            else:
                g = g + d * x[i]
            m[i][r] = BETA1 * m[i][r] + (1 - BETA1) * g[r]
            v[i][r] = BETA2 * v[i][r] + (1 - BETA2) * g[r] ** 2
            m_hat, v_hat = m[i] / (1 - BETA1 ** (t + 1)), v[i] / (1 - BETA2 ** (t + 1))
            x[i][r] -= rates[t] * m_hat[r] / (np.sqrt(v_hat[r]) + EPS)
            keep = min(ema, (2 + t) / (11 + t))
            average[i][r] = keep * average[i][r] + (1 - keep) * x[i][r]
        path.append([p.copy() for p in x + average])
    return [np.stack([p[i] for p in path]) for i in range(4)]


def check_torch(x, grads, rates, want, decay=0.0, decoupled=False, clip=0.0):
    a, b = [torch.from_numpy(v.copy()).requires_grad_(True) for v in x]
    make = torch.optim.AdamW if decoupled else torch.optim.Adam
    opt = make([{"params": [a], "weight_decay": decay}, {"params": [b], "weight_decay": 0.0}],
               lr=1.0, betas=(BETA1, BETA2), eps=EPS)
    for t in range(STEPS):
        for group in opt.param_groups:
            group["lr"] = rates[t]
        a.grad, b.grad = [torch.from_numpy(g.copy()) for g in grads[t]]
        if clip:
            torch.nn.utils.clip_grad_norm_([a, b], clip)
        opt.step()
        for got, ref_path in zip((a, b), want):
            # clip_grad_norm_ adds 1e-6 to the norm
            assert np.abs(got.detach().numpy() - ref_path[t]).max() < (1e-6 if clip else 1e-12)


def main():
    rng = np.random.RandomState(800)
    narrow = lambda v: v.astype(np.float32).astype(np.float64)
    x = [narrow(rng.standard_normal(A)), narrow(rng.standard_normal(B))]
    grads = [[narrow(rng.standard_normal(A)), narrow(rng.standard_normal(B))] for _ in range(STEPS)]
    grads[2] = [narrow(0.1 * g) for g in grads[2]]      # within the norm: not clipped
    rates = narrow(np.array([0.01, 0.02, 0.03, 0.02, 0.01, 0.005]))
    rows = rng.rand(STEPS, A[0]) < 0.5
    rows[:, 0] = True
    rows[:, 4] = False                                  # never touched: stays as it is
    tensors = {"a": x[0], "b": x[1], "grads.a": np.stack([g[0] for g in grads]),
               "grads.b": np.stack([g[1] for g in grads]), "rates": rates,
               "rows": rows.astype(np.int32)}
    for name, opt in CASES.items():
        path = steps(x, grads, rates, rows, **opt)
        if not opt.get("ema"):
            check_torch(x, grads, rates, path[:2], **opt)
        for key, value in zip(("a", "b", "average.a", "average.b"), path):
            if opt.get("ema") or not key.startswith("average"):
                tensors["out.%s.%s" % (name, key)] = value
    name = "optimizers.safetensors"
    if "--check" in sys.argv:
        print(name + ": agrees with torch.optim.Adam, AdamW and clip_grad_norm_")
        return
    ref.save_safetensors(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), tensors,
                         {"case": "optimizers", "beta1": str(BETA1), "beta2": str(BETA2),
                          "eps": str(EPS), "torch": torch.__version__, "numpy": np.__version__})
    print(name)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Golden vectors of MCLRec: two augmenters make views of the views, and a term keeps positives and
negatives apart from collapse.  Joint, in turns, and three steps of the turns.

  z1 = w1(h1), z2 = w2(h2)      w: Linear, gelu, Linear, gelu, Linear, divided by its L2 norm
  cl1 = con(h1,h2)              con: NT-Xent, dot product, temperature 1
  cl2 = con(z1,z2) + con(h1,z2) + con(h2,z1)
  reg = the same sum of reg(a,b) = mean_r relu(p_r - lo_r) + mean_rj relu(hi_r - n_rj)
        row r of con has one positive p_r and negatives n_rj; m_r = max_j n_rj,
        lo_r = min(p_r, m_r), hi_r = max(p_r, m_r), with their gradients
  l0  = next_item + lambda cl1 + beta (cl2 + .1 reg)
  l1  = cl2 + .1 reg

In turns, a batch has three steps: the encoder by l0, the augmenters by l1, the encoder by l0.
"""

import sys
from collections import namedtuple

import numpy as np
import torch

import ref

H, L = 2, 8
LENGTHS = [1, 2, 8, 5, 3]
LAMBDA, BETA, REG = 0.3, 0.2, 0.1
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8

Batch = namedtuple("Batch", "pack views target")


def augmenter_shapes(D):
    widths = [D, D // 2, D // 4, D]
    shapes = {}
    for which in (1, 2):
        for i in range(3):
            layer = "mclrec.augmenter%d.%d." % (which, i)
            shapes[layer + "weight"] = (widths[i], widths[i + 1])
            shapes[layer + "bias"] = (1, widths[i + 1])
    return shapes


def is_augmenter(name):
    return name.startswith("mclrec.")


def augment(p, which, h):
    name = "mclrec.augmenter%d." % which
    x = ref.gelu(ref.linear(p, name + "0", h))
    x = ref.gelu(ref.linear(p, name + "1", x))
    x = ref.linear(p, name + "2", x)
    return x / torch.sqrt((x * x).sum(dim=1, keepdim=True))


def reg(a, b):
    above, below = [], []
    for positive, negatives in ref.pair_scores(a, b):
        hardest = negatives.max()
        above.append(torch.relu(positive - torch.minimum(positive, hardest)))
        below.append(torch.relu(torch.maximum(positive, hardest) - negatives))
    return torch.stack(above).mean() + torch.stack(below).mean()


def mclrec(p, cfg, batch, weight, beta, interest_head):
    h1, h2 = [ref.sequence_vectors(p, cfg, view, interest_head) for view in batch.views]
    z1, z2 = augment(p, 1, h1), augment(p, 2, h2)
    pairs = [(z1, z2), (h1, z2), (h2, z1)]
    recommend = ref.next_item(p, cfg, batch.pack, batch.target, interest_head)[0]
    cl1 = ref.nt_xent(h1, h2)
    cl2 = sum(ref.nt_xent(a, b) for a, b in pairs)
    spread = sum(reg(a, b) for a, b in pairs)
    l1 = cl2 + REG * spread
    return ref.named_losses(next_item=recommend, cl1=cl1, cl2=cl2, reg=spread,
                            l0=recommend + weight * cl1 + beta * l1, l1=l1)


def adam(x, g, state, t):
    """x, (m, v) after the parameter's step t (from 1)."""
    m = BETA1 * state[0] + (1 - BETA1) * g
    v = BETA2 * state[1] + (1 - BETA2) * g * g
    m_hat, v_hat = m / (1 - BETA1 ** t), v / (1 - BETA2 ** t)
    return x - LR * m_hat / (torch.sqrt(v_hat) + EPS), (m, v)


def three_steps(p, losses):
    """The losses before each step, and what moved in it; losses(p) gives l0 and l1."""
    p = {name: x.detach().clone() for name, x in p.items()}
    states = {name: (torch.zeros_like(x), torch.zeros_like(x), 0) for name, x in p.items()}
    out = {}
    for step, (scalar, augmenters) in enumerate([("l0", False), ("l1", True), ("l0", False)], 1):
        moved = [name for name in p if is_augmenter(name) == augmenters]
        q = {name: x.clone().requires_grad_(name in moved) for name, x in p.items()}
        loss = losses(q)["out." + scalar]
        out["out.step%d" % step] = loss.detach()
        for name, g in zip(moved, torch.autograd.grad(loss[0], [q[name] for name in moved])):
            m, v, t = states[name]
            p[name], (m, v) = adam(p[name], g, (m, v), t + 1)
            states[name] = (m, v, t + 1)
            for what, x in [("param", p[name]), ("m", m), ("v", v)]:
                out["step%d.%s.%s" % (step, what, name)] = x
    return out


def torch_steps(p, losses):
    """The parameters after the same three steps by torch.optim.Adam, twice."""
    q = {name: x.detach().clone().requires_grad_(True) for name, x in p.items()}
    make = lambda some: torch.optim.Adam(some, lr=LR, betas=(BETA1, BETA2), eps=EPS)
    encoder = make([x for name, x in q.items() if not is_augmenter(name)])
    augmenters = make([x for name, x in q.items() if is_augmenter(name)])
    for optimizer, scalar in [(encoder, "l0"), (augmenters, "l1"), (encoder, "l0")]:
        encoder.zero_grad()
        augmenters.zero_grad()
        losses(q)["out." + scalar][0].backward()
        optimizer.step()
    return q


def make_case(seed, name, V, D, joint, K=0):
    """(p, constant mask token, losses(p, mask), what the file holds besides the results)"""
    rng = np.random.RandomState(seed)
    cfg = ref.Config(1, H, True, "gelu")
    shapes = {**ref.encoder_shapes(V, D, L, cfg.layers), "mask.weight": (1, D),
              **augmenter_shapes(D * max(K, 1))}
    if K:
        shapes.update(ref.interest_shapes(D, L, K))
        del shapes["interest.beta_out"]           # labels are items here, not sequences
    p = ref.random_parameters(shapes, rng)
    mask = p.pop("mask.weight").detach()
    pack = ref.random_pack(rng, LENGTHS, V, L, "first")
    views = ref.random_views(rng, pack, V, L, "first", True)
    target = torch.from_numpy(rng.randint(0, V, len(LENGTHS)).astype(np.int64))
    target[3] = target[1]                         # a target that repeats within the batch
    batch = Batch(pack, views, target)
    tensors = {**p, "mask.weight": mask, **ref.stored_pack(pack),
               **ref.stored_pack(views[0], "view1."), **ref.stored_pack(views[1], "view2."),
               "target": target,
               **ref.describe(cfg, interests=K, pad=1, joint=int(joint)),
               "config.lambda": np.array([LAMBDA]), "config.beta": np.array([BETA])}

    def losses(q, mask):
        return mclrec({**q, "mask.weight": mask}, cfg, batch, LAMBDA, BETA, K > 0)

    return p, mask, losses, tensors


def part_gradients(name, p, mask, losses, scalar, moved):
    """Outputs, and gradients of one scalar for the parameters named, the others held."""
    held = [n for n in p if n not in moved]

    def run(q, mask, *values):
        out = losses({**q, **dict(zip(held, values))}, mask)
        return out, out["out." + scalar][0]

    return ref.check_case(name, run, {n: p[n] for n in moved},
                          [mask] + [p[n].detach() for n in held])


def write_gradients(seed, name, joint, K=0):
    p, mask, losses, tensors = make_case(seed, name, 23, 16, joint, K)
    path = name + ".safetensors"
    augmenters = [n for n in p if is_augmenter(n)]
    results = part_gradients(path, p, mask, losses, "l0",
                             [n for n in p if joint or not is_augmenter(n)])
    if not joint:
        second = part_gradients(path, p, mask, losses, "l1", augmenters)
        results.update({"grad1." + n: second["grad." + n] for n in augmenters})
    ref.save_case(path, {**tensors, **results},
                  {"case": name, "positions": "first", "scalar": "out.l0"})


def write_steps(seed, name):
    p, mask, losses, tensors = make_case(seed, name, 11, 8, False)
    path = name + ".safetensors"
    exact = three_steps(p, lambda q: losses(q, mask))
    rough = three_steps({n: x.float() for n, x in p.items()},
                        lambda q: losses(q, mask.float()))
    for key, x in exact.items():
        error = (x - rough[key]).abs()
        if key.endswith("param.layers.0.attn.qkv.bias"):
            error[8:16] = 0                       # K: gradient zero by algebra, Adam follows noise
        if error.max() > 2e-6 * max(1.0, x.abs().max().item()):
            raise ValueError("%s: %s differs by %g in float32" % (path, key, error.max()))
    if "--check" in sys.argv:
        other = torch_steps(p, lambda q: losses(q, mask))
        worst = max((x - exact["step%d.param.%s" % (2 if is_augmenter(n) else 3, n)]).abs().max()
                    for n, x in other.items())
        print("%s: differs from torch.optim.Adam by %.1e" % (path, worst))
        assert worst < 1e-10                      # noise over eps, where a gradient is zero
    ref.save_case(path, {**tensors, **exact}, {"case": name, "positions": "first"})


def main():
    # Seeds with rows whose positive exceeds the hardest negative, and others.
    write_gradients(1059, "mclrec", False)
    write_gradients(1061, "mclrec_joint", True)
    write_gradients(1062, "mclrec_interests", False, 3)
    write_steps(1516, "mclrec_steps")


if __name__ == "__main__":
    main()

"""A large catalogue around a trained one: its encoder, and N item vectors with the structure of its own.

    widen.py EXPORTED HISTORIES N OUT      EXPORTED: what `intent export --format safetensors` wrote

Item r is a variant of the trained item r mod V: its vector and Gaussian noise of half its length, so that a trained item is
the centre of a cluster of N/V.  The first V are the trained ones.  In OUT: model.safetensors and catalogue.txt for
`intent prep` and `intent import`, histories.txt with every event replaced by a variant at random.
"""
import os
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

NOISE = .5


def widen(items, n, rng):
    """[n, D]"""
    base = items[np.arange(n) % len(items)]
    noise = rng.standard_normal(base.shape, dtype=np.float32)
    noise *= NOISE * np.linalg.norm(base, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    noise[:len(items)] = 0
    return base + noise


def write_histories(path, source, ids, n, rng):
    row = {item: r for r, item in enumerate(ids)}
    with open(source) as f, open(path, "w") as out:
        for line in f:
            user, *items = line.split()
            rows = np.array([row[i] for i in items])
            variants = (n - 1 - rows) // len(ids) + 1
            rows = rows + len(ids) * rng.integers(0, variants)
            out.write(user + " " + " ".join(map(str, rows)) + "\n")


def write_catalogue(path, n):
    """Every item once, in the order of the rows; two a user, which leaves nothing to validate on."""
    with open(path, "w") as f:
        for r in range(0, n, 2):
            f.write(f"u{r} {r} {(r + 1) % n}\n")


def main():
    exported, histories, n, out = sys.argv[1:]
    n, rng = int(n), np.random.default_rng(1)
    os.makedirs(out, exist_ok=True)
    with safe_open(os.path.join(exported, "model.safetensors"), "np") as f:
        weights = {name: f.get_tensor(name) for name in f.keys()}
        about = {k: v for k, v in f.metadata().items() if k.endswith("encoder")}  # not the hash of the items
    with open(os.path.join(exported, "ids.txt")) as f:
        ids = f.read().splitlines()
    weights["item.weight"] = widen(weights["item.weight"], n, rng)
    save_file(weights, os.path.join(out, "model.safetensors"), about)
    write_catalogue(os.path.join(out, "catalogue.txt"), n)
    write_histories(os.path.join(out, "histories.txt"), histories, ids, n, rng)


if __name__ == "__main__":
    main()

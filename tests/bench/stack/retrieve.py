"""Histories of item ids in, lists of items out: PyTorch, then FAISS, then the maximum over interests."""
import os

import faiss
import numpy as np
import torch

import model as models


class Retriever:
    """directory: what `intent export --format safetensors` wrote; index: the bundle's index.faiss, or None for
    an exact scan."""

    def __init__(self, directory, index=None, threads=1, way="jit"):
        torch.set_num_threads(threads)
        faiss.omp_set_num_threads(threads)
        # From so many queries on a scan is a product of matrices; FAISS's own limit is higher than what is best on one thread.
        faiss.cvar.distance_compute_blas_threshold = 16
        self.model, weights, config = models.load(directory, way)
        with open(os.path.join(directory, "ids.txt")) as f:
            self.ids = f.read().splitlines()
        self.row = {item: r for r, item in enumerate(self.ids)}
        self.max_len, self.active_share = int(config["max_len"]), float(config["active_share"])
        if not int(config["interests"]):
            self.active_share = 0.0
        if index:
            self.index = faiss.read_index(index)
        else:
            self.index = faiss.IndexFlatIP(weights["item.weight"].shape[1])
            self.index.add(weights["item.weight"].numpy())

    def encode(self, rows):
        """phi [B, K, D], share [B, K] of lists of rows, each at least one long."""
        newest = [r[-self.max_len:] for r in rows]
        lengths = [len(r) for r in newest]
        if len(rows) == 1:
            ids = torch.tensor(newest)
        else:
            padded = np.zeros((len(rows), max(lengths)), np.int64)
            for i, r in enumerate(newest):
                padded[i, :len(r)] = r
            ids = torch.from_numpy(padded)
        phi, share = models.run(self.model, ids, torch.tensor(lengths))
        return phi.numpy(), share.numpy()

    def recommend(self, requests):
        """requests: [(history of ids, limit)]; a list of (item id, score, interest) for each."""
        rows = [[self.row[i] for i in h if i in self.row] for h, _ in requests]
        phi, share = self.encode([r or [0] for r in rows])
        active = share >= self.active_share
        seen = [set(r) for r in rows]
        # Seen items may stand before what is wanted: so many more are fetched.
        depth = max(limit + len(s) for (_, limit), s in zip(requests, seen))
        score, found = self.index.search(phi[active], min(depth, self.index.ntotal))
        answers, at = [], 0
        for b, (_, limit) in enumerate(requests):
            interest = np.flatnonzero(active[b]).tolist()
            to = at + len(interest)
            answers.append(self.merge(score[at:to], found[at:to], interest, seen[b], limit) if rows[b] else [])
            at = to
        return answers

    def merge(self, score, found, interest, seen, limit):
        """The best by the maximum over interests: in descending order an item's first place is its best."""
        depth = score.shape[1]
        flat, rows, taken, out = score.ravel(), found.ravel(), set(seen), []
        for place in np.argsort(-flat, kind="stable").tolist():
            row = int(rows[place])
            if row in taken or row < 0:
                continue
            taken.add(row)
            out.append((self.ids[row], float(flat[place]), interest[place // depth]))
            if len(out) == limit:
                break
        return out

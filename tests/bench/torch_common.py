"""What the PyTorch baselines share: a fair BLAS environment, data, and a padded model.

The model is the float32, vectorised counterpart of ../vectors/ref.py: same parameter names and
shapes (linear weights [in, out]), sequences right-padded, first item at position 0.  With a causal
mask and right padding no valid query ever sees a padded key, so no key mask is needed.
`torch_check.py --selftest` compares it with ref.py.
"""

import ctypes
import glob
import math
import os
import sys

# ------------------------------------------------------------------------------------ environment


def find_openmp_blas():
    """Folder of Debian's libopenblas0-openmp, or None."""
    found = sorted(glob.glob("/usr/lib/*/openblas-openmp/libblas.so.3"))
    return os.path.dirname(found[0]) if found else None


def loaded_openblas():
    """Path of the OpenBLAS mapped into this process, or None."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if "/libopenblas" in path:
                return path
    return None


def openblas_core():
    path = loaded_openblas()
    if path is None:
        return None
    get = ctypes.CDLL(path).openblas_get_corename
    get.restype = ctypes.c_char_p
    return get().decode()


def cpu_flags():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


def fair_environment(threads):
    """Restarts the script, at most twice, until PyTorch has the BLAS it is fastest with.

    OpenBLAS's pthread build has a thread pool of its own that fights with PyTorch's OpenMP pool
    (two threads become slower than one): take the openmp build.  Inherited OPENBLAS_* settings,
    which can pin it to slower kernels, are dropped.  OpenBLAS 0.3.21 may still fall back to its
    Haswell kernels on a newer processor that has AVX-512: name the AVX-512 kernels then.
    TORCH_BENCH_CORETYPE overrides the core type.
    """
    folder = find_openmp_blas()
    if folder is None:
        sys.exit("libopenblas0-openmp is not installed: PyTorch would be at a disadvantage")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    paths = [p for p in env.get("LD_LIBRARY_PATH", "").split(":") if p and p != folder]
    env["LD_LIBRARY_PATH"] = ":".join([folder] + paths)
    env["OMP_NUM_THREADS"] = str(threads)
    core = os.environ.get("TORCH_BENCH_CORETYPE") or (
        os.environ.get("OPENBLAS_CORETYPE") if "TORCH_BENCH_STARTED" in os.environ else None)
    if core:
        env["OPENBLAS_CORETYPE"] = core
    env["TORCH_BENCH_STARTED"] = "1"
    if env == dict(os.environ):
        import torch  # noqa: F401  (maps the BLAS)
        if "openblas-openmp" not in (loaded_openblas() or ""):
            sys.exit("PyTorch uses %s, not the openmp build" % loaded_openblas())
        avx512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"} <= cpu_flags()
        if avx512 and not core and openblas_core() in ("Haswell", "Zen"):
            env["OPENBLAS_CORETYPE"] = "SkylakeX"
    if env != dict(os.environ):
        os.execve(sys.executable, [sys.executable] + sys.argv, env)

    import torch
    torch.set_num_threads(threads)
    return {"torch": torch.__version__, "blas": os.path.basename(loaded_openblas()),
            "blas_build": "openmp", "core_type": openblas_core(),
            "threads": torch.get_num_threads(),
            "aten": os.environ.get("ATEN_CPU_CAPABILITY", "default")}


# ------------------------------------------------------------------------------------------- data

def data_root():
    here = os.path.dirname(os.path.abspath(__file__))
    return os.environ.get("DATA", os.path.join(here, "..", "..", "..", "shared", "data"))


class Sequences:
    """User-sequence text: `user item item ...`, one user a line, oldest item first.  Items become
    rows 0..V-1 in order of first appearance; leave-one-out split by position."""

    def __init__(self, path):
        import numpy as np
        rows, tokens, cu = {}, [], [0]
        with open(path) as f:
            for line in f:
                tokens += [rows.setdefault(item, len(rows)) for item in line.split()[1:]]
                cu.append(len(tokens))
        self.tokens, self.cu = np.array(tokens), np.array(cu)
        self.n_items, self.n_users = len(rows), len(cu) - 1

    def samples(self, max_len):
        """Layout B: every prefix s[max(0,i-max_len):i] -> s[i] with i <= n-3.  Arrays of
        (prefix start, target position, end of the user's training part)."""
        import numpy as np
        parts = []
        for a, b in zip(self.cu[:-1], self.cu[1:]):
            target = np.arange(a + 1, b - 2)
            parts.append(np.stack([np.maximum(a, target - max_len), target,
                                   np.full(len(target), b - 2)]))
        return np.concatenate(parts, axis=1)

    def pieces(self, max_len):
        """Layout A: the training part of every user in pieces of at most max_len inputs, each of which
        has a target.  Columns as in samples(): inputs are tokens[start:end], targets tokens[start+1:end+1]."""
        import numpy as np
        columns = [(max(a, end - max_len), end, b - 2) for a, b in zip(self.cu[:-1], self.cu[1:])
                   for end in range(b - 3, a, -max_len)]
        return np.array(columns).T

    def histories(self, max_len, split):
        """One row per user: (history start, target position); split 'valid' or 'test'."""
        import numpy as np
        target = self.cu[1:] - (2 if split == "valid" else 1)
        keep = target > self.cu[:-1]
        start = np.maximum(self.cu[:-1], target - max_len)
        return np.stack([start[keep], target[keep], self.cu[:-1][keep]])

    def padded(self, start, end, width=None, reverse=False):
        """Right-padded ids [B,width] of tokens[start:end] and the lengths [B].  The padding is row
        0, which no valid position attends to."""
        import numpy as np
        import torch
        length = end - start
        column = np.arange(width or length.max())[None, :]
        index = end[:, None] - 1 - column if reverse else start[:, None] + column
        valid = column < length[:, None]
        ids = np.where(valid, self.tokens[np.where(valid, index, 0)], 0)
        return torch.from_numpy(ids), torch.from_numpy(length)


def batches(samples, size, rng, bucketed, span=64):
    """Shuffled batches of sample columns.  Bucketed: sorted by length within spans of `span`
    batches, then the batches are shuffled, so that one batch pads little."""
    import numpy as np
    order = rng.permutation(samples.shape[1])
    if bucketed:
        length = samples[1] - samples[0]
        chunks = [order[i:i + span * size] for i in range(0, len(order), span * size)]
        order = np.concatenate([c[np.argsort(length[c], kind="stable")] for c in chunks])
    groups = [order[i:i + size] for i in range(0, len(order), size)]
    if bucketed:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    return [samples[:, g] for g in groups]


# ------------------------------------------------------------------------------------------ model

class Model:
    """Post-LN Transformer encoder with an optional K-interest head; parameters in self.p."""

    def __init__(self, n_items, max_len=50, width=64, heads=2, layers=2, interests=0,
                 hidden_dropout=0.5, attention_dropout=0.5, activation="gelu", p=None):
        import torch
        import torch.nn.functional as F
        self.torch, self.F = torch, F
        self.heads, self.layers, self.interests = heads, layers, interests
        self.hidden_dropout, self.attention_dropout = hidden_dropout, attention_dropout
        self.activation = {"gelu": F.gelu, "relu": F.relu}[activation]
        self.training = True
        self.p = p or self.initial(n_items, max_len, width)
        blocked = torch.full((max_len, max_len), -math.inf, dtype=self.p["item.weight"].dtype)
        self.causal = torch.triu(blocked, 1)

    def initial(self, n_items, max_len, width):
        """Linear and embedding weights N(0, .02^2), biases 0, LayerNorm 1 and 0; prototypes and
        betas N(0, 1/D), the head's positions and query bias 0."""
        torch = self.torch
        normal = lambda *shape, std=0.02: torch.randn(*shape) * std
        p = {"item.weight": normal(n_items, width), "pos.weight": normal(max_len, width)}

        def norm(name):
            p[name + ".weight"], p[name + ".bias"] = torch.ones(width), torch.zeros(width)

        def linear(name, n_in, n_out):
            p[name + ".weight"], p[name + ".bias"] = normal(n_in, n_out), torch.zeros(n_out)

        norm("emb_norm")
        for i in range(self.layers):
            layer = "layers.%d." % i
            linear(layer + "attn.qkv", width, 3 * width)
            linear(layer + "attn.out", width, width)
            norm(layer + "attn_norm")
            linear(layer + "ffn.up", width, 4 * width)
            linear(layer + "ffn.down", 4 * width, width)
            norm(layer + "ffn_norm")
        if self.interests:
            std = 1.0 / math.sqrt(width)
            for name in ("prototypes", "beta_in", "beta_out"):
                p["interest." + name] = normal(self.interests, width, std=std)
            p["interest.pos"] = torch.zeros(max_len, width)
            p["interest.query_bias"] = torch.zeros(width)
            linear("interest.ffn", width, width)
            for i in range(1, 6):
                norm("interest.norm%d" % i)
        return {name: x.requires_grad_(True) for name, x in p.items()}

    def parameters(self):
        return list(self.p.values())

    def norm(self, name, x):
        return self.F.layer_norm(x, x.shape[-1:], self.p[name + ".weight"],
                                 self.p[name + ".bias"], 1e-12)

    def linear(self, name, x):
        y = self.torch.addmm(self.p[name + ".bias"], x.reshape(-1, x.shape[-1]),
                             self.p[name + ".weight"])
        return y.view(*x.shape[:-1], -1)

    def dropout(self, x, rate):
        return self.F.dropout(x, rate, training=self.training)

    def attention(self, name, x):
        size, n, width = x.shape
        d = width // self.heads
        q, k, v = (self.linear(name + ".qkv", x).view(size, n, 3, self.heads, d)
                   .permute(2, 0, 3, 1, 4))
        score = q @ k.transpose(-1, -2) / math.sqrt(d) + self.causal[:n, :n]
        weight = self.dropout(self.torch.softmax(score, dim=-1), self.attention_dropout)
        context = (weight @ v).transpose(1, 2).reshape(size, n, width)
        return self.linear(name + ".out", context)

    def encode(self, ids):
        """States [B,n,D] of right-padded ids [B,n]."""
        x = self.F.embedding(ids, self.p["item.weight"]) + self.p["pos.weight"][:ids.shape[1]]
        x = self.dropout(self.norm("emb_norm", x), self.hidden_dropout)
        for i in range(self.layers):
            layer = "layers.%d." % i
            y = self.attention(layer + "attn", x)
            x = self.norm(layer + "attn_norm", x + self.dropout(y, self.hidden_dropout))
            y = self.linear(layer + "ffn.down",
                            self.activation(self.linear(layer + "ffn.up", x)))
            x = self.norm(layer + "ffn_norm", x + self.dropout(y, self.hidden_dropout))
        return x

    def last(self, z, length):
        return z[self.torch.arange(len(z)), length - 1]

    def head(self, z, length, beta="interest.beta_in"):
        """assign [B,n,K], importance [B,n], phi [B,K,D]."""
        torch, p = self.torch, self.p
        n, scale = z.shape[1], 1.0 / math.sqrt(z.shape[2])
        centres = self.norm("interest.norm2", p["interest.prototypes"])
        assign = torch.softmax(self.norm("interest.norm1", z) @ centres.t() * scale, dim=-1)
        kt = self.norm("interest.norm3", z + p["interest.pos"][:n])
        keys = kt + torch.relu(self.linear("interest.ffn", kt))
        query = self.norm("interest.norm4", self.last(z, length)
                          + p["interest.pos"][length - 1] + p["interest.query_bias"])
        score = (keys @ query[:, :, None]).squeeze(2) * scale
        score = score.masked_fill(torch.arange(n)[None, :] >= length[:, None], -math.inf)
        importance = torch.softmax(score, dim=1)
        pooled = (assign * importance[:, :, None]).transpose(1, 2) @ z
        return assign, importance, self.norm("interest.norm5", p[beta] + pooled)

    def logits(self, z, length, phi=None):
        """[B,V] over the tied table; with interests the maximum over k."""
        table = self.p["item.weight"].t()
        if not self.interests:
            return self.last(z, length) @ table
        size, k, width = phi.shape
        return (phi.reshape(-1, width) @ table).view(size, k, -1).max(dim=1).values

    def loss(self, ids, length, target, future=None, next_weight=1.0, dssrec_weight=0.0,
             keep=0.5):
        """next_weight * full-softmax cross-entropy + dssrec_weight * DSSRec's loss."""
        z = self.encode(ids)
        phi = self.head(z, length)[2] if self.interests else None
        total = 0.0
        if next_weight:
            total = next_weight * self.F.cross_entropy(self.logits(z, length, phi), target)
        if dssrec_weight:
            psi = self.head(self.encode(future[0]), future[1], "interest.beta_out")[2]
            total = total + dssrec_weight * self.dssrec(phi, psi, target, keep)
        return total

    def loss_of_all(self, ids, length, targets, negatives, kind):
        """Layout A: every position's next item, targets [B,n] padded like ids.  kind softmax: over all items;
        bce: against one negative each, negatives [B,n]; sampled: against negatives [S] shared by the batch,
        uniform, their scores corrected by log(V/S)."""
        torch, F, table = self.torch, self.F, self.p["item.weight"]
        valid = torch.arange(ids.shape[1])[None, :] < length[:, None]
        z, target = self.encode(ids)[valid], targets[valid]
        if kind == "softmax":
            return F.cross_entropy(z @ table.t(), target)
        positive = (z * F.embedding(target, table)).sum(-1)
        if kind == "bce":
            negative = (z * F.embedding(negatives[valid], table)).sum(-1)
            return (F.softplus(-positive) + F.softplus(negative)).mean()
        others = z @ F.embedding(negatives, table).t() + math.log(len(table) / len(negatives))
        others = others.masked_fill(target[:, None] == negatives[None, :], -math.inf)
        return (torch.logsumexp(torch.cat([positive[:, None], others], 1), 1) - positive).mean()

    def dssrec(self, phi, psi, target, keep):
        torch = self.torch
        size, k, width = phi.shape
        scale = 1.0 / math.sqrt(width)
        own = torch.arange(size)
        item = phi @ self.p["item.weight"][target].t() * scale                # [B,K,B]
        s2i = torch.logsumexp(item.flatten(1), dim=1) - item[own, :, own].max(dim=1).values
        cross = phi.reshape(-1, width) @ psi.reshape(-1, width).t() * scale   # [BK,BK]
        s2s = torch.logsumexp(cross, dim=1) - cross.diagonal()
        count = max(1, int(math.floor(keep * size * k)))
        tau = s2s.detach().kthvalue(count).values
        return (s2i.sum() + s2s[s2s.detach() <= tau].sum()) / size


def training_step(model, optimizer, data, batch, width, **weights):
    """One step on a batch of sample columns; width None pads to the batch's longest."""
    import torch
    start, end, stop = batch
    ids, length = data.padded(start, end, width)
    target = torch.from_numpy(data.tokens[end])
    future = None
    if weights.get("dssrec_weight"):
        max_len = model.p["pos.weight"].shape[0]
        future = data.padded(end, stop.clip(max=end + max_len), width, reverse=True)
    optimizer.zero_grad(set_to_none=True)
    loss = model.loss(ids, length, target, future, **weights)
    loss.backward()
    optimizer.step()
    return loss.item()


def training_step_all(model, optimizer, data, batch, width, kind, rng, n_shared=256):
    """The same for layout A and Model.loss_of_all."""
    import torch
    start, end, _ = batch
    ids, length = data.padded(start, end, width)
    targets, _ = data.padded(start + 1, end + 1, width or ids.shape[1])
    shape = ids.shape if kind == "bce" else n_shared
    negatives = torch.from_numpy(rng.randint(0, data.n_items, shape))
    optimizer.zero_grad(set_to_none=True)
    loss = model.loss_of_all(ids, length, targets, negatives, kind)
    loss.backward()
    optimizer.step()
    return loss.item()

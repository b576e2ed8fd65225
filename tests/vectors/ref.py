"""Reference model in float64, written from the equations: the oracle of the golden vectors.

It is meant to be read beside the papers, so it loops over sequences and heads, one small matrix at
a time, and lets autograd find the gradients.  It shares no code with the C library.  Dropout is
off throughout.

Conventions
  p        dict: parameter name -> float64 tensor; linear weights are [in, out], y = x W + b
  pack     a batch of sequences back to back: ids [N], cu [B+1], pos [N], key_mask [N] or None
  D, H     width, heads; head h owns columns h*D/H .. (h+1)*D/H of each of Q, K and V
  K, V, B  interests, items (rows 0..V-1 of the item table, no padding row), sequences

Sources: Vaswani et al. 2017 (attention); Kang & McAuley 2018 (causal self-attention, SASRec);
Zhou et al. 2020 (post-LN encoder, S3-Rec); Ma et al. 2020 (interest head and objective, DSSRec);
Xie et al. 2022 (views and NT-Xent, CL4SRec).
"""

import json
import math
import os
import struct
import sys
from collections import namedtuple

import numpy as np
import torch

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

LN_EPS = 1e-12

Config = namedtuple("Config", "layers heads causal activation")
Pack = namedtuple("Pack", "ids cu pos key_mask")


# ---------------------------------------------------------------------------------------- encoder

def layer_norm(p, name, x):
    """(x - mean) / sqrt(var + eps) * gain + bias over the last axis, biased variance."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + LN_EPS) * p[name + ".weight"] + p[name + ".bias"]


def linear(p, name, x):
    return x @ p[name + ".weight"] + p[name + ".bias"]


def gelu(x):
    """x * Phi(x), Phi the standard normal distribution function (the erf form, no tanh)."""
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


ACTIVATIONS = {"gelu": gelu, "relu": torch.relu}


def attention(p, name, x, cfg, may_attend):
    """Multi-head self-attention of one sequence x [n,D]; may_attend [n,n] bool, query by key.

    A query that may attend no key at all gets a zero context vector (so the sub-layer's output is
    the bias of the output projection).
    """
    n, width = x.shape
    d = width // cfg.heads
    q, k, v = linear(p, name + ".qkv", x).split(width, dim=1)
    heads = []
    for h in range(cfg.heads):
        cols = slice(h * d, (h + 1) * d)
        score = q[:, cols] @ k[:, cols].T / math.sqrt(d)
        rows = []
        for i in range(n):
            keys = torch.nonzero(may_attend[i]).flatten()
            if len(keys) == 0:
                rows.append(x.new_zeros(d))
            else:
                rows.append(torch.softmax(score[i, keys], dim=0) @ v[keys, cols])
        heads.append(torch.stack(rows))
    return linear(p, name + ".out", torch.cat(heads, dim=1))


def embed(p, ids):
    """Rows [n,D] of the item table; id -1 is the mask token, row 0 of mask.weight."""
    masked = ids < 0
    if not masked.any():
        return p["item.weight"][ids]
    return torch.where(masked[:, None], p["mask.weight"][0], p["item.weight"][ids.clamp(min=0)])


def encode_one(p, cfg, ids, pos, key_mask=None):
    """States [n,D] of one sequence: embeddings, LN, then post-LN blocks; no final LN."""
    n = len(ids)
    may_attend = torch.ones(n, n, dtype=torch.bool)
    if cfg.causal:
        may_attend = torch.tril(may_attend)
    if key_mask is not None:
        may_attend = may_attend & (key_mask != 0)[None, :]
    x = layer_norm(p, "emb_norm", embed(p, ids) + p["pos.weight"][pos])
    for i in range(cfg.layers):
        layer = "layers.%d." % i
        x = layer_norm(p, layer + "attn_norm",
                       x + attention(p, layer + "attn", x, cfg, may_attend))
        hidden = ACTIVATIONS[cfg.activation](linear(p, layer + "ffn.up", x))
        x = layer_norm(p, layer + "ffn_norm", x + linear(p, layer + "ffn.down", hidden))
    return x


def sequences(pack):
    """Slices of the packed arrays, one per sequence."""
    return [slice(int(a), int(b)) for a, b in zip(pack.cu[:-1], pack.cu[1:])]


def encode(p, cfg, pack):
    """States [N,D] of a packed batch."""
    return torch.cat([
        encode_one(p, cfg, pack.ids[s], pack.pos[s],
                   None if pack.key_mask is None else pack.key_mask[s])
        for s in sequences(pack)])


# ---------------------------------------------------------------------------------- interest head

def interests_one(p, z, pos, beta, key_mask=None):
    """DSSRec's head for one sequence.

      assign     p(k|i) = softmax over k of LN1(z_i) . LN2(c_k) / sqrt(D)          [n,K]
      importance p_i    = softmax over i of k_i . q / sqrt(D)                      [n]
                 over the i that the key mask shows, the others have none
                 kt_i = LN3(z_i + alpha_i), k_i = kt_i + ReLU(kt_i W + b),
                 q = LN4(z_t + alpha_t + b'), t the last position
      phi        phi^k  = LN5(beta_k + sum_i p(k|i) p_i z_i)                       [K,D]
    """
    scale = 1.0 / math.sqrt(z.shape[1])
    centres = layer_norm(p, "interest.norm2", p["interest.prototypes"])
    assign = torch.softmax(layer_norm(p, "interest.norm1", z) @ centres.T * scale, dim=1)

    alpha = p["interest.pos"][pos]
    kt = layer_norm(p, "interest.norm3", z + alpha)
    keys = kt + torch.relu(linear(p, "interest.ffn", kt))
    query = layer_norm(p, "interest.norm4", z[-1] + alpha[-1] + p["interest.query_bias"])
    score = keys @ query * scale
    if key_mask is not None:
        score = torch.where(key_mask != 0, score, torch.full_like(score, -math.inf))
    importance = torch.softmax(score, dim=0)

    pooled = (assign * importance[:, None]).T @ z
    return assign, importance, layer_norm(p, "interest.norm5", p[beta] + pooled)


def interests(p, z, pack, beta="interest.beta_in"):
    """assign [N,K], importance [N], phi [B,K,D] of a packed batch with states z [N,D]."""
    parts = [interests_one(p, z[s], pack.pos[s], beta,
                           None if pack.key_mask is None else pack.key_mask[s])
             for s in sequences(pack)]
    assign, importance, phi = zip(*parts)
    return torch.cat(assign), torch.cat(importance), torch.stack(phi)


# ------------------------------------------------------------------------------------- objectives

def last_states(z, pack):
    return z[pack.cu[1:] - 1]


def logits_single(p, z, pack):
    """[B,V]: the last state against the tied item table, no bias."""
    return last_states(z, pack) @ p["item.weight"].T


def logits_interests(p, phi):
    """[B,V]: max over k of phi^k . e_v."""
    return (phi @ p["item.weight"].T).max(dim=1).values


def cross_entropy(logits, target):
    """Mean over the batch of -log softmax(logits)[target], natural logarithm."""
    rows = torch.arange(len(target))
    return (torch.logsumexp(logits, dim=1) - logits[rows, target]).mean()


def next_item(p, cfg, pack, target, interest_head):
    """Full-softmax next-item loss; returns (loss, logits)."""
    z = encode(p, cfg, pack)
    logits = (logits_interests(p, interests(p, z, pack)[2]) if interest_head
              else logits_single(p, z, pack))
    return cross_entropy(logits, target), logits


DssRec = namedtuple("DssRec", "loss s2i s2s tau kept phi phi_future")


def dssrec(p, cfg, pack, future, target, keep):
    """DSSRec's loss, natural logarithm, with s(a,b) = a.b / sqrt(D).

      s2i_b  = -log( max_k exp s(phi_b^k, e_b) / sum_b' sum_k exp s(phi_b^k, e_b') )
               e_b' the targets of the batch, counted once per sequence even when they repeat
      s2s_bk = -log( exp s(phi_b^k, psi_b^k) / sum_b' sum_k' exp s(phi_b^k, psi_b'^k') )
               psi the interests of the reversed futures, made with beta_out
      tau    = the max(1, floor(keep*B*K))-th smallest s2s; those <= tau are kept, tau itself
               being a constant for the gradient
      loss   = (sum_b s2i_b + sum_kept s2s_bk) / B
    """
    phi = interests(p, encode(p, cfg, pack), pack)[2]
    psi = interests(p, encode(p, cfg, future), future, "interest.beta_out")[2]
    n_seq, n_int, width = phi.shape
    scale = 1.0 / math.sqrt(width)

    s2i = []
    for b in range(n_seq):
        s = phi[b] @ p["item.weight"][target].T * scale            # [K,B]
        s2i.append(torch.logsumexp(s.flatten(), dim=0) - s[:, b].max())
    s2i = torch.stack(s2i)

    all_psi = psi.reshape(n_seq * n_int, width)
    s2s = []
    for b in range(n_seq):
        for k in range(n_int):
            s = all_psi @ phi[b, k] * scale                        # [B*K]
            s2s.append(torch.logsumexp(s, dim=0) - s[b * n_int + k])
    s2s = torch.stack(s2s).reshape(n_seq, n_int)

    count = max(1, int(math.floor(keep * n_seq * n_int)))
    tau = s2s.detach().flatten().sort().values[count - 1]
    kept = s2s.detach() <= tau
    loss = (s2i.sum() + s2s[kept].sum()) / n_seq
    return DssRec(loss, s2i, s2s, tau, kept, phi, psi)


# ------------------------------------------------------------------------- contrast of two views

def sequence_vectors(p, cfg, pack, interest_head):
    """[B,D] last states, or the K interests side by side, [B,K*D]."""
    z = encode(p, cfg, pack)
    if not interest_head:
        return last_states(z, pack)
    phi = interests(p, z, pack)[2]
    return phi.reshape(len(phi), -1)


def pair_scores(a, b, temperature=1.0, cosine=False):
    """Of each of the 2B rows of Z = [a; b]: the score with its pair, and the 2B-2 scores with the
    rows that are neither itself nor its pair.  S = Z Z^T / temperature, of unit rows if cosine."""
    z = torch.cat([a, b])
    if cosine:
        z = z / torch.sqrt((z * z).sum(dim=1, keepdim=True))
    s = z @ z.T / temperature
    rows = []
    for r in range(len(z)):
        pair = (r + len(a)) % len(z)
        rows.append((s[r, pair], s[r, [k for k in range(len(z)) if k not in (r, pair)]]))
    return rows


def nt_xent(a, b, temperature=1.0, cosine=False):
    """Mean over the 2B rows of -log( exp s_pair / (exp s_pair + sum_k exp s_k) )."""
    loss = [torch.logsumexp(torch.cat([pair[None], others]), dim=0) - pair
            for pair, others in pair_scores(a, b, temperature, cosine)]
    return torch.stack(loss).mean()


def contrastive(p, cfg, pack, views, target, interest_head, temperature, cosine, weight):
    """next_item + weight * NT-Xent of two packs of views; CL4SRec and the Siamese halves."""
    first, second = [sequence_vectors(p, cfg, view, interest_head) for view in views]
    recommend = next_item(p, cfg, pack, target, interest_head)[0]
    contrast = nt_xent(first, second, temperature, cosine)
    return named_losses(next_item=recommend, contrast=contrast,
                        loss=recommend + weight * contrast)


def named_losses(**losses):
    """out.<name> [1] of every loss."""
    return {"out." + name: x.reshape(1) for name, x in losses.items()}


# ------------------------------------------------------------------------------ random parameters

def encoder_shapes(V, D, L, layers):
    shapes = {"item.weight": (V, D), "pos.weight": (L, D),
              "emb_norm.weight": (D,), "emb_norm.bias": (D,)}
    for i in range(layers):
        layer = "layers.%d." % i
        shapes.update({
            layer + "attn.qkv.weight": (D, 3 * D), layer + "attn.qkv.bias": (3 * D,),
            layer + "attn.out.weight": (D, D), layer + "attn.out.bias": (D,),
            layer + "attn_norm.weight": (D,), layer + "attn_norm.bias": (D,),
            layer + "ffn.up.weight": (D, 4 * D), layer + "ffn.up.bias": (4 * D,),
            layer + "ffn.down.weight": (4 * D, D), layer + "ffn.down.bias": (D,),
            layer + "ffn_norm.weight": (D,), layer + "ffn_norm.bias": (D,)})
    return shapes


def interest_shapes(D, L, K):
    shapes = {"interest.prototypes": (K, D), "interest.beta_in": (K, D),
              "interest.beta_out": (K, D), "interest.pos": (L, D), "interest.query_bias": (D,),
              "interest.ffn.weight": (D, D), "interest.ffn.bias": (D,)}
    for i in range(1, 6):
        shapes["interest.norm%d.weight" % i] = (D,)
        shapes["interest.norm%d.bias" % i] = (D,)
    return shapes


def random_parameters(shapes, rng, scale=0.3):
    """Every weight and bias N(0, scale^2); LayerNorm gains 1 + N(0, scale^2), so that a gain or a
    bias left out shows.  Rounded to float32, computed with as float64."""
    p = {}
    for name, shape in shapes.items():
        x = rng.standard_normal(shape) * scale
        if "norm" in name and name.endswith(".weight"):
            x = x + 1.0
        p[name] = as_parameter(x)
    return p


def as_parameter(x):
    return torch.from_numpy(np.asarray(x, np.float32).astype(np.float64)).requires_grad_(True)


def random_pack(rng, lengths, V, L, convention, key_mask=None):
    """convention 'first': positions 0..n-1; 'last': the last item has position L-1."""
    ids = torch.from_numpy(rng.randint(0, V, sum(lengths)).astype(np.int64))
    return Pack(ids, *offsets_and_positions(lengths, L, convention),
                None if key_mask is None else torch.tensor(key_mask))


def offsets_and_positions(lengths, L, convention):
    start = {"first": lambda n: 0, "last": lambda n: L - n}[convention]
    pos = np.concatenate([start(n) + np.arange(n) for n in lengths])
    return (torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
            torch.from_numpy(pos.astype(np.int64)))


def pack_lists(lists, L, convention, pad=False):
    """A pack of lists of ids, -1 = masked; with pad the masked places are no keys."""
    ids = torch.tensor([i for ids in lists for i in ids])
    return Pack(ids, *offsets_and_positions([len(ids) for ids in lists], L, convention),
                (ids >= 0).long() if pad else None)


def lists_of(pack):
    return [pack.ids[s].tolist() for s in sequences(pack)]


def random_views(rng, pack, V, L, convention, pad):
    """Two packs of views of sequences of 1, 2, 8, 5 and 3 items.  One item has no other view.

      view 1: as it is, last masked, cropped, reordered, one inserted
      view 2: as it is, one inserted, masked (the last too), cropped, first masked
    """
    one, two, eight, five, three = lists_of(pack)
    new = rng.randint(0, V, 2).tolist()
    first = [one, [two[0], -1], eight[2:7], [five[i] for i in (0, 3, 1, 2, 4)],
             three[:1] + [new[0]] + three[1:]]
    second = [one, two[:1] + [new[1]] + two[1:],
              [-1 if i in (1, 4, 7) else x for i, x in enumerate(eight)], five[1:3],
              [-1] + three[1:]]
    return [pack_lists(view, L, convention, pad) for view in (first, second)]


def gradients(scalar, p):
    """grad.<name> for every parameter; zero where the scalar does not depend on it."""
    grads = torch.autograd.grad(scalar, list(p.values()), allow_unused=True)
    return {"grad." + name: torch.zeros_like(x) if g is None else g
            for (name, x), g in zip(p.items(), grads)}


def check_stable(name, run, p, inputs=()):
    """Refuses a case that float32 could not reproduce (a tie in a maximum, a ReLU at its kink, a
    loss at the threshold): the same equations in float32 must agree with float64.

    run(p, *inputs) -> (dict of tensors, scalar); inputs are the real-valued inputs.
    Returns the float64 outputs and gradients as one dict.
    """
    def evaluate(dtype):
        q = {n: x.detach().to(dtype).requires_grad_(True) for n, x in p.items()}
        out, scalar = run(q, *[x.to(dtype) for x in inputs])
        return {**out, **gradients(scalar, q)}

    exact, rough = evaluate(torch.float64), evaluate(torch.float32)
    for key, x in exact.items():
        error = (x - rough[key]).abs().max().item()
        bound = (1e-5 if key.startswith("grad.") else 2e-6) * max(1.0, x.abs().max().item())
        if error > bound:
            raise ValueError("%s: %s differs by %g in float32: choose another seed"
                             % (name, key, error))
    return exact


def check_gradients(run, p, rng, inputs=(), samples=6, step=1e-5):
    """Compares autograd with central differences at random entries of every parameter."""
    grads = gradients(run(p, *inputs)[1], p)
    worst = 0.0
    for name, x in p.items():
        flat = x.data.view(-1)
        for i in rng.choice(flat.numel(), min(samples, flat.numel()), replace=False):
            kept = flat[i].item()
            flat[i] = kept + step
            above = run(p, *inputs)[1].item()
            flat[i] = kept - step
            below = run(p, *inputs)[1].item()
            flat[i] = kept
            numeric = (above - below) / (2 * step)
            scale = max(1e-2, grads["grad." + name].abs().max().item())
            worst = max(worst, abs(numeric - grads["grad." + name].view(-1)[i].item()) / scale)
    return worst


def check_case(path, run, p, inputs=()):
    """check_stable's outputs and gradients; with --check also tests the gradients."""
    exact = check_stable(path, run, p, inputs)
    if "--check" in sys.argv:
        worst = check_gradients(run, p, np.random.RandomState(1), inputs)
        print("%s: worst relative difference to central differences %.1e" % (path, worst))
        if worst > 1e-6:
            raise SystemExit("gradients do not match")
    return exact


def save_case(path, tensors, metadata):
    """Writes one file; with --check nothing."""
    if "--check" in sys.argv:
        return
    metadata = {**metadata, "torch": torch.__version__, "numpy": np.__version__}
    full = os.path.join(os.path.dirname(os.path.abspath(__file__)), path)
    save_safetensors(full, tensors, metadata)
    print("%s: %d tensors, %d bytes" % (path, len(tensors), os.path.getsize(full)))


def write_case(path, run, p, tensors, metadata, inputs=()):
    """Computes, checks and writes one file; with --check also tests the gradients, writing
    nothing."""
    save_case(path, {**p, **tensors, **check_case(path, run, p, inputs)}, metadata)


# ------------------------------------------------------------------------------------ safetensors

TYPES = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32", np.dtype(np.int32): "I32"}


def as_stored(name, value):
    """Inputs and weights F32, integers I32, out.* F64.  Gradients are computed in float64 and
    stored F32: the rounding (6e-8) is far below any tolerance, and it halves the files.  A
    gradient that is zero by algebra is stored as zero, without its rounding noise."""
    a = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if a.dtype.kind in "biu":
        return a.astype(np.int32)
    if name.startswith(("grad.", "grad1.")):
        a = np.where(np.abs(a) < 1e-13, 0.0, a)
    return a.astype(np.float64 if name.startswith("out.") else np.float32)


def save_safetensors(path, tensors, metadata):
    """8-byte little-endian header length, JSON header, raw little-endian data.

    Wider types come first and the header is padded with spaces to a multiple of 8, so that every
    tensor is aligned.
    """
    arrays = {name: np.ascontiguousarray(as_stored(name, value)).reshape(np.shape(value))
              for name, value in tensors.items()}
    header, offset = {"__metadata__": metadata}, 0
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    for name in order:
        a = arrays[name]
        if not np.all(np.isfinite(a)):
            raise ValueError("%s: %s is not finite" % (path, name))
        header[name] = {"dtype": TYPES[a.dtype], "shape": list(a.shape),
                        "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            f.write(arrays[name].tobytes())


def load_safetensors(path):
    """Returns ({name: numpy array}, metadata)."""
    types = {name: dtype for dtype, name in TYPES.items()}
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    metadata = header.pop("__metadata__", {})
    return {name: np.frombuffer(data[slice(*h["data_offsets"])], types[h["dtype"]])
            .reshape(h["shape"]).copy() for name, h in header.items()}, metadata


def describe(cfg, **more):
    """config.* tensors (I32 [1]), so that a test need not parse the metadata."""
    numbers = {"layers": cfg.layers, "heads": cfg.heads, "causal": int(cfg.causal),
               "relu": int(cfg.activation == "relu"), **more}
    return {"config." + name: np.array([value]) for name, value in numbers.items()}


def stored_pack(pack, prefix=""):
    tensors = {prefix + "ids": pack.ids, prefix + "cu": pack.cu, prefix + "pos": pack.pos}
    if pack.key_mask is not None:
        tensors[prefix + "key_mask"] = pack.key_mask
    return tensors

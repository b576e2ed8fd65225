"""The encoder and K-interest head of models/README.md as a PyTorch user would serve them.

    model = load(directory of `intent export --format safetensors`)
    phi, share = model(ids [B, n] int64, lengths [B] int64)     [B, K, D], [B, K]

Histories are padded on the right; the encoder is causal, so that padding is never seen.
"""
import json
import math
import os
import warnings

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn


class Norm(nn.Module):
    def __init__(self, w, name):
        super().__init__()
        self.gain = nn.Parameter(w[name + ".weight"].flatten())
        self.bias = nn.Parameter(w[name + ".bias"].flatten())

    def forward(self, x):
        return F.layer_norm(x, (x.shape[-1],), self.gain, self.bias, 1e-12)


def linear(w, name):
    """The bundle stores [in, out]."""
    weight, bias = w[name + ".weight"].T.contiguous(), w[name + ".bias"].flatten()
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


class Block(nn.Module):
    def __init__(self, w, i, heads):
        super().__init__()
        at = "layers.%d." % i
        self.heads = heads
        self.qkv, self.out = linear(w, at + "attn.qkv"), linear(w, at + "attn.out")
        self.up, self.down = linear(w, at + "ffn.up"), linear(w, at + "ffn.down")
        self.attn_norm, self.ffn_norm = Norm(w, at + "attn_norm"), Norm(w, at + "ffn_norm")

    def forward(self, x):
        size, n, width = x.shape[0], x.shape[1], x.shape[2]
        d = width // self.heads
        q, k, v = self.qkv(x).view(size, n, 3, self.heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = self.attn_norm(x + self.out(context.transpose(1, 2).reshape(size, n, width)))
        return self.ffn_norm(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    def __init__(self, w, layers, heads):
        super().__init__()
        self.item, self.pos = nn.Parameter(w["item.weight"]), nn.Parameter(w["pos.weight"])
        self.norm = Norm(w, "emb_norm")
        self.blocks = nn.ModuleList([Block(w, i, heads) for i in range(layers)])

    def forward(self, ids):
        x = self.norm(F.embedding(ids, self.item) + self.pos[:ids.shape[1]])
        for block in self.blocks:
            x = block(x)
        return x


def last(x, lengths):
    return x[torch.arange(x.shape[0]), lengths - 1]


class Single(nn.Module):
    """The last state is the user's vector."""

    def __init__(self, w, layers, heads):
        super().__init__()
        self.encoder = Encoder(w, layers, heads)

    def forward(self, ids, lengths):
        phi = last(self.encoder(ids), lengths).unsqueeze(1)
        return phi, torch.ones(phi.shape[0], 1)


class Interests(nn.Module):
    """DSSRec's head: models/README.md, Heads."""

    def __init__(self, w, layers, heads):
        super().__init__()
        self.encoder = Encoder(w, layers, heads)
        self.norm1, self.norm3 = Norm(w, "interest.norm1"), Norm(w, "interest.norm3")
        self.norm4, self.norm5 = Norm(w, "interest.norm4"), Norm(w, "interest.norm5")
        # what does not depend on the history is computed once
        centres = Norm(w, "interest.norm2")(w["interest.prototypes"]).detach()
        self.scale = 1.0 / math.sqrt(centres.shape[1])
        self.centres = nn.Parameter(centres.T.contiguous() * self.scale)
        self.beta, self.pos = nn.Parameter(w["interest.beta_in"]), nn.Parameter(w["interest.pos"])
        self.query_bias = nn.Parameter(w["interest.query_bias"])
        self.ffn = linear(w, "interest.ffn")

    def forward(self, ids, lengths):
        z = self.encoder(ids)
        n = ids.shape[1]
        assign = torch.softmax(self.norm1(z) @ self.centres, dim=-1)              # [B, n, K]
        placed = z + self.pos[:n]
        t = self.norm3(placed)
        key = t + F.relu(self.ffn(t))
        query = self.norm4(last(placed, lengths) + self.query_bias)
        score = (key @ query.unsqueeze(2)).squeeze(2) * self.scale
        padding = torch.arange(n).unsqueeze(0) >= lengths.unsqueeze(1)
        weight = torch.softmax(score.masked_fill(padding, -math.inf), dim=1)      # [B, n]
        mix = assign * weight.unsqueeze(2)
        return self.norm5(self.beta + mix.transpose(1, 2) @ z), mix.sum(1)


def read(directory):
    """Weights by name, and the encoder's settings."""
    with safe_open(os.path.join(directory, "model.safetensors"), "pt") as f:
        config = json.loads(next(v for k, v in f.metadata().items() if k.endswith("encoder")))
        return {name: f.get_tensor(name).float() for name in f.keys()}, config


def run(model, ids, lengths):
    with torch.inference_mode():
        return model(ids, lengths)


def warm_up(model, max_len):
    """Both ways specialise by shape: have it done before the first request, the general shape first."""
    for size in (3, 1, 8, 32):
        for n in (20, 1, 2, 5, max_len):
            for _ in range(3):
                run(model, torch.zeros(size, n, dtype=torch.int64), torch.full((size,), n))


def load(directory, way="jit"):
    """way: eager, jit (scripted, frozen, optimised for inference), compile."""
    w, config = read(directory)
    if config["causal"] != "causal" or config["positions"] != "first" or config["activation"] != "gelu":
        raise SystemExit("stack: serves causal encoders with positions from the first and gelu")
    head = Interests if int(config["interests"]) else Single
    model = head(w, int(config["layers"]), int(config["heads"])).eval().requires_grad_(False)
    if way == "compile":
        model = torch.compile(model, dynamic=True)
    elif way == "jit":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated
            model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(model)))
    warm_up(model, int(config["max_len"]))
    return model, w, config

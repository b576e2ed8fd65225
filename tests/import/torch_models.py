"""The encoders of S3-Rec and RecBole in PyTorch, with their names, padding and masks: what `intent import` is checked
against.  Written after modules.py of RUCAIBox/CIKM2020-S3Rec and recbole/model/layers.py."""

import math

import torch
from torch import nn

NAMES = {
    "s3rec": ("item_embeddings", "position_embeddings", "item_encoder", "attention", "intermediate"),
    "recbole": ("item_embedding", "position_embedding", "trm_encoder", "multi_head_attention", "feed_forward"),
}


class Attention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, mask):
        q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
        score = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask
        y = self.drop(torch.softmax(score, -1)) @ v
        return self.LayerNorm(x + self.drop(self.dense(y.transpose(1, 2).reshape(x.shape))))


class FeedForward(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.dense_1, self.dense_2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        h = self.dense_1(x)
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        return self.LayerNorm(x + self.drop(self.dense_2(h)))


class Encoder(nn.Module):
    """rows: of the item table, padding (and mask) included.  Sequences are padded with 0, on the left in S3-Rec and on
    the right in RecBole; positions count slots."""

    def __init__(self, family, rows, width=64, heads=2, layers=2, length=50, dropout=0.0):
        super().__init__()
        item, pos, enc, attn, ffn = self.names = NAMES[family]
        setattr(self, item, nn.Embedding(rows, width, padding_idx=0))
        setattr(self, pos, nn.Embedding(length, width))
        blocks = nn.Module()
        blocks.layer = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            setattr(block, attn, Attention(width, heads, dropout))
            setattr(block, ffn, FeedForward(width, dropout))
            blocks.layer.append(block)
        setattr(self, enc, blocks)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.drop = nn.Dropout(dropout)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)

    def table(self):
        return getattr(self, self.names[0]).weight

    def forward(self, ids, causal=True):
        """States of ids [B,slots]; of padding slots too, which mean nothing."""
        item, pos, enc, attn, ffn = self.names
        slots = ids.shape[1]
        may = (ids != 0)[:, None, None, :]
        if causal:
            may = may & torch.tril(torch.ones(slots, slots, dtype=torch.bool))
        mask = (1.0 - may.float()) * -10000.0
        x = getattr(self, item)(ids) + getattr(self, pos)(torch.arange(slots))
        x = self.drop(self.LayerNorm(x))
        for block in getattr(self, enc).layer:
            x = getattr(block, ffn)(getattr(block, attn)(x, mask))
        return x

#!/usr/bin/python3
"""Compares ref.py's encoder with torch.nn.TransformerEncoderLayer, its contrast with
torch.nn.functional.cross_entropy, and every committed file with what ref.py computes from the
inputs stored in it.  The gradients are checked by gen_*.py --check."""

import glob
import os

import numpy as np
import torch

import gen_item_ssl
import gen_losses
import gen_mclrec
import gen_s3rec
import gen_rank
import ref

HERE = os.path.dirname(os.path.abspath(__file__))


def torch_encoder(p, cfg, x, blocked):
    """The same post-LN blocks out of PyTorch's own layer; blocked [n,n] is its boolean mask."""
    width = x.shape[1]
    for i in range(cfg.layers):
        name = "layers.%d." % i
        layer = torch.nn.TransformerEncoderLayer(
            width, cfg.heads, 4 * width, dropout=0.0, activation=cfg.activation,
            layer_norm_eps=ref.LN_EPS, batch_first=True)
        pairs = [(layer.self_attn.in_proj_weight, "attn.qkv.weight"),
                 (layer.self_attn.in_proj_bias, "attn.qkv.bias"),
                 (layer.self_attn.out_proj.weight, "attn.out.weight"),
                 (layer.self_attn.out_proj.bias, "attn.out.bias"),
                 (layer.norm1.weight, "attn_norm.weight"), (layer.norm1.bias, "attn_norm.bias"),
                 (layer.linear1.weight, "ffn.up.weight"), (layer.linear1.bias, "ffn.up.bias"),
                 (layer.linear2.weight, "ffn.down.weight"), (layer.linear2.bias, "ffn.down.bias"),
                 (layer.norm2.weight, "ffn_norm.weight"), (layer.norm2.bias, "ffn_norm.bias")]
        with torch.no_grad():
            for mine, key in pairs:
                mine.copy_(p[name + key].t())
        x = layer(x[None], src_mask=blocked)[0]
    return x


def check_encoder():
    rng = np.random.RandomState(7)
    for causal, activation in [(True, "gelu"), (False, "relu")]:
        cfg = ref.Config(2, 2, causal, activation)
        p = ref.random_parameters(ref.encoder_shapes(23, 16, 8, 2), rng)
        pack = ref.random_pack(rng, [8], 23, 8, "first", [1, 1, 0, 1, 1, 0, 1, 1])
        mine = ref.encode(p, cfg, pack)
        x = ref.layer_norm(p, "emb_norm", p["item.weight"][pack.ids] + p["pos.weight"][pack.pos])
        blocked = (pack.key_mask == 0)[None, :].repeat(8, 1)
        if causal:
            blocked = blocked | torch.triu(torch.ones(8, 8, dtype=torch.bool), 1)
        other = torch_encoder(p, cfg, x, blocked)
        error = (mine - other).abs().max().item()
        print("torch.nn.TransformerEncoderLayer, causal %d, %s: max difference %.1e"
              % (causal, activation, error))
        assert error < 1e-12


def check_contrast():
    """NT-Xent as one matrix with its diagonal left out, the pair at column (r + B) mod 2B."""
    rng = np.random.RandomState(8)
    for temperature, cosine in [(1.0, False), (0.1, True)]:
        a, b = torch.from_numpy(rng.standard_normal((2, 5, 16)))
        z = torch.cat([a, b])
        s = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2) if cosine else z @ z.T
        s = (s / temperature).masked_fill(torch.eye(10, dtype=torch.bool), -np.inf)
        other = torch.nn.functional.cross_entropy(s, (torch.arange(10) + 5) % 10)
        error = (ref.nt_xent(a, b, temperature, cosine) - other).abs().item()
        print("torch.nn.functional.cross_entropy, cosine %d: difference %.1e" % (cosine, error))
        assert error < 1e-13


def stored_pack(t, prefix=""):
    get = lambda key: torch.from_numpy(t[prefix + key].astype(np.int64))
    return ref.Pack(get("ids"), get("cu"), get("pos"),
                    get("key_mask") if prefix + "key_mask" in t else None)


def stored_loss(p, cfg, pack, t, value):
    """A loss of gen_losses.py from the drawn negatives and options that its file holds."""
    count, n = len(t["target"]), value("negatives")
    loss = gen_losses.LOSSES[value("loss")]
    drawn = t["neg"].reshape(-1, n) if n else np.zeros((1, 0), int)
    negatives = [list(row) for row in (np.repeat(drawn, count, 0) if loss == "sampled" or not n
                                       else drawn)]
    log_q = torch.zeros(p["item.weight"].shape[0])
    if n:
        log_q[t["neg"].astype(int)] = torch.from_numpy(t["neg_log_q"]).double()
        log_q[t["target"].astype(int)] = torch.from_numpy(t["target_log_q"]).double()
    weight = torch.from_numpy(t["weight"]).double() if "weight" in t else torch.ones(count)
    opt = {key: value(key) for key in ("temperature", "smoothing", "gbce_t")}
    opt["log_q"] = gen_losses.LOG_Q[value("log_q")]
    return gen_losses.next_item(p, cfg, pack, t["target"], negatives, weight, log_q, loss,
                                bool(value("layout_a")), value("interests"), opt)


def recompute(t):
    """The scalar of a stored file and the parameters, from its tensors alone."""
    p = {name[5:]: ref.as_parameter(t[name[5:]]) for name in t if name.startswith("grad.")}
    value = lambda key: t["config." + key].item()
    if "states" in p:
        pack = ref.Pack(None, *[torch.from_numpy(t[k].astype(np.int64)) for k in ("cu", "pos")],
                        None)
        beta = "interest.beta_out" if value("beta_out") else "interest.beta_in"
        phi = ref.interests(p, p["states"], pack, beta)[2]
        return p, (phi.reshape(-1, phi.shape[-1]) * torch.from_numpy(t["R"]).double()).sum()
    cfg = ref.Config(value("layers"), value("heads"), bool(value("causal")),
                     "relu" if value("relu") else "gelu")
    pack = stored_pack(t)
    if "config.loss" in t:
        return p, stored_loss(p, cfg, pack, t, value)
    if "users.cu" in t:
        z = ref.encode(p, cfg, pack)
        z = z if len(t["target"]) == len(z) else ref.last_states(z, pack)
        return p, ref.cross_entropy(z @ p["item.weight"].T,
                                    torch.from_numpy(t["target"].astype(np.int64)))
    if "R" in t:
        return p, (ref.encode(p, cfg, pack) * torch.from_numpy(t["R"]).double()).sum()
    target = torch.from_numpy(t["target"].astype(np.int64))
    if "future.ids" not in t:
        return p, ref.next_item(p, cfg, pack, target, value("interests") > 0)[0]
    loss = value("dssrec_weight") * ref.dssrec(p, cfg, pack, stored_pack(t, "future."), target,
                                               value("keep")).loss
    if value("next_weight"):
        loss = loss + value("next_weight") * ref.next_item(p, cfg, pack, target, True)[0]
    return p, loss


def contrastive(p, cfg, t, value):
    views = [stored_pack(t, view) for view in ("view1.", "view2.", "half1.", "half2.")
             if view + "cu" in t]
    return ref.contrastive(p, cfg, stored_pack(t), views,
                           torch.from_numpy(t["target"].astype(np.int64)), value("interests") > 0,
                           value("temperature"), value("cosine"), value("cl_weight"))


def mclrec(p, cfg, t, value):
    views = [stored_pack(t, view) for view in ("view1.", "view2.")]
    batch = gen_mclrec.Batch(stored_pack(t), views,
                             torch.from_numpy(t["target"].astype(np.int64)))
    return gen_mclrec.mclrec(p, cfg, batch, value("lambda"), value("beta"),
                             value("interests") > 0)


def mclrec_steps(p, cfg, t, value):
    learned = {name: x for name, x in p.items() if name != "mask.weight"}
    return gen_mclrec.three_steps(
        learned, lambda q: mclrec({**q, "mask.weight": p["mask.weight"]}, cfg, t, value))


def integers(t):
    return {name: torch.from_numpy(x.astype(np.int64)) for name, x in t.items()
            if x.dtype == np.int32 and not name.startswith("config.")}


def s3rec(p, cfg, t, value):
    return gen_s3rec.s3rec(p, cfg, integers(t), bool(value("paper")))


def item_ssl(p, cfg, t, value):
    options = [value(key) for key in ("temperature", "ssl_weight")] if "items" in t else [None] * 2
    return gen_item_ssl.item_ssl(p, cfg, integers(t), *options)


SELF_SUPERVISED = {"cl4srec": contrastive, "cl4srec_pad": contrastive,
                   "cl4srec_interests": contrastive, "siamese": contrastive,
                   "siamese_interests": contrastive, "mclrec_interests": mclrec,
                   "mclrec": mclrec, "mclrec_joint": mclrec, "mclrec_steps": mclrec_steps,
                   "s3rec": s3rec, "s3rec_paper": s3rec,
                   "item_ssl": item_ssl, "tower": item_ssl}


def relative(g, stored):
    return np.abs(g.numpy() - stored).max() / max(1e-9, np.abs(stored).max())


def check_self_supervised(t, metadata):
    """Every result in such a file.  Returns the worst relative difference of a gradient; grad1.
    are those of out.l1, and a parameter without either is a constant."""
    value = lambda key: t["config." + key].item()
    cfg = ref.Config(value("layers"), value("heads"), bool(value("causal")),
                     "relu" if value("relu") else "gelu")
    p = {name: ref.as_parameter(x) for name, x in t.items()
         if x.dtype == np.float32 and not name.startswith(("config.", "grad", "step"))}
    compute = lambda: SELF_SUPERVISED[metadata["case"]](p, cfg, t, value)
    out = compute()
    assert set(out) == {name for name in t if name.startswith(("out.", "step"))}
    for name, x in out.items():
        assert relative(x.detach(), t[name]) < 1e-6, name
    worst = 0.0
    for prefix, scalar in [("grad.", metadata.get("scalar")), ("grad1.", "out.l1")]:
        learned = {name: p[name] for name in p if prefix + name in t}
        grads = ref.gradients(compute()[scalar][0], learned) if learned else {}
        worst = max([worst] + [relative(g, t[prefix + key[5:]]) for key, g in grads.items()
                               if np.abs(t[prefix + key[5:]]).max() > 0])
    return worst


def recompute_rank(t):
    p = {name[5:]: ref.as_parameter(t[name[5:]]) for name in t if name.startswith("grad.")}
    return p, gen_rank.run(p, t)[1]


def check_files():
    for path in sorted(glob.glob(os.path.join(HERE, "*.safetensors"))):
        t, metadata = ref.load_safetensors(path)
        if metadata["case"] in ("adam", "optimizers"):
            continue
        if metadata["case"] in SELF_SUPERVISED:
            worst = check_self_supervised(t, metadata)
        else:
            rank = metadata["case"].startswith("rank")
            p, scalar = recompute_rank(t) if rank else recompute(t)
            worst = max(relative(g, t[key]) for key, g in ref.gradients(scalar, p).items()
                        if np.abs(t[key]).max() > 0)
            if "out.loss" in t:
                assert abs(scalar.item() - t["out.loss"].item()) < 1e-6 * abs(t["out.loss"].item())
        print("%s: worst relative gradient difference %.1e" % (os.path.basename(path), worst))
        assert worst < 1e-6


if __name__ == "__main__":
    check_encoder()
    check_contrast()
    check_files()

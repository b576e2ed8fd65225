#!/usr/bin/python3
"""Small files of torch.save in torch/, good and bad, for the readers of PyTorch checkpoints, and in states.safetensors
what PyTorch's encoder makes of two histories.  `--check` writes nothing: nothing here can be checked against itself."""

import collections
import enum
import os
import pickle
import sys
import types
import zipfile

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../import"))
import ref
from torch_models import Encoder

torch.set_default_dtype(torch.float32)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch")
WIDTH, LENGTH, ITEMS = 8, 5, 6


def make_module(name, **members):
    module = sys.modules[name] = types.ModuleType(name)
    for key, value in members.items():
        value.__module__ = name
        setattr(module, key, value)


class Config:  # of RecBole: its settings lie in final_config_dict
    pass


class InputType(enum.Enum):
    POINTWISE = 1


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


class Model(torch.nn.Module):
    pass


for parent in ("recbole", "recbole.config", "recbole.utils", "mine"):
    make_module(parent)
make_module("recbole.config.configurator", Config=Config)
make_module("recbole.utils.enum_type", InputType=InputType)
make_module("mine.model", Model=Model)


def save(name, what, **how):
    torch.save(what, os.path.join(HERE, name), **how)


def encoder(family, rows, seed):
    torch.manual_seed(seed)
    model = Encoder(family, rows, WIDTH, 2, 1, LENGTH).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    return model


def states(model, slots, real, causal):
    with torch.no_grad():
        return model(torch.tensor([slots]), causal)[0, real]


def recbole(model, optimizer=True):
    config = Config()
    config.final_config_dict = {"n_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.25,
                                "device": torch.device("cpu"), "MODEL_INPUT_TYPE": InputType.POINTWISE, "topk": [10]}
    adam = torch.optim.Adam([model.LayerNorm.weight])
    model.LayerNorm.weight.grad = torch.ones(WIDTH)
    if optimizer:
        saved = model.LayerNorm.weight.detach().clone()
        adam.step()
        model.LayerNorm.weight.data = saved
    return {"config": config, "epoch": 3, "cur_step": 0, "best_valid_score": 0.05, "state_dict": model.state_dict(),
            "other_parameter": None, "optimizer": adam.state_dict()}


def number_types():
    """(i - 5) / 4 in every type, plain, turned round, as a part of a larger storage, as a parameter; and what is no number."""
    x = (torch.arange(12, dtype=torch.float64) - 5) / 4
    d = collections.OrderedDict()
    for name, kind in (("f64", torch.float64), ("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        d[name] = x.to(kind).reshape(3, 4)
    d["turned"] = d["f32"].t()
    d["part"] = d["f32"][1:, 1:3]
    d["parameter"] = torch.nn.Parameter(d["f64"].clone())
    d["cube"] = x.float().reshape(2, 3, 1, 2)
    d["number"] = torch.tensor(0.5)
    d["empty"] = torch.zeros(0, 3)
    d["integers"] = torch.arange(3)
    return d


def edited(old, new, change):
    """A ZIP file with its tree changed: stored, as torch.save does."""
    with zipfile.ZipFile(os.path.join(HERE, old)) as src, zipfile.ZipFile(os.path.join(HERE, new), "w") as dst:
        for name in src.namelist():
            dst.writestr(zipfile.ZipInfo(name), change(src.read(name)) if name.endswith("data.pkl") else src.read(name))


def main():
    if "--check" in sys.argv:
        return
    os.makedirs(HERE, exist_ok=True)
    s3, rb = encoder("s3rec", ITEMS + 2, 1), encoder("recbole", ITEMS + 1, 2)
    weights = s3.state_dict()
    weights["attribute_embeddings.weight"] = torch.ones(3, WIDTH)
    weights["aap_norm.bias"] = torch.ones(WIDTH)
    save("s3rec.pt", weights, _use_new_zipfile_serialization=False)
    save("recbole.pth", recbole(rb))
    out = {"s3rec.causal": states(s3, [0, 2, 5, 1, 4], slice(1, None), True),
           "s3rec.bidirectional": states(s3, [0, 2, 5, 1, 4], slice(1, None), False),
           "recbole.causal": states(rb, [4, 1, 3, 6, 0], slice(0, 4), True)}
    ref.save_safetensors(os.path.join(HERE, "states.safetensors"), out, {})

    d = number_types()
    save("types.pt", d)
    save("types_old.pt", d, _use_new_zipfile_serialization=False)
    save("types_protocol4.pt", d, pickle_protocol=4)
    save("types_old_protocol4.pt", d, pickle_protocol=4, _use_new_zipfile_serialization=False)

    small = {"w": torch.ones(1)}
    save("small.pt", small)
    save("small_old.pt", small, _use_new_zipfile_serialization=False)
    save("code.pth", {"config": {"a": 1, "run": Harmful()}, "state_dict": small})
    save("code_old.pt", {"w": torch.ones(1), "v": Harmful()}, _use_new_zipfile_serialization=False)
    # A call before the tree, whose result is thrown away: the usual way to hide one.
    hidden = b"c__builtin__\nexec\n(X\x08\x00\x00\x00import ostR0"
    edited("small.pt", "code_hidden.pt", lambda b: b[:2] + hidden + b[2:])
    save("class.pt", Model())
    save("class_inside.pth", {"state_dict": Model()})
    save("not_a_tensor.pt", {"w": torch.ones(1), "lr": 0.1})

    bad = recbole(rb, False)
    bad["state_dict"]["trm_encoder.layer.0.feed_forward.dense_2.weight"][1, 2] = float("nan")
    save("nan.pth", bad)
    bad = recbole(encoder("recbole", ITEMS + 1, 2), False)
    bad["state_dict"]["gate.weight"] = torch.ones(1)
    save("more.pth", bad)
    del bad["state_dict"]["gate.weight"]
    bad["state_dict"]["trm_encoder.layer.0.multi_head_attention.key.bias"] = torch.ones(WIDTH + 1)
    save("shape.pth", bad)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Imports checkpoints and compares what our encoder makes of every Beauty test history with PyTorch; exports bundles to
ONNX and compares with onnxruntime.  `make import-check` runs it: it needs PyTorch, onnxruntime and $DATA, and fails
where one of these is absent: nothing was checked then.

  check.py OUT [s3rec] [recbole] [onnx]         default: all; OUT is a directory for what it makes
"""

import json
import os
import struct
import subprocess
import sys

try:
    import numpy as np
    import torch
except ImportError as e:
    sys.exit("import-check: nothing checked: %s (apt-get install python3-torch)" % e)

from torch_models import Encoder

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
DATA = os.environ.get("DATA", os.path.join(ROOT, "../shared/data"))
BIN = os.path.join(ROOT, "build/release")
BEAUTY = os.path.join(DATA, "amazon-yelp/Beauty.txt")
LENGTH, BLOCK, CLOSE = 50, 512, 1e-5
CUTS = (5, 10, 20, 50, 100)


def run(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def intent(*argv):
    return run(os.path.join(BIN, "intent"), *argv)


def read_safetensors(path):
    with open(path, "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = f.read()
    return {name: np.frombuffer(body[t["data_offsets"][0]:t["data_offsets"][1]], np.float32).reshape(t["shape"])
            for name, t in head.items() if name != "__metadata__"}


def our_states(bundle, data, out):
    run(os.path.join(BIN, "bench_states"), bundle, data, out)
    return read_safetensors(out)


def sequences():
    with open(BEAUTY) as f:
        return [[int(x) for x in line.split()[1:]] for line in f]


def verdict(what, worst, limit=CLOSE):
    print("%-60s %.2e %s" % (what, worst, "ok" if worst <= limit else "TOO FAR"), flush=True)
    return worst <= limit


# ------------------------------------------------------------------------------------------- S3-Rec

def left_padded(seqs):
    return torch.tensor([[0] * (LENGTH - len(s)) + s for s in seqs])


def check_s3rec(out):
    """Hidden states of all events of all test histories, bidirectional as in pre-training and causal."""
    path = os.path.join(DATA, "checkpoints/s3rec-beauty-pretrained-150.pt")
    weights = torch.load(path, map_location="cpu")
    model = Encoder("s3rec", *weights["item_embeddings.weight"].shape).eval()
    told = model.load_state_dict(weights, strict=False)
    assert not told.missing_keys, told
    hist = [s[:-1][-LENGTH:] for s in sequences()]
    data, ok = os.path.join(out, "beauty"), True
    intent("prep", BEAUTY, "--out", data)
    for causal in ("bidirectional", "causal"):
        bundle = os.path.join(out, "s3rec-" + causal)
        intent("import", "--from", "s3rec", path, "--data", data, "--out", bundle, "--set", "causal=" + causal)
        ours, at, worst = our_states(bundle, data, os.path.join(out, "states"))["states"], 0, 0.0
        for i in range(0, len(hist), BLOCK):
            with torch.no_grad():
                states = model(left_padded(hist[i:i + BLOCK]), causal == "causal").numpy()
            theirs = np.concatenate([s[LENGTH - len(h):] for s, h in zip(states, hist[i:i + BLOCK])])
            worst = max(worst, float(np.abs(theirs - ours[at:at + len(theirs)]).max()))
            at += len(theirs)
        assert at == len(ours) == sum(map(len, hist))
        ok &= verdict("S3-Rec, %s: %d states of %d histories" % (causal, at, len(hist)), worst)
    return ok


# ------------------------------------------------------------------------------------------ RecBole

class Config:
    """As RecBole's: an object of a class that the importer does not know."""


def right_padded(seqs, slots=LENGTH):
    return torch.tensor([s + [0] * (slots - len(s)) for s in seqs])


def write_inter(path):
    """Beauty as .inter, everybody's first event first, then the second ones; sequences in the numbers that RecBole
    gives: tokens by first appearance in the file, from 1."""
    seqs = sequences()
    events = [(at, user, item) for user, s in enumerate(seqs) for at, item in enumerate(s)]
    number, numbered = {}, [[] for _ in seqs]
    with open(path, "w") as f:
        f.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for at, user, item in sorted(events):
            f.write("u%d\tB%d\t%d\n" % (user, item, 1000 + at))
            numbered[user].append(number.setdefault(item, len(number) + 1))
    return numbered, len(number)


def train(model, seqs, steps=200, batch=256, slots=20):
    """A few steps of full softmax, last position: enough that the ranking means something."""
    rng, adam = np.random.RandomState(1), torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for step in range(steps):
        users, rows, answers = rng.randint(len(seqs), size=batch), [], []
        for s in (seqs[u][:-2] for u in users):
            cut = rng.randint(1, len(s))
            rows.append(s[:cut][-slots:])
            answers.append(s[cut])
        last = model(right_padded(rows, slots))[range(batch), [len(r) - 1 for r in rows]]
        loss = torch.nn.functional.cross_entropy(last @ model.table().T, torch.tensor(answers))
        adam.zero_grad()
        loss.backward()
        adam.step()
    print("trained RecBole's encoder for %d steps, loss %.3f" % (steps, float(loss)), flush=True)
    model.eval()
    return adam


def ranks(model, seqs):
    """Places of the test answers among all items, history kept and masked."""
    kept, masked = [], []
    with torch.no_grad():
        for i in range(0, len(seqs), BLOCK):
            block = seqs[i:i + BLOCK]
            hist = [s[:-1][-LENGTH:] for s in block]
            last = model(right_padded(hist))[range(len(hist)), [len(h) - 1 for h in hist]]
            score = last @ model.table().T
            score[:, 0] = -np.inf
            own = score[range(len(block)), [s[-1] for s in block]][:, None]
            kept.append((score > own).sum(1))
            for row, s in enumerate(block):
                score[row, s[:-1]] = -np.inf
            masked.append((score > own).sum(1))
    return torch.cat(kept).numpy(), torch.cat(masked).numpy()


def figures(rank):
    out = {}
    for k in CUTS:
        out["hr@%d" % k] = float((rank < k).mean())
        out["ndcg@%d" % k] = float(np.where(rank < k, 1 / np.log2(rank + 2), 0).mean())
    return out


def check_recbole(out):
    """HR and NDCG of a checkpoint as RecBole saves it."""
    inter, path = os.path.join(out, "beauty.inter"), os.path.join(out, "SASRec.pth")
    seqs, items = write_inter(inter)
    model = Encoder("recbole", items + 1, dropout=0.2)
    adam = train(model, seqs)
    config = Config()
    config.final_config_dict = {"n_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "device": torch.device("cpu")}
    torch.save({"config": config, "epoch": 1, "cur_step": 0, "best_valid_score": 0.0, "state_dict": model.state_dict(),
                "other_parameter": None, "optimizer": adam.state_dict()}, path)
    data, bundle, ok = os.path.join(out, "beauty-inter"), os.path.join(out, "recbole"), True
    intent("prep", inter, "--out", data)
    intent("import", "--from", "recbole", path, "--data", data, "--out", bundle)
    for seen, rank in zip(("keep", "mask"), ranks(model, seqs)):
        ours = json.loads(intent("eval", "--bundle", bundle, "--data", data, "--seen", seen, "--json"))["metrics"]
        theirs = figures(rank)
        worst = max(abs(ours[k] - theirs[k]) for k in theirs)
        ok &= verdict("RecBole, history %s: HR@20 %.4f, %.4f; NDCG@20 %.4f, %.4f" % (
            seen, theirs["hr@20"], ours["hr@20"], theirs["ndcg@20"], ours["ndcg@20"]), worst, 5e-5)
    return ok


# --------------------------------------------------------------------------------------------- ONNX

def trained(out, data, name, *settings):
    """A bundle after one epoch: the weights only have to be other than random."""
    bundle = os.path.join(out, name)
    sets = [x for s in settings + ("train.epochs=1", "train.valid_users=500") for x in ("--set", s)]
    if not os.path.exists(bundle):
        intent("train", "--data", data, "--recipe", "models/recipes/interests.ini", "--out", bundle, *sets)
    return bundle


def onnx_worst(bundle, data, out):
    """Largest difference of interests and of shares, all test histories, what lies behind their ends filled with -1."""
    import onnxruntime
    intent("export", "--bundle", bundle, "--format", "onnx", "--out", out)
    session = onnxruntime.InferenceSession(os.path.join(out, "model.onnx"), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    ours = our_states(bundle, data, os.path.join(out, "states"))
    with open(os.path.join(out, "ids.txt")) as f:
        row = {line.rstrip("\n"): r for r, line in enumerate(f)}
    prefix = "" if next(iter(row)).isdigit() else "B"
    hist = [[row[prefix + str(i)] for i in s[:-1][-LENGTH:]] for s in sequences()]
    worst, K = 0.0, len(ours["phi"]) // len(hist)
    for i in range(0, len(hist), BLOCK):
        block = hist[i:i + BLOCK]
        longest = max(map(len, block))
        items = np.array([h + [-1] * (longest - len(h)) for h in block], np.int64)
        got = dict(zip(names, session.run(None, {"items": items, "lengths": np.array([len(h) for h in block], np.int64)})))
        phi = ours["phi"][i * K:i * K + got["interests"].shape[0] * K].reshape(got["interests"].shape)
        worst = max(worst, float(np.abs(got["interests"] - phi).max()))
        if "shares" in got:
            worst = max(worst, float(np.abs(got["shares"] - ours["shares"][i:i + len(block)]).max()))
    return worst


def check_onnx(out):
    try:
        import onnxruntime
    except ImportError as e:
        print("import-check: onnx skipped: %s (PYTHON_CHECK: a Python that has it)" % e)
        return True
    data, ok = os.path.join(out, "beauty"), True
    if not os.path.exists(data):
        intent("prep", BEAUTY, "--out", data)
    bundles = [("S3-Rec, causal", os.path.join(out, "s3rec-causal"), data),
               ("S3-Rec, bidirectional", os.path.join(out, "s3rec-bidirectional"), data),
               ("RecBole", os.path.join(out, "recbole"), os.path.join(out, "beauty-inter")),
               ("K = 4", trained(out, data, "four"), data),
               ("K = 4, last, relu, bidirectional", trained(out, data, "four-last", "model.positions=last",
                                                            "model.activation=relu", "model.causal=bidirectional"), data)]
    for what, bundle, of in bundles:
        if os.path.exists(bundle):
            ok &= verdict("onnxruntime %s: %s" % (onnxruntime.__version__, what), onnx_worst(bundle, of, bundle + "-onnx"))
    return ok


CHECKS = {"s3rec": check_s3rec, "recbole": check_recbole, "onnx": check_onnx}


def main():
    if not os.path.exists(BEAUTY):
        sys.exit("import-check: nothing checked: %s is not there (DATA)" % BEAUTY)
    torch.manual_seed(1)
    out, which = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(CHECKS)
    os.makedirs(out, exist_ok=True)
    return 0 if all([CHECKS[c](out) for c in which]) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""Training quality that the C trainer is held against: trains and evaluates the same models.

Objectives: next_item with full softmax (from the last state, or from the maximum over K
interests), DSSRec, or both.  Prefix samples (layout B), batches bucketed by length.  Evaluation
ranks all items, the history kept as candidates or masked; rank = number of items that score
higher (ties in favour of the target).  The epoch with the best validation value is kept.
One JSON line per evaluated epoch, and one for the test split at the end.

  torch_check.py --epochs 20                              SASRec, full softmax
  torch_check.py --epochs 20 --interests 4                K interests
  torch_check.py --epochs 20 --interests 4 --dssrec 0.5   ... plus half the DSSRec loss
  torch_check.py --epochs 20 --interests 4 --dssrec 1 --next 0
  torch_check.py --selftest                               the fast model against ../vectors/ref.py
"""

import argparse
import json
import math
import os
import sys
import time

import torch_common as common

CUTS = (5, 10, 20, 50, 100)


def metrics(rank):
    """HR, NDCG and MRR at CUTS from 0-based ranks, one relevant item each."""
    result = {}
    for k in CUTS:
        hit = (rank < k).double()
        result["hr@%d" % k] = hit.mean().item()
        result["ndcg@%d" % k] = (hit / (rank + 2).double().log2()).mean().item()
        result["mrr@%d" % k] = (hit / (rank + 1).double()).mean().item()
    return result


def interest_facts(sums):
    """Mean pairwise cosine of a user's interests, and each interest's share of the importance."""
    share = sums["share"] / sums["users"]
    return {"cosine": sums["cosine"] / sums["users"],
            "share": [round(x, 4) for x in share.tolist()]}


def evaluate(model, data, split, size=256):
    """{'kept': metrics, 'masked': metrics, 'interests': ...} over all users."""
    import torch
    max_len = model.p["pos.weight"].shape[0]
    rows = data.histories(max_len, split)
    rows = rows[:, (rows[1] - rows[0]).argsort(kind="stable")]
    ranks = {"kept": [], "masked": []}
    sums = {"users": 0, "cosine": 0.0, "share": torch.zeros(max(1, model.interests))}
    model.training = False
    with torch.no_grad():
        for at in range(0, rows.shape[1], size):
            start, end, first = rows[:, at:at + size]
            ids, length = data.padded(start, end)
            z = model.encode(ids)
            phi = None
            if model.interests:
                assign, importance, phi = model.head(z, length)
                unit = phi / phi.norm(dim=2, keepdim=True)
                cosine = unit @ unit.transpose(1, 2)
                k = model.interests
                sums["cosine"] += ((cosine.sum((1, 2)) - k) / max(1, k * (k - 1))).sum().item()
                sums["share"] += (assign * importance[:, :, None]).sum((0, 1))
                sums["users"] += len(ids)
            logits = model.logits(z, length, phi)
            own = torch.arange(len(ids))
            target = torch.from_numpy(data.tokens[end])
            score = logits[own, target][:, None].clone()
            ranks["kept"].append((logits > score).sum(1))
            # The whole history, also what lies before the window of max_len.
            for i, (a, b) in enumerate(zip(first, end)):
                logits[i, data.tokens[a:b]] = -math.inf
            ranks["masked"].append((logits > score).sum(1))
    model.training = True
    result = {seen: metrics(torch.cat(r)) for seen, r in ranks.items()}
    if model.interests:
        result["interests"] = interest_facts(sums)
    return result


def rounded(x):
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return round(x, 5) if isinstance(x, float) else x


def train(args, facts):
    import numpy as np
    import torch
    torch.manual_seed(args.seed)
    rng = np.random.RandomState(args.seed)
    data = common.Sequences(os.path.join(common.data_root(), args.dataset))
    samples = data.samples(args.max_len)
    model = common.Model(data.n_items, args.max_len, interests=args.interests,
                         hidden_dropout=args.dropout, attention_dropout=args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    print(json.dumps({"ev": "start", **vars(args), "items": data.n_items,
                      "samples": int(samples.shape[1]), **facts}), flush=True)
    best, best_epoch, kept = -1.0, 0, None
    for epoch in range(1, args.epochs + 1):
        begin, total = time.time(), 0.0
        steps = common.batches(samples, args.batch, rng, True)[:args.steps or None]
        for batch in steps:
            total += common.training_step(model, optimizer, data, batch, None,
                                          next_weight=args.next, dssrec_weight=args.dssrec,
                                          keep=args.keep)
        seconds = time.time() - begin
        result = evaluate(model, data, "valid")
        value = result[args.seen][args.select]
        print(json.dumps(rounded({"ev": "epoch", "epoch": epoch, "loss": total / len(steps),
                                  "epoch_s": seconds, "valid": result})), flush=True)
        if value > best:
            best, best_epoch = value, epoch
            kept = {name: x.detach().clone() for name, x in model.p.items()}
        elif epoch - best_epoch >= args.patience:
            break
    model.p = kept
    print(json.dumps(rounded({"ev": "test", "epoch": best_epoch,
                              "test": evaluate(model, data, "test")})), flush=True)
    if args.out:
        reference().save_safetensors(args.out, kept, {"dataset": args.dataset})


def reference():
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors"))
    import ref
    import torch
    torch.set_default_dtype(torch.float32)        # ref.py works in float64 and says so
    return ref


def selftest():
    """Losses and gradients of the padded model against ref.py, both in float64."""
    import numpy as np
    import torch
    ref = reference()
    rng = np.random.RandomState(3)
    V, D, L, H = 23, 16, 8, 2
    lengths, future_lengths = [1, 2, 8, 5, 3], [4, 1, 2, 3, 8]
    for interests, next_weight, dssrec_weight in [(0, 1, 0), (3, 1, 0), (3, 0, 1), (3, 1, 0.5)]:
        cfg = ref.Config(2, H, True, "gelu")
        shapes = ref.encoder_shapes(V, D, L, 2)
        if interests:
            shapes.update(ref.interest_shapes(D, L, interests))
        p = ref.random_parameters(shapes, rng)
        pack = ref.random_pack(rng, lengths, V, L, "first")
        future = ref.random_pack(rng, future_lengths, V, L, "first")
        target = future.ids[future.cu[1:] - 1]

        exact = 0.0
        if next_weight:
            exact = next_weight * ref.next_item(p, cfg, pack, target, interests > 0)[0]
        if dssrec_weight:
            exact = exact + dssrec_weight * ref.dssrec(p, cfg, pack, future, target, 0.5).loss

        # The packed futures are a user's tokens reversed; undo that to exercise the reversal.
        data = common.Sequences.__new__(common.Sequences)
        tokens, rows = [], []
        for a, b in zip(ref.sequences(pack), ref.sequences(future)):
            at = len(tokens)
            tokens += pack.ids[a].tolist() + future.ids[b].flip(0).tolist()
            rows.append((at, at + a.stop - a.start, len(tokens)))
        data.tokens = np.array(tokens)
        start, end, stop = np.array(rows).T
        model = common.Model(V, L, D, H, 2, interests, 0.0, 0.0, p=p)
        loss = model.loss(*data.padded(start, end), torch.from_numpy(data.tokens[end]),
                          data.padded(end, stop, reverse=True), next_weight=next_weight,
                          dssrec_weight=dssrec_weight)
        mine, theirs = ref.gradients(loss, p), ref.gradients(exact, p)
        worst = max((mine[k] - theirs[k]).abs().max().item() for k in mine)
        print("K=%d next %g dssrec %g: loss %.12f, difference %.1e, gradients %.1e" % (
            interests, next_weight, dssrec_weight, loss.item(), abs(loss.item() - exact.item()),
            worst))
        assert abs(loss.item() - exact.item()) < 1e-12 and worst < 1e-12


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="amazon-yelp/Beauty.txt", help="below $DATA")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0, help="steps per epoch (default: all)")
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--select", default="mrr@10", help="validation metric that picks the epoch")
    parser.add_argument("--seen", default="kept", choices=("kept", "masked"), help="for --select")
    parser.add_argument("--interests", type=int, default=0, metavar="K")
    parser.add_argument("--next", type=float, default=1.0, help="weight of next_item")
    parser.add_argument("--dssrec", type=float, default=0.0, help="weight of DSSRec's loss")
    parser.add_argument("--keep", type=float, default=0.5, help="DSSRec's lambda")
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--max-len", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="write the kept weights as safetensors")
    parser.add_argument("--selftest", action="store_true")
    args = parser.parse_args()
    if args.dssrec and not args.interests:
        parser.error("--dssrec needs --interests")
    facts = common.fair_environment(args.threads)
    selftest() if args.selftest else train(args, facts)


if __name__ == "__main__":
    main()

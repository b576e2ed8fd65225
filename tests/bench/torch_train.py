#!/usr/bin/python3
"""Time of a PyTorch training step and epoch: the baseline of the trainer's figures.

SASRec with full softmax (post-LN encoder, 2 layers, 2 heads, D=64), prefix samples (layout B) or every
position of the users' sequences (--all softmax|bce|sampled: layout A), dropout .5 on hidden states and attention, Adam 1e-3, batch 256, dense gradients.  Padded to 50 as
the public implementations are; --bucketed pads to the longest of a batch of similar lengths.
Prints one JSON line.
"""

import argparse
import json
import os
import statistics
import time

import torch_common as common


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="amazon-yelp/Beauty.txt", help="below $DATA")
    parser.add_argument("--steps", type=int, default=0,
                        help="steps to time, the epoch extrapolated (default: a whole epoch)")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--bucketed", action="store_true")
    parser.add_argument("--interests", type=int, default=0, metavar="K")
    parser.add_argument("--dssrec", action="store_true", help="add the DSSRec loss (needs K)")
    parser.add_argument("--all", choices=["softmax", "bce", "sampled"],
                        help="layout A with this loss: one negative a position, or 256 shared")
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.dssrec and not args.interests:
        parser.error("--dssrec needs --interests")
    if args.all and args.interests:
        parser.error("--all trains states and has no interests")
    facts = common.fair_environment(args.threads)

    import numpy as np
    import torch
    torch.manual_seed(1)
    rng = np.random.RandomState(1)
    data = common.Sequences(os.path.join(common.data_root(), args.dataset))
    max_len = 50
    samples = data.pieces(max_len) if args.all else data.samples(max_len)
    model = common.Model(data.n_items, max_len, interests=args.interests,
                         hidden_dropout=args.dropout, attention_dropout=args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    # Bucketed batches come from the whole epoch, so the timed ones are a fair sample of lengths.
    epoch = common.batches(samples, args.batch, rng, args.bucketed)
    width = None if args.bucketed else max_len
    weights = {"next_weight": 1.0, "dssrec_weight": 1.0 if args.dssrec else 0.0}
    if args.all:
        step = lambda batch: common.training_step_all(model, optimizer, data, batch, width, args.all, rng)
    else:
        step = lambda batch: common.training_step(model, optimizer, data, batch, width, **weights)

    for batch in epoch[:args.warmup]:
        step(batch)
    seconds = []
    for batch in epoch[:args.steps or len(epoch)]:
        begin = time.perf_counter()
        loss = step(batch)
        seconds.append(time.perf_counter() - begin)

    whole = not args.steps or args.steps >= len(epoch)
    # Equal shapes: the median shrugs off disturbed steps.  Unequal ones need the mean.
    typical = statistics.mean(seconds) if args.bucketed else statistics.median(seconds)
    print(json.dumps({
        "bench": "torch_train", "dataset": args.dataset, "items": data.n_items,
        "samples": int(samples.shape[1]), "batch": args.batch, "interests": args.interests,
        "dssrec": args.dssrec, "all": args.all, "bucketed": args.bucketed, "dropout": args.dropout,
        "steps_timed": len(seconds), "steps_per_epoch": len(epoch),
        "ms_per_step_median": round(1e3 * statistics.median(seconds), 2),
        "ms_per_step_min": round(1e3 * min(seconds), 2),
        "epoch_s": round(sum(seconds) if whole else typical * len(epoch), 2),
        "epoch_extrapolated": not whole, "loss_last": round(loss, 4), **facts}))


if __name__ == "__main__":
    main()

"""The encoder alone in PyTorch and onnxruntime: us a history, one a call, one thread.

    echo "1 5 50" | encode.py SAFETENSORS_DIR ONNX_DIR       (what `intent export` wrote)

Standard input: lengths of histories, a line a case, as bench_encode reads them.  Prints JSON: {name: [us of each line]}.
"""
import json
import os
import sys
import time

import numpy as np
import onnxruntime
import torch

import model as models

ROUNDS, LEAST = 15, .02


def best_us(call, arguments):
    """The best of ROUNDS rounds, each of at least LEAST seconds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < LEAST:
            for a in arguments:
                call(*a)
            done += len(arguments)
        best = min(best, (time.perf_counter() - start) / done)
    return round(best * 1e6, 2)


def torch_cases(directory, way, cases, rng):
    torch.set_num_threads(1)
    model, weights, config = models.load(directory, way)
    n_items = weights["item.weight"].shape[0]
    longest = int(config["max_len"])

    def call(ids, lengths):
        models.run(model, ids, lengths)

    return [best_us(call, [(torch.from_numpy(rng.integers(0, n_items, (1, min(n, longest)))),
                            torch.tensor([min(n, longest)])) for n in case]) for case in cases]


def onnx_cases(directory, cases, rng, n_items, max_len):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.path.join(directory, "model.onnx"), options,
                                           providers=["CPUExecutionProvider"])

    def call(ids, lengths):
        session.run(["interests"], {"items": ids, "lengths": lengths})

    return [best_us(call, [(rng.integers(0, n_items, (1, min(n, max_len))), np.array([min(n, max_len)]))
                           for n in case]) for case in cases]


def main():
    exported, onnx = sys.argv[1:]
    cases = [[int(n) for n in line.split()] for line in sys.stdin if line.strip()]
    rng = np.random.default_rng(1)
    weights, config = models.read(exported)
    us = {"PyTorch, " + way: torch_cases(exported, way, cases, rng) for way in ("jit", "compile")}
    us["onnxruntime"] = onnx_cases(onnx, cases, rng, weights["item.weight"].shape[0], int(config["max_len"]))
    print(json.dumps(us))


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Has training become slower?  Ratios to cblas_sgemm's own rate in the same run, against those recorded for this CPU.

  make bench-check      fails when a ratio has lost more than 15 %
  make bench-record     writes this machine's ratios into tests/bench/recorded.json

Kernels: bench_ops' ratio column, one thread.  Steps: the operations that cblas_sgemm (1024x1024x1024, as many threads)
does in the time of one training step, for data from `intent synth`; fewer is better, the ratio is its inverse.  Each is
the median of RUNS (default 5) runs: what disturbs a run can hit either side of a ratio.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDED = os.path.join(HERE, "recorded.json")
BUILD = os.path.join(HERE, "..", "..", "build", "release")
RUNS = int(os.environ.get("RUNS", "5"))
LOSS = 0.15
OPS = ["matmul_nt", "xent", "sampled", "linear"]
STEPS = {
    "step, full softmax, layout B": ["layout=B"],
    "step, full softmax, layout A": ["layout=A"],
    "step, sampled softmax, layout A": ["layout=A", "next_item.loss=sampled"],
    "step, K = 4": ["layout=B", "model.interests=4"],
}


def cpu():
    facts = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    return " ".join(facts.get(k, "?") for k in ("vendor_id", "cpu family", "model"))


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(args)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def kernels():
    """{row: ratio} of the rows that stand beside a product of BLAS."""
    rows = {}
    for op in OPS:
        for line in run(os.path.join(BUILD, "bench_ops"), op).splitlines()[2:]:
            numbers = line[41:].split()
            if len(numbers) == 9:  # four times, two rates, GB/s, sgemm, ratio
                rows[" ".join(line[:41].split())] = float(numbers[8])
    return rows


def step(data, out, settings):
    sets = [word for s in settings for word in ("--set", s)]
    table = run(os.path.join(BUILD, "intent"), "train", "--data", data, "--recipe",
                os.path.join(HERE, "..", "..", "models", "recipes", "sasrec.ini"), "--out", out, "--set", "epochs=1",
                *sets, "--no-test", "--profile")
    ms, sgemm = map(float, re.search(r"steps of ([\d.]+) ms.*?([\d.]+) GFLOP/s", table).groups())
    return 1e3 / (ms * sgemm)


def measure():
    runs = {}
    with tempfile.TemporaryDirectory() as work:
        intent = os.path.join(BUILD, "intent")
        run(intent, "synth", "--users", "6000", "--items", "12000", "--events", "12", "--out", f"{work}/s")
        run(intent, "prep", f"{work}/s/events.csv", "--out", f"{work}/d")
        for i in range(RUNS):
            found = kernels()
            for name, settings in STEPS.items():
                found[name] = step(f"{work}/d", f"{work}/m{i}", settings)
            for name, ratio in found.items():
                runs.setdefault(name, []).append(ratio)
    return {name: statistics.median(ratios) for name, ratios in runs.items()}


def main():
    recorded = {}
    if os.path.exists(RECORDED):
        with open(RECORDED) as f:
            recorded = json.load(f)
    key, record = cpu(), "--record" in sys.argv[1:]
    if key not in recorded and not record:
        sys.exit(f"bench-check: nothing is recorded for this CPU ({key}): run `make bench-record` on the version to compare with")
    now = measure()
    if record:
        recorded[key] = {name: round(ratio, 4) for name, ratio in now.items()}
        with open(RECORDED, "w") as f:
            json.dump(recorded, f, indent=1, sort_keys=True)
            f.write("\n")
    worse = 0
    print(f"{'':44} {'recorded':>9} {'now':>9}")
    for name, then in recorded[key].items():
        ratio = now.get(name, 0)
        lost = ratio < (1 - LOSS) * then
        worse += lost
        print(f"{name:44} {then:9.4f} {ratio:9.4f} {'  slower' if lost else ''}")
    if worse:
        sys.exit(f"bench-check: {worse} of {len(recorded[key])} lost more than {LOSS:.0%}")


if __name__ == "__main__":
    main()

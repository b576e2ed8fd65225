#!/usr/bin/python3
"""Large catalogues and large data: the figures of README.md, "Speed".

  tests/bench/large.py OUT       needs build/release/intent, 6 GB in OUT, about ten minutes; RUNS=5 trainings of each size

A step with sampled softmax and touched-rows updates at 12,000 and at 2 million items (median of RUNS, alternating), the
peak memory of the whole command; 50 million events prepared, and an epoch on them under way.  Data come from `intent synth`; what
is there already is used again.
"""
import os
import re
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
INTENT = os.path.join(HERE, "..", "..", "build", "release", "intent")
RECIPE = os.path.join(HERE, "..", "..", "models", "recipes", "sasrec.ini")
RUNS = int(os.environ.get("RUNS", "5"))
SAMPLED = ["--recipe", RECIPE, "--no-test", "--set", "epochs=1", "--set", "layout=A", "--set", "next_item.loss=sampled",
           "--set", "item_update=touched", "--set", "valid_users=500"]


def intent(*args, limit=None):
    """What it printed, seconds, peak MB resident and peak MB that belong to no file; it is killed after limit seconds."""
    began, anonymous = time.time(), 0
    p = subprocess.Popen([INTENT, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = []
    reader = threading.Thread(target=lambda: text.append(p.stdout.read()))
    reader.start()
    while reader.is_alive():
        with open(f"/proc/{p.pid}/status") as f:
            found = re.search(r"RssAnon:\s+(\d+)", f.read())
        anonymous = max(anonymous, int(found[1]) if found else 0)
        reader.join(.05)
        if limit and time.time() - began > limit:
            p.kill()
            reader.join()
    _, status, usage = os.wait4(p.pid, 0)
    if status and not limit:
        sys.exit(f"large: intent {' '.join(args)}: status {status}")
    return text[0], time.time() - began, usage.ru_maxrss / 1024, anonymous / 1024


def data(out, name, users, items, events, clusters):
    """Data of that many users; prints how long `intent prep` takes where it is not there yet."""
    made, at = os.path.join(out, "s" + name), os.path.join(out, "d" + name)
    if not os.path.exists(at):
        intent("synth", "--out", made, "--users", str(users), "--items", str(items), "--events", str(events),
               "--clusters", str(clusters))
        text, s, peak, anonymous = intent("prep", os.path.join(made, "events.csv"), "--out", at)
        print(f"prep: {re.search(r'[0-9]+ events', text)[0]} in {s:.1f} s, peak {peak:.0f} MB, {anonymous:.0f} MB of it besides files",
              flush=True)
    return at


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: large.py OUT")
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    sizes = {items: data(out, str(items), 600000, items, 10, 4) for items in (12000, 2000000)}
    ms, peaks = {items: [] for items in sizes}, {}
    for run in range(RUNS):
        for items, at in sizes.items():
            text, _, peak, anonymous = intent("train", "--data", at, "--out", os.path.join(out, f"m{items}"), "--profile", *SAMPLED)
            ms[items].append(float(re.search(r"steps of ([\d.]+) ms", text)[1]))
            peaks[items] = max(peaks.get(items, (0, 0)), (peak, anonymous))
    for items in sizes:
        print(f"a step, {items} items: {statistics.median(ms[items]):.2f} ms ({min(ms[items]):.2f} to {max(ms[items]):.2f}), "
              f"peak {peaks[items][0]:.0f} MB, {peaks[items][1]:.0f} MB of it besides files")
    many = data(out, "50m", 1250000, 200000, 40, 100)
    for layout in "AB":
        _, _, peak, anonymous = intent("train", "--data", many, "--out", os.path.join(out, "m50m"), *SAMPLED,
                                       "--set", f"layout={layout}", limit=60)
        print(f"a minute of an epoch on them, layout {layout}: peak {peak:.0f} MB, {anonymous:.0f} MB of it besides files")


if __name__ == "__main__":
    main()

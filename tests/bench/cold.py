#!/usr/bin/python3
"""Cold items: 5 % of Beauty's items are held out of training and added by their attributes alone.

  tests/bench/cold.py OUT [KEY=VALUE]...      needs build/release/intent and $DATA/amazon-yelp; about 20 minutes
                                              KEY=VALUE: of models/recipes/item-ssl.ini

Every event of a held-out item is taken out of the data that is trained on; `intent index --add-items` gives the items
vectors; then the users whose test item is held out are asked for, with their whole histories.  Fails unless recall@100 of
those items is at least three times a random list's.
"""
import json
import os
import random
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
INTENT = os.path.join(ROOT, "build", "release", "intent")
SETS = os.path.join(os.environ.get("DATA", os.path.join(ROOT, "..", "shared", "data")), "amazon-yelp")
DEPTH, SHARE, SEED = 100, .05, 1


def run(*args, **kw):
    return subprocess.run([INTENT, *args], check=True, text=True, stdout=subprocess.PIPE, **kw).stdout


def recall(bundle, histories, answers):
    """Share of the answers among the first DEPTH items, the history left out."""
    text = "".join(",".join(h) + "\n" for h in histories)
    lines = run("recommend", "--bundle", bundle, "--stdin", "--json", "--limit", str(DEPTH), "--candidates", str(DEPTH + 200),
                input=text).splitlines()
    found = sum(a in [x["item_id"] for x in json.loads(line)["items"]] for line, a in zip(lines, answers, strict=True))
    return found / len(answers)


def main():
    out, keys = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    users = [line.split() for line in open(os.path.join(SETS, "Beauty.txt"))]
    items = sorted({i for u in users for i in u[1:]}, key=int)
    held = set(random.Random(SEED).sample(items, round(SHARE * len(items))))
    with open(os.path.join(out, "train.txt"), "w") as f:
        for u in users:
            left = [i for i in u[1:] if i not in held]
            if left:
                print(u[0], *left, file=f)
    catalogue = os.path.join(out, "items.csv")
    with open(catalogue, "w") as f:
        subprocess.run(["awk", "-f", os.path.join(ROOT, "models", "items", "amazon.awk"), os.path.join(SETS, "items_Beauty.tsv")],
                       check=True, stdout=f)
    data, model = os.path.join(out, "data"), os.path.join(out, "model")
    run("prep", os.path.join(out, "train.txt"), "--items", catalogue, "--out", data)
    run("train", "--data", data, "--recipe", os.path.join(ROOT, "models", "recipes", "item-ssl.ini"), "--out", model, "--resume",
        *[x for k in keys for x in ("--set", k)])
    if not os.path.exists(os.path.join(model, "2")):
        run("index", "--bundle", os.path.join(model, "1"), "--add-items", catalogue)
    cold = [u for u in users if u[-1] in held]
    warm = [u for u in users if u[-1] not in held][:: max(1, len(users) // len(cold))]
    chance = DEPTH / len(items)
    print(f"{len(held)} of {len(items)} items held out; recall@{DEPTH} by chance {chance:.4f}")
    figures = {}
    for name, asked in ("held out", cold), ("trained on", warm):
        figures[name] = recall(os.path.join(model, "2"), [u[1:-1] for u in asked], [u[-1] for u in asked])
        error = (figures[name] * (1 - figures[name]) / len(asked)) ** .5
        print(f"{name}: recall@{DEPTH} {figures[name]:.4f} ({error:.4f}), {figures[name] / chance:.1f} times chance, {len(asked)} users")
    sys.exit(figures["held out"] < 3 * chance)


if __name__ == "__main__":
    main()

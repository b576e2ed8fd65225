"""Do two servers give the same lists, and how near are they to an exact scan?

    agree.py MODEL_DIR BODIES N URL [URL]        one JSON line

A place agrees when it has the same item, or an item whose score is within 1e-4 of the other's there.  recall: the part of
the exact list (PyTorch and a flat index, in this process) that the server's has.
"""
import json
import sys
import urllib.request

from retrieve import Retriever

NEAR = 1e-4


def ask(url, body):
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return [(i["item_id"], i["score"]) for i in json.load(reply)["items"]]


def same(a, b):
    return len(a) == len(b) and all(x[0] == y[0] or abs(x[1] - y[1]) < NEAR for x, y in zip(a, b))


def main():
    directory, path, n, *urls = sys.argv[1:]
    with open(path) as f:
        bodies = f.read().splitlines()
    bodies = bodies[::max(1, len(bodies) // int(n))][:int(n)]
    exact = Retriever(directory)
    requests = [(b["history"], b["limit"]) for b in map(json.loads, bodies)]
    best = [[(i, s) for i, s, _ in exact.recommend([r])[0]] for r in requests]
    lists = [[ask(url, body) for body in bodies] for url in urls]
    figures = {"bodies": len(bodies), "recall": [
        sum(len({i for i, _ in a} & {i for i, _ in b}) for a, b in zip(given, best)) / sum(map(len, best))
        for given in lists]}
    if len(lists) == 2:
        figures["same_lists"] = sum(same(a, b) for a, b in zip(*lists))
        figures["largest_score_difference"] = max(
            abs(x[1] - y[1]) for a, b in zip(*lists) for x, y in zip(a, b) if x[0] == y[0])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

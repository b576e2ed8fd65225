"""Every option of the routes that find candidates, through HTTP; and whole answers beside a slow, obvious reference."""
import array
import base64
import concurrent.futures
import json
import os
import random
import shutil
import struct
import tempfile
import threading
import time
import unittest

import daemon
from daemon import Daemon, post_bytes

WAIT = 60  # seconds
ITEMS = 240
TIE = 1e-6  # scores closer than this may change places: the daemon computes in float32
CATEGORIES = ["news", "sport", "film", "food", "travel"]
COLOURS = ["red", "green", "blue", "white"]

_shared = None


def attributes_of(n):
    """What the catalogue says of item i<n>: category and colours (texts), price (a number), any of which may be missing."""
    rng = random.Random(n)
    return {"category": [] if rng.random() < 0.1 else [rng.choice(CATEGORIES)],
            "colour": [] if rng.random() < 0.2 else rng.sample(COLOURS, rng.randint(1, 3)),
            "price": None if rng.random() < 0.15 else rng.randrange(40) / 2}


def shop():
    """The bundle of this file, made once: (models directory, histories).  Models: shop (chosen index), graph, lists."""
    global _shared
    if _shared is None:
        directory = tempfile.mkdtemp(prefix="intentd-e2e-")
        table = os.path.join(directory, "items.csv")
        with open(table, "w") as f:
            f.write("item_id,category,colour,price\n")
            for n in range(ITEMS):
                a = attributes_of(n)
                price = "" if a["price"] is None else a["price"]
                f.write(f"i{n},{'|'.join(a['category'])},{'|'.join(a['colour'])},{price}\n")
        models, histories = daemon.make_bundle(
            directory, "shop", 11, ITEMS,
            ["--items", table, "--fields", "category:values,colour:values,price:number"])
        recipe = os.path.join(daemon.ROOT, "models/recipes/demo.ini")
        for name, kind in [("graph", "hnsw"), ("lists", "ivf")]:
            daemon.intent("train", "--data", os.path.join(directory, "data"), "--recipe", recipe, "--set", "epochs=1",
                          "--set", "width=16", "--set", "layers=1", "--out", os.path.join(models, name))
            daemon.intent("index", "--bundle", os.path.join(models, name), "--type", kind)
        daemon.intent("index", "--bundle", os.path.join(models, "shop"), "--type", "flat")
        _shared = (directory, models, histories)
    return _shared[1:]


def tearDownModule():
    if _shared is not None:
        shutil.rmtree(_shared[0])


def item_vectors(models, name):
    """item.weight of a model: rows of floats."""
    with open(os.path.join(models, name, "1", "model.safetensors"), "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        entry = json.loads(f.read(length))["item.weight"]
        f.seek(8 + length + entry["data_offsets"][0])
        flat = array.array("f", f.read(entry["data_offsets"][1] - entry["data_offsets"][0]))
    rows, width = entry["shape"]
    return [list(flat[r * width:(r + 1) * width]) for r in range(rows)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


class Close(Exception):
    """Two things are too close for float32 and float64 to agree on their order."""


def apart(a, b):
    if a != b and abs(a - b) < TIE * max(1, abs(a)):
        raise Close
    return True


def in_order(scored):
    """(score, row) pairs, best first; rows where equal."""
    out = sorted(scored, key=lambda s: (-s[0], s[1]))
    for x, y in zip(out, out[1:]):
        apart(x[0], y[0])
    return out


class Shop(unittest.TestCase):
    """One daemon for the tests of a class."""
    args = []

    @classmethod
    def setUpClass(cls):
        cls.models, cls.histories = shop()
        cls.d = Daemon(cls.models, "--model", "shop", *cls.args)

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()

    def post(self, path, body, status=200, headers=None):
        got, reply, answer = self.d.post(path, body, headers)
        self.assertEqual(got, status, answer)
        return answer

    def recommend(self, **request):
        return self.post("/v1/recommend", request)

    def ids(self, **request):
        return [i["item_id"] for i in self.recommend(**request)["items"]]

    def refused(self, path, body, status, code, pointer=None, headers=None):
        got, reply, answer = self.d.post(path, body, headers)
        self.assertEqual((got, answer["code"]), (status, code), answer)
        self.assertEqual(reply.getheader("Content-Type"), "application/problem+json")
        if pointer is not None:
            self.assertEqual(answer["errors"][0]["pointer"], pointer)
        return answer

    def metric(self, name):
        """The sum of a metric's samples whose lines begin with name."""
        text = self.d.ask("GET", "/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def wait_for(self, is_so):
        """A request is counted when its reply has left, which the client may see first."""
        end = time.time() + WAIT
        while not is_so():
            self.assertLess(time.time(), end)
            time.sleep(0.01)


class Reference:
    """The definitions of recommend.h, merge.h and pick.h, one sentence a line, in float64."""

    def __init__(self, case):
        self.case = case
        self.vectors = item_vectors(case.models, "shop")
        # Rows follow first appearance; popularity and the order of rows are asked of the daemon.
        order = {}
        for h in case.histories:
            for i in h:
                order.setdefault(i, len(order))
        self.row, self.id = order, list(order)
        case.assertEqual(len(self.id), len(self.vectors))
        popular = case.recommend(limit=1000)["items"]
        self.popular = [(i["item_id"], i["score"]) for i in popular]

    # -- which items may come back --

    def holds(self, clause, item):
        value = attributes_of(int(item[1:]))[clause["key"]]
        have = value is not None and value != []
        if "exists" in clause:
            return have == clause["exists"]
        if not have:
            return False
        if "range" in clause:
            bounds = {"gte": value.__ge__, "gt": value.__gt__, "lte": value.__le__, "lt": value.__lt__}
            return all(bounds[name](x) for name, x in clause["range"].items())
        wanted = clause["any"] if "any" in clause else [clause["value"]]
        return any(w == value if isinstance(value, float) else w in value for w in wanted)

    def passes(self, request, item):
        f = request.get("filter", {})
        return (all(self.holds(c, item) for c in f.get("must", []))
                and not any(self.holds(c, item) for c in f.get("must_not", [])))

    def dropped(self, request, seen):
        return set(request.get("exclude_items", [])) | (set(seen) if request.get("exclude_seen", True) else set())

    # -- merging: [(score, row, list it counts for)] in order --

    def merge(self, request, lists, queries, shares):
        m = request.get("merge", {})
        how, best = m.get("strategy", "max"), {}
        rows = sorted({row for scored in lists for _, row in scored})
        if how == "round_robin":
            out, turns, at = [], sorted(range(len(lists)), key=lambda k: (-shares[k], k)), [0] * len(lists)
            for x in range(len(turns) - 1):
                apart(shares[turns[x]], shares[turns[x + 1]])
            while any(a < len(scored) for a, scored in zip(at, lists)):
                for k in turns:
                    while at[k] < len(lists[k]) and lists[k][at[k]][1] in best:
                        at[k] += 1
                    if at[k] < len(lists[k]):
                        score, row = lists[k][at[k]]
                        best[row] = k
                        out.append((score, row, k))
            return out
        scored = []
        for row in rows:
            if how == "rrf":
                terms = {}
                for k, one in enumerate(lists):
                    place = {r: i + 1 for i, (_, r) in enumerate(one)}.get(row)
                    if place:
                        weight = m["weights"][k] if "weights" in m else 1
                        terms[k] = f32(f32(weight) / f32(m.get("k", 60) + place))
                score = 0.0
                for k in sorted(terms):  # float32, so that ties are ties
                    score = f32(score + terms[k])
            else:
                terms = {k: dot(q, self.vectors[row]) for k, q in enumerate(queries)}
                score = sum(terms.values()) if how == "sum" else max(terms.values())
            top = sorted(terms.values(), reverse=True)
            if len(top) > 1:
                apart(top[0], top[1])
            best[row] = max(terms, key=lambda k: (terms[k], -k))
            scored.append((score, row))
        return [(score, row, best[row]) for score, row in in_order(scored)]

    def owed(self, request, shares):
        m, limit, n = request.get("merge", {}), request.get("limit", 20), len(shares)
        least = min(m.get("min_per_interest", 0), limit // n)
        if m.get("strategy") != "quota":
            return [least] * n
        total, rest = sum(shares), limit - least * n
        parts = [s / total * rest if total else rest / n for s in shares]
        owed = [least + int(p) for p in parts]
        for k in sorted(range(n), key=lambda k: (-(parts[k] - int(parts[k])), k))[:limit - sum(owed)]:
            owed[k] += 1
        return owed

    # -- picking --

    def pick(self, request, cand, owed):
        d = request.get("diversity", {})
        method, strength, limit = d.get("method", "none"), d.get("strength", 0.5), request.get("limit", 20)
        chosen, left = [], list(cand)
        scores = [c[0] for c in cand]
        span = max(scores) - min(scores)

        def worth(c):
            rel = (c[0] - min(scores)) / span if span else 1
            if method == "none" or strength == 0:
                return 0  # in order
            if method == "category":
                field = d.get("field", "category")
                mine = set(attributes_of(int(self.id[c[1]][1:]))[field])
                return rel - strength * sum(
                    1 for u in chosen if mine & set(attributes_of(int(self.id[u[1]][1:]))[field]))
            return (1 - strength) * rel - strength * max(
                (self.cosine(u[1], c[1]) for u in chosen), default=0)

        while left and len(chosen) < limit:
            need = [min(o, sum(1 for c in left if c[2] == k)) for k, o in enumerate(owed)]
            free = limit - len(chosen) > sum(need)
            may = [c for c in left if free or need[c[2]] > 0]
            value = [worth(c) for c in may]
            top = max(value)
            for v in value:
                apart(top, v)
            take = may[value.index(top)]
            owed[take[2]] -= owed[take[2]] > 0
            left.remove(take)
            chosen.append(take)
        return chosen

    def cosine(self, u, v):
        a, b = self.vectors[u], self.vectors[v]
        return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5

    # -- the whole answer: [(id, score, interest)], fallback --

    def fall_back(self, request, drop, reason):
        how = request.get("fallback", "popular_within_filter")
        within = [(i, s, None) for i, s in self.popular if i not in drop and self.passes(request, i)]
        everywhere = [(i, s, None) for i, s in self.popular if i not in drop]
        limit = request.get("limit", 20)
        if how == "none":
            return [], {"used": "none", "reason": reason}
        if "filter" not in request or (how == "popular" and not within):
            return everywhere[:limit], {"used": "popular", "reason": reason}
        return within[:limit], {"used": "popular_within_filter", "reason": reason}

    def recommend(self, request):
        seen = [h for h in request["history"] if h in self.row]
        drop = self.dropped(request, seen)
        if not seen:
            return self.fall_back(request, drop, "all_items_unknown" if request["history"] else "empty_history")
        enc = self.case.post("/v1/encode", {"history": request["history"]})["interests"]
        active = [i for i in enc if i["active"]]
        most = request.get("interests", len(active))
        active = sorted(sorted(active, key=lambda i: (-i["share"], i["index"]))[:most], key=lambda i: i["index"])
        queries, shares = [i["vector"] for i in active], [i["share"] for i in active]
        if "weights" in request.get("merge", {}):
            weights = [request["merge"]["weights"][i["index"]] for i in active]
            request = {**request, "merge": {**request["merge"], "weights": weights}}
        rows = [r for r, i in enumerate(self.id) if i not in drop and self.passes(request, i)]
        depth = max(request.get("candidates_per_interest", 100), request.get("limit", 20))
        lists = [in_order((dot(q, self.vectors[r]), r) for r in rows)[:depth] for q in queries]
        if not rows:
            return self.fall_back(request, drop, "filtered_out")
        merged = self.merge(request, lists, queries, shares)
        picked = self.pick(request, merged, self.owed(request, shares))
        return [(self.id[r], s, active[k]["index"]) for s, r, k in picked], None


class Whole(Shop):
    """The property: whatever is asked, the daemon's list is the reference's."""

    def random_clause(self, rng):
        key = rng.choice(["category", "colour", "price"])
        kind = rng.choice(["any", "value", "exists", "range" if key == "price" else "any"])
        values = {"category": CATEGORIES + ["nowhere"], "colour": COLOURS, "price": [x / 2 for x in range(40)]}[key]
        if kind == "exists":
            return {"key": key, "exists": rng.random() < 0.7}
        if kind == "value":
            return {"key": key, "value": rng.choice(values)}
        if kind == "any":
            return {"key": key, "any": rng.sample(values, rng.randint(1, 3))}
        low = rng.randrange(15)
        return {"key": key, "range": rng.choice([{"gte": low}, {"lt": low + 5}, {"gt": low, "lte": low + 8.5}])}

    def random_request(self, rng):
        r = {"history": list(rng.choice(self.histories))}
        if rng.random() < 0.1:
            r["history"] = rng.choice([[], ["nobody"], r["history"] + ["nobody"]])
        r["limit"] = rng.choice([1, 3, 10, 20, 60, 240])
        if rng.random() < 0.3:
            r["interests"] = rng.randint(1, 4)
        if rng.random() < 0.5:
            r["candidates_per_interest"] = rng.choice([1, 5, 30, 240])
        if rng.random() < 0.8:
            m = r["merge"] = {"strategy": rng.choice(["max", "sum", "rrf", "round_robin", "quota"])}
            if rng.random() < 0.4:
                m["min_per_interest"] = rng.randint(0, 12)
            if m["strategy"] == "rrf" and rng.random() < 0.5:
                m.update(k=rng.choice([1, 10, 60]), weights=[rng.choice([0, 0.5, 1, 3]) for _ in range(4)])
        if rng.random() < 0.5:
            d = r["diversity"] = {"method": rng.choice(["none", "category", "mmr"])}
            if rng.random() < 0.8:
                d["strength"] = rng.choice([0, 0.05, 0.2, 0.7, 1])
            if rng.random() < 0.4:
                d["field"] = "colour"
        if rng.random() < 0.6:
            f = r["filter"] = {}
            for side in ["must", "must_not"]:
                if rng.random() < 0.6:
                    f[side] = [self.random_clause(rng) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.3:
            r["exclude_seen"] = False
        if rng.random() < 0.4:
            r["exclude_items"] = [f"i{rng.randrange(ITEMS)}" for _ in range(rng.choice([3, 40, 200]))] + ["nobody"]
        if rng.random() < 0.5:
            r["fallback"] = rng.choice(["popular", "popular_within_filter", "none"])
        if rng.random() < 0.3:
            r["search"] = {"exact": True}
        return r

    def test_answers_are_those_of_the_reference(self):
        rng, ref, close, checked = random.Random(5), Reference(self), 0, 0
        kinds = set()
        while checked < 200:
            request = self.random_request(rng)
            try:
                want, fallback = ref.recommend(request)
            except Close:
                close += 1
                self.assertLess(close, 200)
                continue
            got = self.recommend(**request)
            with self.subTest(request=request):
                self.assertEqual([(i["item_id"], i["interest"]) for i in got["items"]], [(w[0], w[2]) for w in want])
                self.assertEqual(got["fallback"], fallback)
                for i, w in zip(got["items"], want):
                    self.assertAlmostEqual(i["score"], w[1], delta=TIE * max(1, abs(w[1])))
            checked += 1
            kinds.add(fallback["reason"] if fallback else request.get("merge", {}).get("strategy"))
        self.assertTrue({"max", "sum", "rrf", "round_robin", "quota", "filtered_out"} <= kinds, kinds)


class Options(Shop):
    """What one option does, in the plainest request that shows it."""

    def setUp(self):
        self.history = self.histories[0]

    def test_limit_and_candidates(self):
        everything = self.ids(history=self.history, limit=240)
        self.assertEqual(len(everything), ITEMS - len(set(self.history)))
        self.assertEqual(self.ids(history=self.history, limit=7), everything[:7])
        self.assertEqual(len(self.ids(history=self.history)), 20)
        few = self.recommend(history=self.history, limit=5, candidates_per_interest=8, merge={"strategy": "sum"},
                             explain=True)
        fetched = [i["fetched"] for i in few["explain"]["interests"] if i["active"]]
        self.assertEqual(set(fetched), {8})
        self.assertEqual(few["explain"]["plan"]["fetched"], 8 * len(fetched))
        self.assertLessEqual(few["explain"]["plan"]["after_dedup"], 8 * len(fetched))
        # never fewer than limit, whatever was asked for
        self.assertEqual(len(self.ids(history=self.history, limit=50, candidates_per_interest=1, interests=1)), 50)

    def test_interests_keeps_the_most_important(self):
        encoded = self.post("/v1/encode", {"history": self.history})["interests"]
        first = max(encoded, key=lambda i: i["share"])["index"]
        reply = self.recommend(history=self.history, interests=1, limit=30, explain=True)
        self.assertEqual({i["interest"] for i in reply["items"]}, {first})
        self.assertEqual([i["index"] for i in reply["explain"]["interests"] if i["active"]], [first])

    def by_strategy(self, strategy, **merge):
        return self.recommend(history=self.history, limit=40, explain=True, merge={"strategy": strategy, **merge})

    def test_merge_max_and_sum(self):
        for strategy, of in [("max", max), ("sum", sum)]:
            reply = self.by_strategy(strategy)
            active = [i["index"] for i in reply["explain"]["interests"] if i["active"]]
            for item in reply["items"]:
                by = [item["explain"]["scores_by_interest"][k] for k in active]
                self.assertAlmostEqual(item["score"], of(by), places=5)
                self.assertEqual(item["interest"], active[by.index(max(by))])
        self.assertNotEqual(self.by_strategy("max")["items"], self.by_strategy("sum")["items"])

    def test_merge_rrf_adds_reciprocal_places(self):
        lists = {}
        for k in range(4):  # one interest's weight alone leaves its places
            weights = [0, 0, 0, 0]
            weights[k] = 1
            lists[k] = [i["item_id"] for i in self.by_strategy("rrf", k=10, weights=weights)["items"] if i["score"] > 0]
        # of forty places a list shows forty at most: enough for the best of all
        top = self.by_strategy("rrf", k=10)["items"][0]
        places = [one.index(top["item_id"]) + 1 for one in lists.values() if top["item_id"] in one]
        self.assertAlmostEqual(top["score"], sum(1 / (10 + p) for p in places), places=5)
        self.refused("/v1/recommend", {"history": self.history, "merge": {"strategy": "rrf", "weights": [1, 2]}}, 422,
                     "invalid_value")

    def test_merge_round_robin_takes_turns(self):
        reply = self.by_strategy("round_robin")
        shares = {i["index"]: i["history_share"] for i in reply["explain"]["interests"] if i["active"]}
        turn = sorted(shares, key=lambda k: -shares[k])
        self.assertEqual([i["interest"] for i in reply["items"][:len(turn)]], turn)
        self.assertEqual([i["interest"] for i in reply["items"]], (turn * 40)[:40])

    def test_merge_quota_and_least_places(self):
        def count(reply):
            by = [i["interest"] for i in reply["items"]]
            return {k: by.count(k) for k in set(by)}
        reply = self.by_strategy("quota")
        for i in reply["explain"]["interests"]:
            if i["active"]:
                self.assertAlmostEqual(count(reply).get(i["index"], 0), 40 * i["history_share"], delta=1)
        active = [i["index"] for i in reply["explain"]["interests"] if i["active"]]
        least = 40 // len(active)
        self.assertLess(min(count(self.by_strategy("max")).values()), least)
        for strategy in ("max", "quota", "sum", "rrf"):
            for asked in (least, 1000):  # as far as limit goes
                got = count(self.by_strategy(strategy, min_per_interest=asked))
                self.assertTrue(all(got.get(k, 0) >= least for k in active), got)

    def test_diversity_category_spreads_values(self):
        def most(reply):
            values = [v for i in reply["items"] for v in attributes_of(int(i["item_id"][1:]))["category"]]
            return max(values.count(v) for v in set(values))
        plain = self.recommend(history=self.history, limit=15)
        spread = self.recommend(history=self.history, limit=15, diversity={"method": "category", "strength": 0.3},
                                explain=True)
        self.assertLess(most(spread), most(plain))
        self.assertEqual(spread["items"][0]["item_id"], plain["items"][0]["item_id"])
        self.assertGreater(max(i["explain"]["diversity_penalty"] for i in spread["items"]), 0)
        none = self.recommend(history=self.history, limit=15, diversity={"method": "category", "strength": 0})
        self.assertEqual(none["items"], plain["items"])
        other = self.recommend(history=self.history, limit=15, diversity={"method": "category", "field": "colour"})
        self.assertNotEqual(other["items"], spread["items"])
        for field in ("price", "nothing"):
            answer = self.refused("/v1/recommend", {"history": self.history, "diversity": {
                "method": "category", "field": field}}, 422, "invalid_value", "/diversity/field")
            self.assertIn("category", answer["detail"])

    def test_diversity_mmr_lowers_similarity(self):
        vectors = dict(zip(Reference(self).id, item_vectors(self.models, "shop")))

        def similarity(ids):
            pairs = [(vectors[a], vectors[b]) for a in ids for b in ids if a < b]
            return sum(dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5 for a, b in pairs) / len(pairs)
        plain = similarity(self.ids(history=self.history, limit=10))
        by_default = similarity(self.ids(history=self.history, limit=10, diversity={"method": "mmr"}))
        strong = similarity(self.ids(history=self.history, limit=10, diversity={"method": "mmr", "strength": 0.9}))
        self.assertLess(by_default, plain)
        self.assertLess(strong, by_default)

    def test_filter_clauses(self):
        for clause, holds in [
                ({"key": "category", "any": ["news", "film"]}, lambda a: set(a["category"]) & {"news", "film"}),
                ({"key": "category", "any": []}, lambda a: False),
                ({"key": "colour", "value": "red"}, lambda a: "red" in a["colour"]),
                ({"key": "price", "value": 7.5}, lambda a: a["price"] == 7.5),
                ({"key": "price", "range": {"gte": 5, "lt": 9}}, lambda a: a["price"] is not None and 5 <= a["price"] < 9),
                ({"key": "price", "range": {"gt": 5, "lte": 9}}, lambda a: a["price"] is not None and 5 < a["price"] <= 9),
                ({"key": "colour", "exists": True}, lambda a: a["colour"]),
                ({"key": "price", "exists": False}, lambda a: a["price"] is None)]:
            for side in ("must", "must_not"):
                with self.subTest(clause=clause, side=side):
                    want = {f"i{n}" for n in range(ITEMS) if bool(holds(attributes_of(n))) == (side == "must")}
                    got = self.ids(history=self.history, limit=240, exclude_seen=False, filter={side: [clause]},
                                   fallback="none")
                    self.assertEqual(set(got), want)
                    self.assertEqual(len(got), len(want))

    def test_filter_mistakes_are_pointed_at(self):
        for f, code, pointer in [
                ({"must": [{"key": "color", "value": "red"}]}, "unknown_attribute", "/filter/must/0/key"),
                ({"must_not": [{"key": "price", "exists": True}, {"key": "colour", "range": {"gte": 1}}]},
                 "invalid_value", "/filter/must_not/1"),
                ({"must": [{"key": "price", "any": ["cheap"]}]}, "invalid_value", "/filter/must/0"),
                ({"must": [{"key": "price"}]}, "invalid_value", "/filter/must/0")]:
            self.refused("/v1/recommend", {"history": self.history, "filter": f}, 422, code, pointer)

    def test_seen_excluded_and_unknown_items(self):
        seen = self.ids(history=self.history, limit=240, exclude_seen=False)
        self.assertEqual(len(seen), ITEMS)
        self.assertEqual([i for i in seen if i not in self.history], self.ids(history=self.history, limit=240))
        gone = seen[:5] + ["nobody"]
        self.assertEqual(self.ids(history=self.history, limit=240, exclude_seen=False, exclude_items=gone), seen[5:])
        with_unknown = self.recommend(history=["nobody"] + self.history + ["none"])
        self.assertEqual(with_unknown["items"], self.recommend(history=self.history)["items"])
        self.assertEqual(with_unknown["history"]["unknown"], 2)
        self.refused("/v1/recommend", {"history": ["nobody"], "unknown_items": "error"}, 422, "unknown_items")

    def test_fallbacks(self):
        news = {"must": [{"key": "category", "value": "news"}]}
        nothing = {"must": [{"key": "category", "value": "nowhere"}]}
        popular = self.ids(limit=240)
        within = [i for i in popular if attributes_of(int(i[1:]))["category"] == ["news"]]
        for request, used, reason, want in [
                ({}, "popular", "empty_history", popular),
                ({"history": ["nobody"]}, "popular", "all_items_unknown", popular),
                ({"filter": news}, "popular_within_filter", "empty_history", within),
                ({"filter": news, "fallback": "popular"}, "popular_within_filter", "empty_history", within),
                ({"filter": nothing}, "popular_within_filter", "empty_history", []),
                ({"filter": nothing, "fallback": "popular"}, "popular", "empty_history", popular),
                ({"filter": nothing, "history": ["i1"], "fallback": "popular"}, "popular", "filtered_out",
                 [i for i in popular if i != "i1"]),
                ({"filter": news, "fallback": "popular", "exclude_items": within}, "popular", "empty_history",
                 [i for i in popular if i not in within]),
                ({"filter": news, "history": ["i1"], "fallback": "popular", "exclude_items": within}, "popular",
                 "filtered_out", [i for i in popular if i not in within + ["i1"]]),
                ({"fallback": "none"}, "none", "empty_history", [])]:
            with self.subTest(request=request):
                reply = self.recommend(limit=240, **request)
                self.assertEqual(reply["fallback"], {"used": used, "reason": reason})
                self.assertEqual([i["item_id"] for i in reply["items"]], want)
                self.assertTrue(all(i["source"] == "popular" and i["interest"] is None for i in reply["items"]))

    def test_popularity_is_what_was_trained_on(self):
        count = {f"i{n}": 0 for n in range(ITEMS)}
        for h in self.histories:
            for i in h[:-2]:  # the last two are for validation and test
                count[i] += 1
        got = {i["item_id"]: i["score"] for i in self.recommend(limit=240)["items"]}
        for i, score in got.items():
            self.assertAlmostEqual(score, count[i] / max(count.values()), places=5)

    def test_seed_draws_popular_items(self):
        plain = self.ids(limit=10)
        draws = [self.ids(limit=10, seed=s) for s in range(30)]
        self.assertEqual(draws, [self.ids(limit=10, seed=s) for s in range(30)])
        self.assertGreater(len({tuple(d) for d in draws}), 25)
        pool = set(self.ids(limit=100))
        self.assertTrue(all(set(d) <= pool and len(set(d)) == 10 for d in draws))
        self.assertEqual(self.ids(limit=10), plain)
        self.assertEqual(self.ids(history=self.history, seed=1), self.ids(history=self.history, seed=2))

    def test_explain_adds_up(self):
        vectors = dict(zip(Reference(self).id, item_vectors(self.models, "shop")))
        phi = [i["vector"] for i in self.post("/v1/encode", {"history": self.history})["interests"]]
        f = {"must": [{"key": "price", "range": {"gte": 2}}]}
        reply = self.recommend(history=self.history, limit=240, explain=True, filter=f)
        plan = reply["explain"]["plan"]
        self.assertEqual(plan["mode"] in ("scan", "allowed"), True)
        passing = sum((attributes_of(n)["price"] or 0) >= 2 for n in range(ITEMS))
        self.assertAlmostEqual(plan["selectivity"], passing / ITEMS, places=3)
        self.assertEqual(plan["after_dedup"], len(reply["items"]))
        self.assertAlmostEqual(sum(i["history_share"] for i in reply["explain"]["interests"]), 1, places=3)
        for item in reply["items"]:
            want = [dot(p, vectors[item["item_id"]]) for p in phi]
            for got, x in zip(item["explain"]["scores_by_interest"], want):
                self.assertAlmostEqual(got, x, places=5)
            k = item["interest"]
            better = sum(o["explain"]["scores_by_interest"][k] > item["score"] for o in reply["items"])
            self.assertEqual(item["explain"]["rank_in_interest"], better + 1)
            self.assertEqual(item["explain"]["diversity_penalty"], 0)
            self.assertAlmostEqual(sum(e["weight"] for e in item["explain"]["interest_history"]),
                                   1 if len(self.history) <= 10 else 0.9, delta=0.3)

    def test_search_options(self):
        def plan(model, **search):
            reply = self.recommend(history=self.history, model=model, search=search, explain=True, limit=5)
            return reply["explain"]["plan"]["mode"], [i["item_id"] for i in reply["items"]]
        for model, mode in [("graph", "graph"), ("lists", "lists")]:
            exact = plan(model, exact=True)
            self.assertEqual((exact[0], plan(model)[0]), ("scan", mode))
            for option in ("ef", "nprobe"):  # wide enough, they find what the scan finds
                self.assertEqual(plan(model, **{option: 4096})[1], exact[1])
        narrow = sum(plan_of != exact_of for plan_of, exact_of in (
            (self.ids(history=h, model="lists", search={"nprobe": 3}, limit=5, exclude_seen=False),
             self.ids(history=h, model="lists", search={"exact": True}, limit=5, exclude_seen=False))
            for h in self.histories[:40]))
        self.assertGreater(narrow, 5)  # three lists do not have them all
        self.assertEqual(plan("shop", ef=7, nprobe=7), plan("shop"))

    def test_history_with_times_and_events(self):
        ids = self.history[:4]
        timed = [{"item_id": i, "ts": 1795370651000 + 1000 * n, "event": "click"} for n, i in enumerate(ids)]
        plain = self.post("/v1/encode", {"history": ids})["interests"]
        for order in ([3, 1, 0, 2], [0, 1, 2, 3]):
            self.assertEqual(self.post("/v1/encode", {"history": [timed[n] for n in order]})["interests"], plain)
        self.assertNotEqual(self.post("/v1/encode", {"history": ids[::-1]})["interests"], plain)
        self.refused("/v1/recommend", {"history": [{"item_id": "i1", "ts": 1795370651}]}, 422, "invalid_value",
                     "/history/0/ts")


class Routes(Shop):
    """Batches, vectors and items as queries."""
    args = ["--queue-rows", "100000"]

    def same(self, got, want):
        for key in ("items", "history", "fallback", "degraded", "model"):
            self.assertEqual(got[key], want[key])

    def test_a_batch_is_its_requests_one_by_one(self):
        rng, whole = random.Random(8), Whole()
        whole.histories = self.histories
        requests = [whole.random_request(rng) for _ in range(128)]
        reply = self.post("/v1/recommend/batch", {"requests": requests})
        self.assertEqual(len(reply["results"]), 128)
        for request, result in zip(requests, reply["results"]):
            self.assertEqual(result["status"], 200)
            self.same(result["result"], self.recommend(**request))
        ids = {r["result"]["recommendation_id"] for r in reply["results"]}
        self.assertEqual(len(ids), 128)

    def test_batch_defaults_hold_where_a_request_says_nothing(self):
        h = self.histories[2]
        defaults = {"limit": 3, "filter": {"must": [{"key": "colour", "value": "red"}]}, "merge": {"strategy": "sum"}}
        reply = self.post("/v1/recommend/batch", {"model": "shop", "defaults": defaults, "requests": [
            {"history": h}, {"history": h, "limit": 9}, {"history": h, "merge": {"strategy": "max"}, "filter": {}}, {}]})
        one, two, three, four = [r["result"] for r in reply["results"]]
        self.same(one, self.recommend(history=h, **defaults))
        self.same(two, self.recommend(history=h, **{**defaults, "limit": 9}))
        self.same(three, self.recommend(history=h, limit=3))
        self.assertEqual(four["fallback"], {"used": "popular_within_filter", "reason": "empty_history"})

    def test_what_fails_in_a_batch_fails_alone(self):
        bad = {"history": ["i1"], "filter": {"must": [{"key": "nothing", "exists": True}]}}
        reply = self.post("/v1/recommend/batch", {"requests": [
            {"history": ["i1"]}, bad, {"history": ["nobody"], "unknown_items": "error"}]})
        self.assertEqual([r["status"] for r in reply["results"]], [200, 422, 422])
        self.same(reply["results"][0]["result"], self.recommend(history=["i1"]))
        error = reply["results"][1]["error"]
        self.assertEqual((error["code"], error["errors"][0]["pointer"]),
                         ("unknown_attribute", "/requests/1/filter/must/0/key"))
        self.assertEqual(reply["results"][2]["error"]["code"], "unknown_items")

    def test_what_is_no_batch_is_refused(self):
        for body, status, code, pointer in [
                ({}, 422, "invalid_value", ""),
                ({"requests": []}, 422, "invalid_value", "/requests"),
                ({"requests": {}}, 400, "bad_type", "/requests"),
                ({"requests": [3]}, 400, "bad_type", "/requests/0"),
                ({"requests": [{}] * 129}, 413, "batch_too_large", "/requests"),
                ({"requests": [{}, {}, {}, {"limit": 0}]}, 422, "invalid_value", "/requests/3/limit"),
                ({"requests": [{"merge": {"strategy": "best"}}]}, 422, "invalid_value", "/requests/0/merge/strategy"),
                ({"requests": [{"model": "shop"}]}, 400, "unknown_field", "/requests/0/model"),
                ({"requests": [{}], "defaults": {"limit": 0}}, 422, "invalid_value", "/defaults/limit"),
                ({"requests": [{}], "limit": 3}, 400, "unknown_field", "/limit"),
                ({"requests": [{}], "model": "nope"}, 404, "model_not_found", None)]:
            with self.subTest(body=str(body)[:60]):
                self.refused("/v1/recommend/batch", body, status, code, pointer)
        self.assertEqual(len(self.post("/v1/recommend/batch", {"requests": [{"limit": 1}] * 128})["results"]), 128)

    def test_search_takes_vectors_in_both_forms(self):
        history = self.histories[3]
        active = [i["vector"] for i in self.post("/v1/encode", {"history": history})["interests"] if i["active"]]
        self.assertGreater(len(active), 1)
        options = {"limit": 12, "merge": {"strategy": "sum"}}
        want = self.ids(history=history, exclude_seen=False, **options)
        text = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in active]
        first = self.post("/v1/search", {"vectors": active, **options})
        for vectors in (active, text, [active[0]] + text[1:]):
            got = self.post("/v1/search", {"vectors": vectors, **options})
            self.assertEqual([i["item_id"] for i in got["items"]], want)
            self.assertEqual(got["items"], first["items"])
            self.assertEqual((got["fallback"], got["degraded"]), (None, None))
            self.assertNotIn("history", got)
        f = {"must": [{"key": "colour", "value": "blue"}]}
        got = self.post("/v1/search", {"vectors": active, "filter": f, "limit": 240})["items"]
        self.assertEqual({i["item_id"] for i in got},
                         {f"i{n}" for n in range(ITEMS) if "blue" in attributes_of(n)["colour"]})

    def test_search_refuses_what_is_no_vector(self):
        text = base64.b64encode(struct.pack("<16f", *[1] * 16)).decode()
        good, nan = [0.5] * 16, struct.pack("<16f", *[float("nan")] * 16)
        for vectors, status, code, pointer in [
                ([], 422, "invalid_value", "/vectors"),
                ([good] * 65, 422, "invalid_value", "/vectors"),
                ([good[:15]], 422, "invalid_value", "/vectors"),
                ([good, good + [1]], 422, "invalid_value", "/vectors/1"),
                ([good, good[:3]], 422, "invalid_value", "/vectors/1"),
                ([[]], 422, "invalid_value", "/vectors/0"),
                ([good, text[:-4] + "!" + text[-3:]], 422, "invalid_value", "/vectors/1"),
                ([base64.b64encode(nan).decode()], 422, "invalid_value", "/vectors/0"),
                ([[1e300] * 16], 422, "invalid_value", "/vectors/0/0"),
                ([[0.5, "x"] + good[2:]], 400, "bad_type", "/vectors/0/1"),
                ([3], 400, "bad_type", "/vectors/0"),
                ("x", 400, "bad_type", "/vectors")]:
            with self.subTest(vectors=str(vectors)[:50]):
                self.refused("/v1/search", {"vectors": vectors}, status, code, pointer)
        self.refused("/v1/search", {}, 422, "invalid_value")
        self.refused("/v1/search", {"vectors": [good], "history": ["i1"]}, 400, "unknown_field", "/history")
        self.refused("/v1/search", {"vectors": [good, good], "merge": {"strategy": "rrf", "weights": [1]}}, 422,
                     "invalid_value", "/merge/weights")

    def test_similar_items_are_the_nearest_of_their_vectors(self):
        ref = Reference(self)
        vectors = dict(zip(ref.id, ref.vectors))
        for items in (["i5"], ["i5", "i77"]):
            score = {i: max(dot(vectors[q], v) for q in items) for i, v in vectors.items() if i not in items}
            want = sorted(score, key=lambda i: -score[i])[:10]
            got = self.post("/v1/similar", {"items": items, "limit": 10})["items"]
            self.assertEqual([i["item_id"] for i in got], want)
        plain = self.post("/v1/similar", {"items": ["i5", "i77"], "limit": 10, "merge": {"strategy": "rrf"}})["items"]
        weighed = self.post("/v1/similar", {"items": ["nobody", "i5", "i77"], "limit": 10, "merge": {
            "strategy": "rrf", "weights": [9, 1, 0]}})["items"]
        self.assertEqual([i["item_id"] for i in weighed if i["score"] > 0],
                         [i["item_id"] for i in self.post("/v1/similar", {"items": ["i5"], "limit": 10, "exclude_items":
                                                                          ["i77"]})["items"]])
        self.assertNotEqual(plain, weighed)
        some = self.post("/v1/similar", {"items": ["i5", "nobody", "i77"], "limit": 10, "explain": True})
        self.assertEqual(some["unknown"], ["nobody"])
        self.assertEqual([i["active"] for i in some["explain"]["interests"]], [True, False, True])
        for i in some["items"]:
            best = max((0, 2), key=lambda q: dot(vectors[["i5", "nobody", "i77"][q]], vectors[i["item_id"]]))
            self.assertEqual(i["interest"], best)
        nothing = self.post("/v1/similar", {"items": ["nobody"]})
        self.assertEqual((nothing["items"], nothing["unknown"], nothing["fallback"]),
                         ([], ["nobody"], {"used": "none", "reason": "all_items_unknown"}))
        self.refused("/v1/similar", {"items": ["nobody", "i5"], "unknown_items": "error"}, 422, "unknown_items", "/items")
        self.refused("/v1/similar", {"items": []}, 422, "invalid_value", "/items")
        self.refused("/v1/similar", {"items": ["i1"] * 65}, 422, "invalid_value", "/items")
        self.refused("/v1/similar", {}, 422, "invalid_value")

    def test_limits_are_told(self):
        limits = self.d.ask("GET", "/info")[2]["limits"]
        want = {"batch": 128, "batch_rows": 32, "queue_rows": 100000, "vectors": 64, "filter_clauses": 64,
                "filter_values": 10000, "exclude_lists": 64, "blocklists": 1000, "blocklist_ids": 200000,
                "items_batch": 10000, "changed_items": 200000}
        self.assertEqual({k: limits.get(k) for k in want}, want)

    def test_answers_do_not_depend_on_company(self):
        rng, whole = random.Random(9), Whole()
        whole.histories = self.histories
        requests = [whole.random_request(rng) for _ in range(48)]
        models = ["shop", "graph", "lists"]
        want = {m: [self.recommend(**r, model=m) for r in requests] for m in models}
        wrong = []

        def client(seed):
            mine, c = random.Random(seed), self.d.connect()
            for _ in range(12):
                some, m = [mine.randrange(len(requests)) for _ in range(mine.choice([1, 1, 1, 3, 20]))], mine.choice(models)
                if len(some) == 1:
                    got = [self.d.post("/v1/recommend", {**requests[some[0]], "model": m}, {}, c)[2]]
                else:
                    body = {"requests": [requests[i] for i in some], "model": m}
                    got = [r["result"] for r in self.d.post("/v1/recommend/batch", body, {}, c)[2]["results"]]
                wrong.extend((m, i) for i, g in zip(some, got) if g["items"] != want[m][i]["items"])
            c.close()
        before = self.metric("intentd_batch_rows_sum") / self.metric("intentd_batch_rows_count")
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            list(pool.map(client, range(64)))
        self.assertEqual(wrong, [])
        self.assertGreater(self.metric("intentd_batch_rows_sum") / self.metric("intentd_batch_rows_count"), before)


class Deadlines(Shop):
    args = ["--threads", "1"]

    def test_times_that_are_none_are_refused(self):
        for text in ("0", "-1", "1.5", "soon", "3600001", "", "99999999999999999999"):
            self.refused("/v1/recommend", {}, 422, "invalid_value", headers={"X-Request-Timeout-Ms": text})
        self.assertEqual(self.d.ask("GET", "/readyz", headers={"X-Request-Timeout-Ms": "soon"})[0], 200)
        for text in ("1000", "3600000"):
            self.post("/v1/recommend", {"history": ["i1"]}, headers={"X-Request-Timeout-Ms": text})

    def check(self, reply, active):
        """Whole, or what is missing is said."""
        degraded = reply["degraded"]
        if degraded is None:
            self.assertIsNone(reply["fallback"])
            self.assertTrue(reply["items"])
            return "whole"
        self.assertEqual(degraded["reason"], "deadline")
        self.assertTrue(degraded["skipped"])
        cut = {int(s.split(":")[1]) for s in degraded["skipped"] if s.startswith("interest:")}
        if "encode" in degraded["skipped"] or cut == active:
            self.assertEqual(degraded["coverage"], 0)
            self.assertEqual(reply["fallback"]["reason"], "deadline")
            self.assertTrue(all(i["source"] == "popular" for i in reply["items"]))
            return "popular"
        self.assertAlmostEqual(degraded["coverage"], 1 - len(cut) / len(active), places=3)
        self.assertIsNone(reply["fallback"])
        self.assertFalse({i["interest"] for i in reply["items"]} & cut)
        return "part"

    def hurried(self, path, request, ms, ahead):
        """(status, answer) of a request with ms to spare that comes behind so many requests that take long."""
        front = [self.d.raw() for _ in range(ahead)]
        try:
            for c in front:
                c.send(self.long)
            status, _, reply = self.d.post(path, request, {"X-Request-Timeout-Ms": str(ms)})
            for c in front:
                self.assertEqual(c.response()[0], 200)
        finally:
            for c in front:
                c.sock.close()
        return status, reply

    def test_answers_in_a_hurry_are_whole_or_say_what_is_missing(self):
        history, kinds, end = self.histories[4], set(), time.time() + WAIT
        active = {i["index"] for i in self.post("/v1/encode", {"history": history})["interests"] if i["active"]}
        before = self.metric("intentd_degraded_total")
        self.long = post_bytes(json.dumps({"requests": [{"history": h} for h in self.histories[:32]]}).encode(),
                               path="/v1/recommend/batch")
        request = {"history": history, "limit": 10, "diversity": {"method": "mmr"}}
        n = 0
        while n < 16 or not {"whole", "popular", 200, 504} <= kinds:
            self.assertLess(time.time(), end, kinds)
            ms, ahead = 5 ** (n % 4), n // 4 % 4
            status, reply = self.hurried("/v1/recommend", request, ms, ahead)
            self.assertEqual(status, 200, reply)
            kinds.add(self.check(reply, active))
            status, reply = self.hurried("/v1/recommend", {**request, "allow_degraded": False}, ms, ahead)
            self.assertIn((status, reply.get("code")), [(200, None), (504, "deadline_exceeded")])
            kinds.add(status)
            if status == 200:
                self.assertIsNone(reply["degraded"])
            status, reply = self.hurried("/v1/encode", {"history": history}, ms, ahead)
            self.assertIn((status, reply.get("code")), [(200, None), (504, "deadline_exceeded")])
            self.assertEqual(len(reply.get("interests", active)), 4)
            n += 1
        self.wait_for(lambda: self.metric("intentd_degraded_total") > before)
        # who has time gets the whole answer again
        self.assertEqual(self.check(self.recommend(history=history), active), "whole")


class Overload(Shop):
    args = ["--threads", "1", "--queue-rows", "1"]
    status = 429

    def test_who_finds_the_queue_full_is_told_when_to_come_back(self):
        seen, lock = [], threading.Lock()
        want = {n: self.ids(history=self.histories[n]) for n in range(8)}

        def client(n):
            c = self.d.connect()
            for _ in range(15):
                got = self.d.post("/v1/recommend", {"history": self.histories[n % 8]}, {}, c)
                with lock:
                    seen.append((n % 8, *got))
            c.close()
        before = self.metric('intentd_shed_total{reason="queue"}')
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            list(pool.map(client, range(32)))
        refused = 0
        for n, status, reply, answer in seen:
            self.assertIn(status, (200, self.status))
            if status == 200:
                self.assertEqual([i["item_id"] for i in answer["items"]], want[n])
                continue
            refused += 1
            self.assertEqual(answer["code"], "overloaded")
            self.assertGreaterEqual(answer["retry_after_ms"], 1)
            self.assertEqual(int(reply.getheader("Retry-After")), -(-answer["retry_after_ms"] // 1000))
        self.assertTrue(0 < refused < len(seen), refused)
        self.assertEqual(self.metric('intentd_shed_total{reason="queue"}') - before, refused)
        self.assertEqual(self.metric("intentd_queue_rows"), 0)
        # health is answered, and a batch of any size is let in by an empty queue
        self.assertEqual(self.d.ask("GET", "/readyz")[0], 200)
        self.assertEqual(len(self.post("/v1/recommend/batch", {"requests": [{}] * 128})["results"]), 128)


class Overload503(Overload):
    args = ["--threads", "1", "--queue-rows", "1", "--overload-status", "503"]
    status = 503


class Gone(Shop):
    args = ["--threads", "1"]

    def test_a_client_that_left_while_it_waited_costs_nothing_more(self):
        gone = 'intentd_shed_total{reason="client_gone"}'
        long = json.dumps({"requests": [{"history": h, "limit": 200, "explain": True}
                                        for h in self.histories[:64]]}).encode()
        stage = 'intentd_stage_duration_seconds_count{stage="queue"}'
        before, waited = self.metric(gone), self.metric(stage)
        end = time.time() + WAIT
        while self.metric(gone) == before:  # until one came behind two that take long
            self.assertLess(time.time(), end)
            front = [self.d.raw() for _ in range(3)]
            for c in front:
                c.send(post_bytes(long, path="/v1/recommend/batch"))
            with self.d.raw() as c:
                c.send(post_bytes(b'{"history": ["i1"]}'))
            for c in front:
                self.assertEqual(c.response()[0], 200)
                c.sock.close()
        self.wait_for(lambda: self.metric(
            'intentd_http_requests_total{route="/v1/recommend",method="POST",code="499"}') > 0)
        self.assertGreater(self.metric(stage), waited)
        self.assertEqual(self.metric("intentd_queue_rows"), 0)
        self.post("/v1/recommend", {"history": ["i1"]})


if __name__ == "__main__":
    unittest.main()

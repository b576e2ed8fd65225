"""A rank model from a table to the daemon: POST /v1/rank gives the scores that `intent rank score` gives."""
import csv
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import daemon as lib
from daemon import Daemon, intent

RECIPE = os.path.join(lib.ROOT, "models/recipes/rank.ini")
SMALL = ["hidden=16", "layers=1", "top_1=16", "top_2=0", "batch_size=64", "max_len=8", "feature price.buckets=5"]
SMALL += [f"feature {f}.hash_buckets=100" for f in
          ("user_id", "adgroup_id", "campaign_id", "customer", "cate_id", "brand")]
USER = ["user_id", "cms_segid", "cms_group_id", "age_level", "pvalue_level", "shopping_level", "occupation",
        "new_user_class_level", "pid"]
SEQUENCE = ["tag_brand_list", "tag_category_list"]


class Rank(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="intentd-rank-")
        cls.models = os.path.join(cls.dir, "models")
        cls.table = os.path.join(cls.dir, "clicks.csv")
        cls.bundle = os.path.join(cls.models, "ads")
        intent("rank", "synth", "--out", cls.table, "--rows", "1500", "--users", "60", "--items", "80", "--themes", "4",
               "--categories", "20", "--brands", "20", "--steps", "4")
        settings = [x for s in SMALL for x in ("--set", s)]
        cls.said = intent("rank", "train", "--data", cls.table, "--recipe", RECIPE, "--out", cls.bundle, "--quiet",
                          *settings)
        shutil.copytree(lib.bundle()[0], cls.models, dirs_exist_ok=True)  # a model that retrieves, beside it
        with open(cls.table) as f:
            cls.rows = list(csv.DictReader(f))
        cls.daemon = Daemon(cls.models)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()
        shutil.rmtree(cls.dir)

    def rank(self, body, path="/v1/rank"):
        status, _, answer = self.daemon.post(path, body)
        return status, answer

    def good(self, body):
        status, answer = self.rank(body)
        self.assertEqual(status, 200, answer)
        return answer

    def user(self, row):
        """Some as numbers, some as text: both mean the same."""
        return {f: int(row[f]) if i % 2 else row[f] for i, f in enumerate(USER)}

    def offline(self, *args):
        return json.loads(intent("rank", "score", "--bundle", self.bundle, "--json", *args))

    def test_training_says_how_good_it_is(self):
        self.assertRegex(self.said, r"^impressions 150  clicks \S+  auc 0\.\d+  gauc 0\.\d+  log_loss \S+\n$")
        again = json.loads(intent("rank", "eval", "--bundle", self.bundle, "--data", self.table, "--json"))
        self.assertEqual(again["impressions"], 1500)
        self.assertTrue(0 < again["auc"] < 1 and 0 < again["gauc"] < 1)

    def test_the_daemon_scores_as_the_table_is_scored_offline(self):
        scores = [float(x) for x in intent("rank", "score", "--bundle", self.bundle, "--data", self.table).split()]
        self.assertEqual(len(scores), 1500)
        first = {}  # the catalogue knows items as their first impressions have them
        for row, score in list(zip(self.rows, scores))[:60]:
            if first.setdefault(row["adgroup_id"], row) is not row:
                continue
            user = {**self.user(row), **{f: row[f] for f in SEQUENCE}}
            answer = self.good({"user": user, "candidates": [row["adgroup_id"]]})
            self.assertEqual(answer["unknown"], [])
            self.assertAlmostEqual(answer["scores"][0], score, delta=1e-6)

    def test_the_daemon_answers_what_intent_rank_score_answers(self):
        history = [r["adgroup_id"] for r in self.rows[:12]]
        candidates = [r["adgroup_id"] for r in self.rows[20:60]] + ["nobody"]
        given = [x for f in USER for x in ("--user", f"{f}={self.rows[3][f]}")]
        offline = self.offline("--history", ",".join(history), "--candidates", ",".join(candidates), *given)
        answer = self.good({"user": self.user(self.rows[3]), "history": history, "candidates": candidates})
        self.assertGreaterEqual(answer.pop("took_ms"), 0)
        self.assertEqual(answer, offline)
        self.assertEqual(answer["model"]["name"], "ads")
        self.assertEqual(answer["unknown"], ["nobody"])
        self.assertEqual(answer["history"], {"received": 12, "used": 8, "unknown": 0, "truncated": 4})
        self.assertEqual(len(answer["scores"]), 41)
        self.assertTrue(all(0 < s < 1 for s in answer["scores"]))

    def test_a_history_is_the_sequence_of_its_items_features(self):
        known = {}
        for r in self.rows:
            known.setdefault(r["adgroup_id"], r)
        history = list(known)[:5]
        user, candidates = self.user(self.rows[0]), list(known)[10:20]
        spelt = {"tag_brand_list": "|".join(known[i]["brand"] for i in history),
                 "tag_category_list": "|".join(known[i]["cate_id"] for i in history)}
        a = self.good({"user": user, "history": history, "candidates": candidates})
        b = self.good({"user": {**user, **spelt}, "candidates": candidates})
        c = self.good({"user": user, "history": [{"item_id": i} for i in ["none", *history]], "candidates": candidates})
        d = self.good({"user": user, "candidates": candidates})
        self.assertEqual(a["scores"], b["scores"])
        self.assertEqual(a["scores"], c["scores"])
        self.assertEqual(c["history"], {"received": 6, "used": 5, "unknown": 1, "truncated": 0})
        self.assertNotEqual(a["scores"], d["scores"])

    def test_scores_do_not_hang_on_the_other_candidates(self):
        ids = [r["adgroup_id"] for r in self.rows[:20]]
        user = self.user(self.rows[1])
        together = self.good({"user": user, "history": ids[:3], "candidates": ids})["scores"]
        for i, one in enumerate(ids):
            alone = self.good({"user": user, "history": ids[:3], "candidates": [one]})["scores"][0]
            self.assertAlmostEqual(alone, together[i], delta=1e-6)

    def test_what_is_wrong_is_named(self):
        ids = [self.rows[0]["adgroup_id"]]
        for body, status, code, part in [
            ({}, 422, "invalid_value", "candidates is missing"),
            ({"candidates": []}, 422, "invalid_value", "is empty"),
            ({"candidates": ["a"] * 1001}, 422, "invalid_value", "the limit is 1000"),
            ({"candidates": ids, "user": []}, 400, "bad_type", "expected an object"),
            ({"candidates": ids, "user": {"age_level": [1]}}, 400, "bad_type", "a string or a number"),
            ({"candidates": ids, "user": {"age": 1}}, 400, "unknown_field", 'no feature "age"'),
            ({"candidates": ids, "user": {"brand": 1}}, 400, "unknown_field", "which the catalogue has"),
            ({"candidates": ids, "limit": 3}, 400, "unknown_field", "limit"),
            ({"candidates": ids, "history": ids, "user": {"tag_brand_list": "1", "tag_category_list": "1"}}, 422,
             "invalid_value", "leave one out"),
            ({"candidates": ids, "user": {"tag_brand_list": "1|2", "tag_category_list": "1"}}, 422, "invalid_value",
             "another length"),
            ({"candidates": ids, "model": "nobody"}, 404, "model_not_found", "nobody"),
            ({"candidates": ids, "model": "toy"}, 422, "invalid_value", "retrieves candidates"),
        ]:
            got, answer = self.rank(body)
            self.assertEqual((got, answer["code"]), (status, code), answer)
            self.assertIn(part, answer["detail"])
        self.assertEqual(self.rank({"candidates": ids, "user": {"age": 1}}, "/v1/rank?strict=false")[0], 200)
        self.assertEqual(self.daemon.ask("GET", "/v1/rank")[0], 405)

    def test_each_route_takes_the_model_of_its_kind(self):
        status, answer = self.rank({"history": ["i1", "i2"], "limit": 3}, "/v1/recommend")
        self.assertEqual((status, answer["model"]["name"]), (200, "toy"))
        status, answer = self.rank({"history": ["i1"], "model": "ads"}, "/v1/recommend")
        self.assertEqual(status, 422)
        self.assertIn("ranks candidates: use /v1/rank", answer["detail"])
        self.assertEqual(self.rank({"history": ["i1"], "model": "ads"}, "/v1/encode")[0], 422)
        kinds = {m["name"]: (m["kind"], m["index"]) for m in self.daemon.ask("GET", "/v1/models")[2]["models"]}
        self.assertEqual(kinds["ads"], ("rank", None))
        self.assertEqual(kinds["toy"][0], "retrieval")
        metrics = self.daemon.ask("GET", "/metrics")[2]
        self.assertIn('intentd_model_info{name="ads"', metrics)
        self.assertNotIn('intentd_recall_selftest{model="ads"', metrics)

    def test_ctrl_c_keeps_what_was_trained(self):
        out = os.path.join(self.dir, "stopped")
        p = subprocess.Popen([lib.INTENT, "rank", "train", "--data", self.table, "--recipe", RECIPE, "--out", out,
                              "--set", "epochs=100000", "--set", "lr=1e-6",
                              *[x for s in SMALL for x in ("--set", s)]], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        for line in p.stderr:  # plain lines: the first epoch is over
            if line.startswith("epoch 1 "):
                p.send_signal(signal.SIGINT)
                break
        said, talk = p.communicate(timeout=lib.WAIT_S)
        self.assertEqual(p.returncode, 130, talk)
        self.assertIn("auc", said)
        self.assertEqual(len(intent("rank", "score", "--bundle", out, "--data", self.table).split()), 1500)

    def test_commands_refuse_models_of_the_other_kind(self):
        toy = os.path.join(self.models, "toy")
        for args, part in [(["recommend", "--bundle", self.bundle, "--history", "1"], "use /v1/rank"),
                           (["rank", "eval", "--bundle", toy, "--data", self.table], "retrieves candidates"),
                           (["rank", "score", "--bundle", toy, "--candidates", "i1"], "retrieves candidates"),
                           (["index", "--bundle", self.bundle], "ranks candidates")]:
            with self.assertRaises(AssertionError) as failed:
                intent(*args)
            self.assertIn(part, str(failed.exception))


def tearDownModule():
    lib.tearDownModule()


if __name__ == "__main__":
    unittest.main()

"""The trainer's commands from outside, as a data scientist calls them: files in, figures out, stopped and gone on with."""
import glob
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from daemon import INTENT, WAIT_S, intent

RECIPE = """[model]
width = 16
layers = 1
max_len = 12
dropout = 0.1
attn_dropout = 0.1
[train]
epochs = 3
batch_size = 64
lr = 0.01
stop_on = recall@50
[next_item]
"""


def fails(*args, code=1):
    """Standard error of a command that must exit so."""
    done = subprocess.run([INTENT, *args], capture_output=True, text=True)
    if done.returncode != code:
        raise AssertionError(f"intent {' '.join(args)}: exit {done.returncode}, not {code}\n{done.stderr}")
    return done.stderr


class Trainer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="intentd-e2e-")
        cls.recipe = cls.path("recipe.ini")
        with open(cls.recipe, "w") as f:
            f.write(RECIPE)
        intent("synth", "--users", "300", "--items", "60", "--clusters", "3", "--interests", "2", "--events", "14",
               "--out", cls.path("synth"))
        cls.data = cls.path("data")
        intent("prep", cls.path("synth/events.csv"), "--items", cls.path("synth/items.csv"), "--out", cls.data)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.dir, name)

    def train(self, out, *more):
        return intent("train", "--data", self.data, "--recipe", self.recipe, "--out", self.path(out), *more)

    # ---- objectives, new items ----

    def test_a_recipe_of_several_objectives_and_stages_trains_and_its_items_can_be_added_to(self):
        recipe = self.path("several.ini")
        with open(recipe, "w") as f:
            f.write(RECIPE + "[model]\nitem_tower = true\n[cl4srec]\nweight = 0.1\n[item_ssl]\nitems = 32\n[s3rec]\nweight = 0\n"
                    "[stage pretrain]\ns3rec.weight = 1\nmodel.causal = bidirectional\ntrain.epochs = 1\n"
                    "train.stop_on = none\n[stage finetune]\n")
        out = self.path("several")
        intent("train", "--data", self.data, "--recipe", recipe, "--out", out)
        with open(self.path("synth/items.csv")) as f:
            known = [line.strip().split(",") for line in f]
        new = self.path("new.csv")
        with open(new, "w") as f:
            print(",".join(known[0]), *(",".join(["new" + x[2], "New", x[2]]) for x in known[1:]), sep="\n", file=f)
        intent("index", "--bundle", out, "--add-items", new)
        self.assertEqual(sorted(d for d in os.listdir(out) if d.isdigit()), ["1", "2"])
        clusters = {x[2] for x in known[1:]}
        answer = json.loads(intent("recommend", "--bundle", out, "--history", "new" + min(clusters), "--limit", "100", "--json"))
        self.assertEqual(answer["history"], {"received": 1, "used": 1, "unknown": 0, "truncated": 0})
        listed = {x["item_id"] for x in answer["items"]}
        self.assertEqual(len(listed), answer["model"]["items"] - 1)
        self.assertLessEqual({"new" + c for c in clusters} - {"new" + min(clusters)}, listed)

    def test_an_objective_is_refused_before_the_first_step_where_the_data_lack_what_it_needs(self):
        plain = self.path("plain")
        intent("prep", self.path("synth/events.csv"), "--out", plain)
        for section, needs in ("[s3rec]", "--items"), ("[model]\nitem_tower = true", "--items"), ("[item_ssl]", "item_tower"):
            recipe = self.path("needs.ini")
            with open(recipe, "w") as f:
                f.write(RECIPE + section + "\n")
            said = fails("train", "--data", plain, "--recipe", recipe, "--out", self.path("never"))
            self.assertIn(needs, said)
            self.assertNotIn("epoch", said)
        stray = self.path("stray.csv")
        with open(stray, "w") as f:
            f.write("item,colour\nnobody,red\n")
        self.assertIn("none of its 1 entries", fails("prep", self.path("synth/events.csv"), "--items", stray, "--out", self.path("no")))

    # ---- synth, prep ----

    def test_synth_plants_what_it_says(self):
        with open(self.path("synth/items.csv")) as f:
            cluster = {line.split(",")[0]: line.strip().split(",")[2] for line in list(f)[1:]}
        users = {}
        with open(self.path("synth/events.csv")) as f:
            for line in list(f)[1:]:
                user, item, _ = line.strip().split(",")
                users.setdefault(user, []).append(item)
        self.assertEqual(len(users), 300)
        self.assertEqual(len(set(cluster.values())), 3)
        inside = followed = 0
        after = {}
        for items in users.values():
            counts = sorted((sum(cluster[i] == c for i in items) for c in set(cluster.values())), reverse=True)
            inside += sum(counts[:2])
            last = {}
            for item in items:
                if cluster[item] in last:
                    after.setdefault(last[cluster[item]], []).append(item)
                last[cluster[item]] = item
        total = sum(map(len, users.values()))
        self.assertGreater(inside / total, 0.95)  # two interests hold all but the noise
        for item, followers in after.items():      # three successors hold most of what follows
            counts = sorted((followers.count(x) for x in set(followers)), reverse=True)
            followed += sum(counts[:3]) / len(followers)
        self.assertGreater(followed / len(after), 0.8)
        self.assertIn("--interests 4 of only 3", fails("synth", "--out", self.path("x"), "--clusters", "3", code=2))

    def test_the_same_events_packed_split_and_shuffled_make_the_same_data_set(self):
        with open(self.path("synth/events.csv")) as f:
            header, *rows = f.read().splitlines()
        half = len(rows) // 2
        with gzip.open(self.path("one.csv.gz"), "wt") as f:
            f.write("\n".join([header, *rows[:half]]) + "\n")
        with open(self.path("two.tsv"), "w") as f:  # other order of columns, in milliseconds
            f.write("what\twhen\twho\n")
            for row in rows[half:]:
                user, item, t = row.split(",")
                f.write(f"{item}\t{t}000\t{user}\n")
        said = subprocess.run([INTENT, "prep", self.path("one.csv.gz"), "--out", self.path("half")],
                              capture_output=True, text=True)
        self.assertIn("csv, gzip", said.stderr)
        intent("prep", self.path("synth/events.csv"), "--out", self.path("whole"))
        # columns are named for all inputs alike: the second file is read by itself first
        fails("prep", self.path("two.tsv"), "--out", self.path("x"))
        intent("prep", self.path("two.tsv"), "--user-col", "who", "--item-col", "what", "--time-col", "when", "--out",
               self.path("other"))
        whole, other = (json.loads(intent("prep", "--json", self.path(d))) for d in ("whole", "other"))
        self.assertEqual(whole["users"], 300)
        self.assertLess(other["events"], whole["events"])
        self.assertIn("--user-col", fails("prep", self.path("two.tsv"), "--user-col", "whom", "--out", self.path("x")))

    # ---- train, eval, compare ----

    def test_evaluations_have_slices_and_compare_side_by_side(self):
        self.train("a")
        self.train("b", "--set", "model.interests=2", "--set", "lr=0.02")
        texts = []
        for name, more in (("a", ()), ("b", ("--cluster", "cluster"))):
            text = intent("eval", "--data", self.data, "--bundle", self.path(name), "--json", *more)
            texts.append(json.loads(text))
            with open(self.path(name + ".json"), "w") as f:
                f.write(text)
        a, b = texts
        self.assertEqual(a["slices"]["head"]["users"] + a["slices"]["middle"]["users"] + a["slices"]["tail"]["users"],
                         a["users"])
        self.assertTrue(0 < a["lists"]["coverage@20"] <= 1)
        self.assertNotIn("nmi", a)
        self.assertIn("a model of one vector has no interests", fails(
            "eval", "--data", self.data, "--bundle", self.path("a"), "--cluster", "cluster"))
        self.assertTrue(0 <= b["nmi"] <= 1)
        table = intent("compare", self.path("a"), self.path("b"))
        self.assertIn("train.lr: a@1 0.01, b@1 0.02", table)
        self.assertIn("model.interests: a@1 0, b@1 2", table)
        for name, x in (("a", a), ("b", b)):
            self.assertIn(f"{x['metrics']['hr@20']:.4f}",
                          intent("compare", self.path(name + ".json"), "--metrics", "hr@20"))
        sliced = intent("compare", self.path("a.json"), self.path("b.json"), "--slice", "tail", "--metrics", "hr@20")
        self.assertIn(f"{b['slices']['tail']['hr@20']:.4f}", sliced)
        lines = [json.loads(x) for x in intent("compare", self.path("a"), self.path("b"), "--json").splitlines()]
        self.assertEqual([x["run"] for x in lines], ["a@1", "b@1"])
        self.assertIn("has no figure 'hr@7'", fails("compare", self.path("a"), "--metrics", "hr@7", code=2))
        self.assertIn("no field of values called 'colour'",
                      fails("eval", "--data", self.data, "--bundle", self.path("b"), "--cluster", "colour"))

    def test_a_profile_says_where_the_time_went(self):
        out = self.train("profile", "--profile", "--no-test")
        steps, header, *parts, summary = out[out.index(" steps of ") - 4:].strip().split("\n")
        self.assertRegex(steps, r"\d+ steps of [\d.]+ ms, \d+ threads; cblas_sgemm .* GFLOP/s, memcpy .* GB/s")
        self.assertEqual(header.split()[:2], ["part", "calls"])
        share = {line[:20].strip(): float(line[20:].split("%")[0].split()[-1]) for line in parts}
        for part in ("batch", "ffn 16x64", "attn_last", "optimiser"):
            self.assertIn(part, share)
        self.assertAlmostEqual(sum(share.values()), 100, delta=2)
        self.assertRegex(summary, "^products, attention and loss .*all else .*encoder at .* of cblas_sgemm's rate")

    def test_an_interrupt_exits_with_130_and_resume_finishes(self):
        out = self.path("stopped")
        command = [INTENT, "train", "--data", self.data, "--recipe", self.recipe, "--out", out, "--set", "epochs=100000",
                   "--set", "patience=100000"]
        p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.until(lambda: os.path.exists(os.path.join(out, "1")))
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGINT)  # as `timeout` does it: at once a second time
        said = p.communicate(timeout=WAIT_S)[1]
        self.assertEqual(p.returncode, 130)
        self.assertIn("--resume goes on from here", said)
        self.assertTrue(os.path.exists(os.path.join(out, "1.state.safetensors")))
        # the recipe is in the state; another one is refused
        said = fails("train", "--data", self.data, "--recipe", self.recipe, "--out", out, "--resume")
        self.assertIn("train.epochs is 3, in the run to go on with it is 100000", said)
        said = fails("train", "--data", self.path("nowhere"), "--out", out, "--resume")
        self.assertIn("no such data set", said)
        p = subprocess.Popen([INTENT, "train", "--data", self.data, "--out", out, "--resume"], stderr=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, text=True)
        time.sleep(1)
        busy = subprocess.run(command + ["--resume"], capture_output=True, text=True)
        self.assertIn("another training is writing it", busy.stderr)
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=WAIT_S)
        self.assertEqual(p.returncode, 143)

    # ---- sweep ----

    def until(self, condition):
        end = time.monotonic() + WAIT_S
        while not condition():
            self.assertLess(time.monotonic(), end, "nothing happened")
            time.sleep(0.01)

    def sweep(self, out, *more):
        return [INTENT, "sweep", "--data", self.data, "--recipe", self.recipe, "--set", "epochs=2", "--grid",
                "lr=0.01,0.0001", "--grid", "next_item.loss=softmax,bce", "--out", out, "--jobs", "2", *more]

    def winner(self, out):
        with open(os.path.join(out, "1", "manifest.json")) as f:
            return json.load(f)

    def test_a_sweep_chooses_on_validation_and_goes_on_after_kills(self):
        whole, killed = self.path("whole-sweep"), self.path("killed-sweep")
        done = subprocess.run(self.sweep(whole), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        want = self.winner(whole)
        self.assertIn("test", want["metrics"])
        scores = {}
        for path in glob.glob(os.path.join(whole, "sweep/trial-*/1/manifest.json")):
            with open(path) as f:
                m = json.load(f)
            scores[int(path.split("trial-")[1][:3])] = m["metrics"]["valid"]["recall@50"]
            tested = "test" in m["metrics"]
            self.assertEqual(tested, int(path.split("trial-")[1][:3]) == want["sweep"]["trial"], "tested once")
        self.assertEqual(len(scores), 4)
        best = max(scores.values())
        self.assertEqual(want["sweep"], {"trial": min(t for t in scores if scores[t] == best), "of": 4})
        self.assertEqual(want["metrics"]["valid"]["recall@50"], best)
        rng = random.Random()
        for kill in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None):
            p = subprocess.Popen(self.sweep(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if kill:
                time.sleep(rng.uniform(0.1, 1.5))
                p.send_signal(kill)
            code = p.wait(WAIT_S)
        self.assertEqual(code, 0)
        got = self.winner(killed)
        for m in (want, got):
            for key in ("created", "name", "files"):
                del m[key]
        self.assertEqual(got, want)
        with open(os.path.join(killed, "sweep/table.tsv")) as f:
            self.assertEqual(len(f.read().splitlines()), 5)
        # the same command again changes nothing
        again = subprocess.run(self.sweep(killed), capture_output=True, text=True)
        self.assertEqual(again.returncode, 0)
        self.assertIn("winner: trial", again.stdout)
        self.assertEqual(sorted(x for x in os.listdir(killed) if x.isdigit()), ["1"])
        other = subprocess.run(self.sweep(killed, "--set", "width=8"), capture_output=True, text=True)
        self.assertEqual(other.returncode, 1)
        self.assertIn("holds another sweep (its recipe differs)", other.stderr)

    def test_a_spent_budget_ends_with_the_best_so_far(self):
        out = self.path("budget")
        done = subprocess.run(self.sweep(out, "--set", "epochs=100000", "--set", "patience=100000", "--budget", "3s"),
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("the budget is spent", done.stderr)
        self.assertIn("stopped", done.stdout)
        self.assertIn("test", self.winner(out)["metrics"])

    def test_a_trial_that_fails_or_dies_does_not_stop_the_others(self):
        out, recipe = self.path("failing"), self.path("failing.ini")
        with open(recipe, "w") as f:
            f.write(RECIPE)
        command = [INTENT, "sweep", "--data", self.data, "--recipe", recipe, "--set", "epochs=100000", "--set",
                   "patience=100000", "--grid", "lr=0.01,10,0.001", "--set", "optimizer=adamw", "--set",
                   "weight_decay=10", "--out", out, "--budget", "60m"]
        p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        plan = os.path.join(out, "sweep/plan.json")

        def status():
            with open(plan) as f:
                return [t["status"] for t in json.load(f)["trials"]]

        def child():
            with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
                return [int(x) for x in f.read().split()]
        self.until(lambda: os.path.exists(plan))
        with open(recipe, "w") as f:
            f.write("nonsense")  # is read no more
        killed = set()
        while len(killed) < 3:  # as a system that is short of memory does it, again and again
            self.until(lambda: set(child()) - killed)
            killed.add(max(set(child()) - killed))
            os.kill(max(killed), signal.SIGKILL)
        self.until(lambda: status()[0] == "failed")
        self.until(lambda: status()[1] == "failed")  # its loss overflows
        with open(recipe, "w") as f:
            f.write(RECIPE)
        twice = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(twice.returncode, 1)
        self.assertIn("another `intent sweep` is running it", twice.stderr)
        self.until(lambda: os.path.exists(os.path.join(out, "sweep/trial-003/1")))
        p.send_signal(signal.SIGTERM)
        said = p.communicate(timeout=WAIT_S)
        self.assertEqual(p.returncode, 143, said)
        self.assertIn("trial 1/3 lr=0.01: failed: signal 9", said[1])
        self.assertIn("trial 2/3 lr=10: failed: intent train: the loss next_item is", said[1])
        self.assertIn("the same command goes on from here", said[1])
        with open(os.path.join(out, "sweep/table.tsv")) as f:
            rows = [line.rstrip("\n").split("\t") for line in f]
        self.assertEqual({r[0]: r[1] for r in rows[1:]}, {"1": "failed", "2": "failed", "3": "stopped"})

    def test_a_winner_takes_no_number_that_a_training_has(self):
        out = self.path("shared")
        os.mkdir(out)
        open(os.path.join(out, "1.train.jsonl"), "w").close()  # a training that has not come to a bundle
        done = subprocess.run(self.sweep(out), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.strip().endswith("/2"), done.stdout)
        with open(os.path.join(out, "2.train.jsonl")) as f:
            self.assertEqual(json.loads(f.read().splitlines()[-1])["event"], "done")

    def test_a_sweep_that_cannot_be_is_refused_before_it_begins(self):
        for more, code, why in ((["--grid", "widht=1,2"], 1, "did you mean 'width'"),
                                (["--grid", "heads=2,3"], 1, "not a multiple of heads = 3"),
                                (["--grid", "lr"], 2, "expected key=a,b,c"),
                                (["--grid", "stop_on=hr@20,mrr@10"], 1, "must be judged alike"),
                                (["--grid", "valid_seen=mask,keep"], 1, "must be judged alike"),
                                (["--grid", "lr=1,2", "--grid", "train.lr=3"], 2, "are about one key"),
                                (["--grid", "lr=1,2", "--budget", "soon"], 2, "expected a time such as 90m")):
            out = self.path("refused")
            said = fails("sweep", "--data", self.data, "--recipe", self.recipe, "--out", out, *more, code=code)
            self.assertIn(why, said)
            self.assertFalse(os.path.exists(out))


if __name__ == "__main__":
    unittest.main()

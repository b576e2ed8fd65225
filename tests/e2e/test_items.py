"""Items that change, through HTTP: put, deleted, looked up, blocked, kept over restarts, compacted."""
import array
import base64
import json
import os
import shutil
import tempfile
import time
import unittest

import daemon
from daemon import JSON, Daemon, intent

tearDownModule = daemon.tearDownModule
D = 16


class Items(unittest.TestCase):
    def setUp(self):
        self.models, _ = daemon.bundle()
        self.store = tempfile.mkdtemp(prefix="intentd-store-")
        self.d = Daemon(self.models, "--store", self.store)

    def tearDown(self):
        self.d.stop()
        shutil.rmtree(self.store)

    def restart(self, models=None):
        self.d.stop()
        self.d = Daemon(models or self.models, "--store", self.store)

    def ask(self, method, path, body=None, status=200):
        got = self.d.ask(method, path, None if body is None else json.dumps(body), JSON if body is not None else {})
        self.assertEqual(got[0], status, got[2])
        return got[2]

    def lookup(self, *ids):
        return self.ask("POST", "/v1/items/lookup", {"items": list(ids)})["items"]

    def delta(self):
        return self.ask("GET", "/v1/models/toy")["delta"]

    def test_an_item_of_the_base(self):
        item = self.ask("GET", "/v1/items/i1")
        self.assertEqual((item["item_id"], item["known"], item["deleted"], item["source"]), ("i1", True, False, "base"))
        self.assertGreater(item["popularity"], 0)
        problem = self.ask("GET", "/v1/items/nobody", status=404)
        self.assertIn("nobody", problem["detail"])
        self.assertEqual(self.d.ask("HEAD", "/v1/items/i1")[0], 200)

    def test_put_is_seen_at_once_and_after_a_restart(self):
        attributes = {"brand": "acme", "tags": ["a", "b"], "price": 12.75, "sale": True}
        want = {"brand": ["acme"], "tags": ["a", "b"], "price": 12.75, "sale": ["true"]}
        put = self.ask("PUT", "/v1/items/new%2F1%20%C3%A9", {"vector": [.5] * D, "attributes": attributes, "title": "N"})
        self.assertEqual(put, {"item_id": "new/1 é", "known": True, "deleted": False, "source": "delta", "title": "N",
                               "attributes": want, "popularity": 0})
        popularity = self.ask("GET", "/v1/items/i1")["popularity"]
        self.ask("PUT", "/v1/items/i1", {"attributes": {"brand": ["b"]}})
        self.restart()
        self.assertEqual(self.ask("GET", "/v1/items/new%2F1%20%C3%A9"), put)
        self.assertEqual(self.ask("GET", "/v1/items/i1"),
                         {"item_id": "i1", "known": True, "deleted": False, "source": "delta",
                          "attributes": {"brand": ["b"]}, "popularity": popularity})
        self.assertEqual(self.delta(), {"items": 2, "tombstones": 0, "other_space": 0})

    def test_a_change_is_answered_once_it_is_on_disk(self):
        took = []
        for i in range(20):
            start = time.monotonic()
            self.ask("DELETE", f"/v1/items/i{i}")
            took.append(time.monotonic() - start)
        self.assertLess(min(took), 0.09)  # not when the thread next looks by itself

    def test_a_vector_as_base64(self):
        text = base64.b64encode(array.array("f", [.25] * D).tobytes()).decode()
        self.ask("PUT", "/v1/items/n", {"vector": text})
        self.ask("PUT", "/v1/items/n", {"vector": text[:-4]}, status=422)

    def test_delete_twice_and_put_again(self):
        for _ in range(2):
            gone = self.ask("DELETE", "/v1/items/i2")
            self.assertTrue(gone["deleted"])
        self.ask("DELETE", "/v1/items/nobody")
        self.restart()
        self.assertTrue(self.ask("GET", "/v1/items/i2")["deleted"])
        self.assertEqual(self.delta()["tombstones"], 1)  # what the base has
        self.assertFalse(self.ask("PUT", "/v1/items/i2", {"title": "back"})["deleted"])
        self.assertEqual(self.delta(), {"items": 1, "tombstones": 0, "other_space": 0})

    def test_a_batch_is_all_or_nothing(self):
        good = {"item_id": "b1", "vector": [0] * D}
        problem = self.ask("POST", "/v1/items/batch",
                           {"put": [good, {"item_id": "b2", "vector": [0] * (D - 1)}], "delete": ["i3"]}, status=422)
        self.assertEqual(problem["errors"][0]["pointer"], "/put/1")
        self.assertEqual([i["known"] and not i["deleted"] for i in self.lookup("b1", "b2", "i3")], [False, False, True])
        self.assertEqual(self.ask("POST", "/v1/items/batch", {"put": [good], "delete": ["i3"]}), {"put": 1, "deleted": 1})
        self.assertEqual([i["known"] and not i["deleted"] for i in self.lookup("b1", "b2", "i3", "i4")],
                         [True, False, False, True])

    def test_what_cannot_be_served_is_refused(self):
        problem = self.ask("PUT", "/v1/items/n", {"attributes": {"a": "b"}}, status=422)
        self.assertIn("no item tower", problem["detail"])
        self.ask("PUT", "/v1/items/n", {"vector": [1, 2]}, status=422)
        self.ask("PUT", "/v1/items/n", {"vektor": []}, status=400)
        self.ask("PUT", "/v1/items/" + "x" * 1025, {"title": "a"}, status=422)
        self.ask("PUT", "/v1/items/%FF", {"vector": [0] * D}, status=422)
        self.ask("DELETE", "/v1/items/i1%00x", status=422)
        self.ask("PUT", "/v1/items/i1?model=none", {"title": "a"}, status=404)
        self.ask("PUT", "/v1/items/i1", {"title": "a", "model": "none"}, status=404)
        self.ask("PUT", "/v1/items/i1?model=toy", {"title": "a"})
        self.assertEqual(self.d.ask("PUT", "/v1/items/i1", "{}", {"Content-Type": "text/plain"})[0], 415)
        self.assertEqual(self.d.ask("PATCH", "/v1/items/i1")[1].getheader("Allow"), "GET, HEAD, PUT, DELETE")
        self.assertEqual(self.d.ask("PUT", "/v1/items/lookup", json.dumps({"vector": [1] * D}), JSON)[0], 200)
        self.assertEqual(self.ask("GET", "/v1/items/lookup")["source"], "delta")  # an id like another

    def test_a_new_attribute_can_be_filtered_by_and_is_compacted(self):
        def found(f):
            answer = self.ask("POST", "/v1/recommend", {"history": ["i5"], "limit": 100, "filter": f})
            return {i["item_id"] for i in answer["items"]}
        left = {"must": [{"key": "stock", "range": {"gte": 2}}]}
        self.ask("POST", "/v1/recommend", {"history": ["i5"], "filter": left}, status=422)
        for n, stock in enumerate([1, 2, 3]):
            self.ask("PUT", f"/v1/items/n{n}", {"vector": [.5] * D, "attributes": {"stock": stock}})
        self.assertEqual(found(left), {"n1", "n2"})
        self.assertEqual(found({"must_not": [{"key": "stock", "exists": True}]}) & {"n0", "n1", "n2"}, set())
        self.assertEqual(len(found({"must": [{"key": "stock", "exists": False}]})), 99)  # all but the one seen
        self.ask("PUT", "/v1/items/n3", {"vector": [.5] * D, "attributes": {"stock": "none"}}, status=422)
        models = os.path.join(self.store, "models")
        shutil.copytree(self.models, models)
        intent("index", "--bundle", os.path.join(models, "toy"), "--compact", self.store)
        self.restart(models)
        self.assertEqual(found(left), {"n1", "n2"})

    def test_blocklists(self):
        self.assertEqual(self.ask("PUT", "/v1/blocklists/out", {"items": ["i1", 2, "i1"]}),
                         {"name": "out", "count": 2, "expires_at": None})
        short = self.ask("PUT", "/v1/blocklists/short", {"items": ["i1"], "ttl_seconds": .5})
        self.assertRegex(short["expires_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(self.ask("GET", "/v1/blocklists/short")["items"], ["i1"])
        time.sleep(.6)
        self.ask("GET", "/v1/blocklists/short", status=404)
        self.restart()
        self.ask("GET", "/v1/blocklists/short", status=404)
        self.assertEqual(self.ask("GET", "/v1/blocklists/out")["items"], ["i1", "2"])
        self.ask("DELETE", "/v1/blocklists/out")
        self.ask("DELETE", "/v1/blocklists/out")
        self.ask("GET", "/v1/blocklists/out", status=404)
        self.ask("PUT", "/v1/blocklists/" + "x" * 129, {"items": []}, status=422)

    def test_a_blocklist_is_of_all_models(self):
        models = os.path.join(self.store, "models")
        for name in ("toy", "other"):
            shutil.copytree(os.path.join(self.models, "toy"), os.path.join(models, name))
            for version in os.listdir(os.path.join(models, name)):
                manifest = os.path.join(models, name, version, "manifest.json")
                if os.path.exists(manifest):
                    with open(manifest) as f:
                        text = f.read()
                    with open(manifest, "w") as f:
                        f.write(text.replace('"name": "toy"', '"name": "%s"' % name))
        self.restart(models)
        self.ask("POST", "/v1/recommend", {"history": ["i1"]}, status=404)  # which of the two?
        self.ask("PUT", "/v1/blocklists/out", {"items": ["i5"]})
        self.assertEqual(self.ask("GET", "/v1/blocklists/out")["items"], ["i5"])
        for name in ("toy", "other"):
            got = self.ask("POST", "/v1/recommend", {"model": name, "history": ["i1"], "limit": 99, "exclude_lists": ["out"]})
            self.assertGreater(len(got["items"]), 90)
            self.assertNotIn("i5", [i["item_id"] for i in got["items"]])

    def test_metrics_count_them(self):
        self.ask("PUT", "/v1/items/i1", {"title": "a"})
        self.ask("DELETE", "/v1/items/i2")
        text = self.d.ask("GET", "/metrics")[2]
        self.assertIn('intentd_delta_items{model="toy"} 1', text)
        self.assertIn('intentd_tombstones{model="toy"} 1', text)
        self.assertIn('route="/v1/items/{id}",method="PUT",code="200"} 1', text)

    def test_compacted_beside_the_running_daemon(self):
        models = os.path.join(self.store, "models")
        shutil.copytree(self.models, models)
        self.restart(models)
        self.ask("POST", "/v1/items/batch", {"put": [{"item_id": "n1", "vector": [.5] * D, "title": "N"}], "delete": ["i3"]})
        intent("index", "--bundle", os.path.join(models, "toy"), "--compact", self.store)
        self.ask("PUT", "/v1/items/n2", {"vector": [.25] * D})  # the old version is still served
        self.restart(models)
        self.assertEqual(self.delta(), {"items": 1, "tombstones": 0, "other_space": 0})
        got = {i["item_id"]: i.get("source") for i in self.lookup("n1", "n2", "i3", "i4")}
        self.assertEqual(got, {"n1": "base", "n2": "delta", "i3": None, "i4": "base"})
        model = self.ask("GET", "/v1/models/toy")
        self.assertEqual((model["version"], model["items"]), ("2", 100))
        answer = self.d.post("/v1/recommend", {"history": ["i1", "i3"], "limit": 5})[2]
        self.assertEqual(answer["history"]["unknown"], 1)
        # a step back to a version that has the item does not bring it back
        shutil.rmtree(os.path.join(models, "toy", "2"))
        self.restart(models)
        self.assertTrue(self.ask("GET", "/v1/items/i3")["deleted"])
        self.assertEqual(self.delta()["tombstones"], 1)


class WithoutStore(unittest.TestCase):
    def test_items_are_read_and_not_changed(self):
        d = Daemon(daemon.bundle()[0])
        try:
            self.assertEqual(d.ask("GET", "/v1/items/i1")[0], 200)
            for method, path, body in [("DELETE", "/v1/items/i1", None), ("PUT", "/v1/items/i1", {"title": "a"}),
                                       ("POST", "/v1/items/batch", {"delete": ["i1"]}),
                                       ("PUT", "/v1/blocklists/x", {"items": []}), ("DELETE", "/v1/blocklists/x", None)]:
                status, _, problem = d.ask(method, path, json.dumps(body) if body else None, JSON if body else {})
                self.assertEqual((status, problem["code"]), (409, "no_store"))
                self.assertIn("--store", problem["detail"])
        finally:
            d.stop()


if __name__ == "__main__":
    unittest.main()

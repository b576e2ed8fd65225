"""kill -9 between any two writes of the item store loses no acknowledged change: writers put, delete and batch items and
blocklists while the daemon is killed at a random moment; started again, it has every change it acknowledged, and of one
that was under way all or nothing.

    python3 tests/e2e/kill_store.py [KILLS]      the long form: make store-kills"""
import http.client
import json
import random
import signal
import sys
import tempfile
import threading
import time
import unittest

from daemon import Daemon, JSON, bundle, tearDownModule  # noqa: F401 (unittest calls the last one)

KILLS = 20
WRITERS = 3
IDS = 60          # of a writer: half of them are the base's
LISTS = 4         # of a writer
LONGEST_S = .12   # a life of the daemon after it is ready


class Writer:
    """Changes ids and lists of its own, and remembers what was acknowledged."""

    def __init__(self, number, seed):
        self.rng = random.Random(seed)
        self.ids = [f"i{number * IDS // 2 + i}" for i in range(IDS // 2)] + [f"new{number}/{i}" for i in range(IDS // 2)]
        self.lists = [f"list{number}.{i}" for i in range(LISTS)]
        self.state = {}      # id or list -> what was acknowledged last: a count, or "gone"
        self.under_way = {}  # the same of the request that has no answer yet
        self.count = self.acknowledged = 0

    def item(self, name):
        self.count += 1
        body = {"title": f"t{self.count}", "attributes": {"n": self.count, "tag": [f"a{self.count}"]}}
        if name.startswith("new"):
            body["vector"] = [float(self.count)] * 16
        return self.count, body

    def draw(self):
        """(method, path, body, what it changes)"""
        kind = self.rng.randrange(10)
        if kind < 4:
            name = self.rng.choice(self.ids)
            n, body = self.item(name)
            return "PUT", "/v1/items/" + name.replace("/", "%2F"), body, {name: n}
        if kind < 6:
            name = self.rng.choice(self.ids)
            return "DELETE", "/v1/items/" + name.replace("/", "%2F"), None, {name: "gone"}
        if kind < 8:
            names = self.rng.sample(self.ids, self.rng.randint(2, 20))
            cut, put, change = self.rng.randint(0, len(names)), [], {}
            for name in names[:cut]:
                change[name], body = self.item(name)
                put.append({"item_id": name, **body})
            change.update((name, "gone") for name in names[cut:])
            return "POST", "/v1/items/batch", {"put": put, "delete": names[cut:]}, change
        name = self.rng.choice(self.lists)
        if kind == 8:
            return "DELETE", f"/v1/blocklists/{name}", None, {name: "gone"}
        self.count += 1
        return ("PUT", f"/v1/blocklists/{name}", {"items": [f"{self.count}"] * 2 + [f"i{k}" for k in range(self.count % 50)]},
                {name: self.count})

    def run(self, daemon):
        connection = daemon.connect()
        try:
            while True:
                method, path, body, change = self.draw()
                self.under_way = change
                connection.request(method, path, json.dumps(body) if body else None, JSON if body else {})
                reply = connection.getresponse()
                text = reply.read()
                if reply.status != 200:
                    raise AssertionError(f"{method} {path}: {reply.status} {text}")
                self.state.update(change)
                self.under_way = {}
                self.acknowledged += 1
        except (OSError, http.client.HTTPException):
            pass  # killed
        finally:
            connection.close()

    def seen_items(self, daemon):
        status, _, answer = daemon.post("/v1/items/lookup", {"items": self.ids})
        assert status == 200, answer
        for item in answer["items"]:
            title = item.get("title", "")
            if not item["known"] or item["deleted"]:
                yield item["item_id"], "gone"
            elif item["source"] == "delta":
                n = int(title[1:])
                assert item["attributes"] == {"n": n, "tag": [f"a{n}"]}, item
                yield item["item_id"], n

    def seen_lists(self, daemon):
        for name in self.lists:
            status, _, answer = daemon.ask("GET", f"/v1/blocklists/{name}")
            assert status in (200, 404), answer
            if status == 404:
                yield name, "gone"
                continue
            n = int(answer["items"][0])
            assert answer["items"][1:] == [f"i{k}" for k in range(n % 50)], answer
            yield name, n

    def check(self, daemon):
        seen = dict(self.seen_items(daemon))
        seen.update(self.seen_lists(daemon))
        # What nobody ever changed: a new item or a list is not there, the base's own answers.
        was = {name: self.state.get(name, None if name.startswith("i") else "gone") for name in self.ids + self.lists}
        for name in was:
            if name.startswith("new") and was[name] is None:
                was[name] = "gone"
            if name not in self.under_way and seen.get(name) != was[name]:
                raise AssertionError(f"{name} is {seen.get(name)}, {was[name]} was acknowledged")
        done = [seen.get(name) == value for name, value in self.under_way.items()]
        undone = [seen.get(name) == was[name] for name in self.under_way]
        if not all(done) and not all(undone):
            told = {name: (was[name], value, seen.get(name)) for name, value in self.under_way.items()}
            raise AssertionError(f"half of a request, as before, wanted, seen: {told}")
        if all(done):
            self.state.update(self.under_way)
        self.under_way = {}


def run(kills, report=None):
    models, _ = bundle()
    rng = random.Random(5)
    writers = [Writer(n, 100 + n) for n in range(WRITERS)]
    half, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="intentd-store-") as store:
        for kill in range(kills + 1):
            daemon = Daemon(models, "--store", store)
            try:
                half += sum(bool(w.under_way) for w in writers)
                for w in writers:
                    w.check(daemon)
                if kill == kills:
                    break
                threads = [threading.Thread(target=w.run, args=(daemon,)) for w in writers]
                for t in threads:
                    t.start()
                time.sleep(rng.random() * LONGEST_S)
            finally:
                daemon.signal(signal.SIGKILL)
                daemon.wait()
            for t in threads:
                t.join()
            if report and (kill + 1) % 100 == 0:
                report(f"{kill + 1} kills, {sum(w.acknowledged for w in writers)} acknowledged writes, "
                       f"{half} under way when killed, {time.monotonic() - start:.0f} s")
    return sum(w.acknowledged for w in writers)


class KillStore(unittest.TestCase):
    def test_no_acknowledged_change_is_lost(self):
        self.assertGreater(run(KILLS), KILLS)


if __name__ == "__main__":
    try:
        run(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS, lambda text: print(text, flush=True))
        print("no acknowledged change was lost")
    finally:
        tearDownModule()

"""The API over a real connection: answers, errors, negotiation, raw-socket abuse, load."""
import array
import base64
import json
import os
import random
import socket
import struct
import threading
import time
import unittest

import daemon
from daemon import JSON, Daemon, post_bytes

MIB = 1 << 20
WAIT = 30  # seconds
tearDownModule = daemon.tearDownModule


class Case(unittest.TestCase):
    """One daemon for the tests of a class."""
    args = []

    @classmethod
    def setUpClass(cls):
        cls.models, cls.histories = daemon.bundle()
        cls.d = Daemon(cls.models, *cls.args)

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()

    def recommend(self, **request):
        status, _, reply = self.d.post("/v1/recommend", request)
        self.assertEqual(status, 200, reply)
        return reply

    def ids(self, **request):
        return [item["item_id"] for item in self.recommend(**request)["items"]]

    def assert_problem(self, got, status, code, pointer=None):
        have, reply, body = got
        self.assertEqual(have, status, body)
        self.assertEqual(reply.getheader("Content-Type"), "application/problem+json")
        self.assertEqual((body["status"], body["code"]), (status, code))
        self.assertEqual(body["error"], body["detail"])
        self.assertEqual(body["request_id"], reply.getheader("X-Request-Id"))
        if pointer is not None:
            self.assertEqual(body["errors"][0]["pointer"], pointer)
        return body


class Api(Case):
    def test_recommends_what_was_not_seen(self):
        history = self.histories[0]
        reply = self.recommend(history=history, limit=5)
        self.assertEqual(len(reply["items"]), 5)
        self.assertFalse({i["item_id"] for i in reply["items"]} & set(history))
        scores = [i["score"] for i in reply["items"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertTrue(all(0 <= i["interest"] < 4 for i in reply["items"]))
        self.assertEqual(reply["model"]["name"], "toy")
        self.assertEqual(reply["history"], {"received": len(history), "used": len(history), "unknown": 0,
                                            "truncated": 0})
        self.assertIsNone(reply["fallback"])
        self.assertGreater(len(reply["recommendation_id"]), 10)
        self.assertGreater(reply["took_ms"], 0)

    def test_headers_of_a_reply(self):
        _, reply, _ = self.d.post("/v1/recommend", {"history": ["i1"]}, {"X-Request-Id": "abc-123"})
        self.assertEqual(reply.getheader("X-Request-Id"), "abc-123")
        self.assertEqual(reply.getheader("X-Model-Version"), "toy@1")
        self.assertEqual(reply.getheader("Cache-Control"), "no-store")
        self.assertEqual(reply.getheader("Content-Type"), "application/json")
        self.assertRegex(reply.getheader("Server-Timing"), r"encode;dur=[0-9.]+, search;dur=.*total;dur=[0-9.]+$")

    def test_request_ids_are_made_up_when_missing_or_unusable(self):
        seen = set()
        for headers in [{}, {}, {"X-Request-Id": "x" * 129}, {"X-Request-Id": "two words"}]:
            _, reply, _ = self.d.post("/v1/recommend", {}, headers)
            seen.add(reply.getheader("X-Request-Id"))
        self.assertEqual(len(seen), 4)
        self.assertTrue(all(len(i) == 16 for i in seen), seen)

    def test_forms_of_history_are_equal(self):
        plain = self.recommend(history=["i3", "i5", "i9"])["items"]
        self.assertEqual(self.recommend(history=[{"item_id": i} for i in ["i3", "i5", "i9"]])["items"], plain)
        timed = [{"item_id": "i9", "ts": "2026-11-22T18:04:13Z"}, {"item_id": "i3", "ts": 1795370651000},
                 {"item_id": "i5", "ts": "2026-11-22T19:04:12+01:00", "event": "click"}]
        self.assertEqual(self.recommend(history=timed)["items"], plain)

    def test_seen_and_excluded_items(self):
        history = self.histories[1]
        everything = self.ids(history=history, limit=1000, candidates_per_interest=1000, exclude_seen=False)
        self.assertEqual(len(everything), 100)
        self.assertTrue(set(history) <= set(everything))
        unseen = self.ids(history=history, limit=1000)
        self.assertEqual(set(unseen), set(everything) - set(history))
        gone = unseen[:3]
        self.assertEqual(self.ids(history=history, limit=1000, exclude_items=gone + ["nobody knows"]), unseen[3:])

    def test_fewer_interests_are_a_subset(self):
        reply = self.recommend(history=self.histories[2], interests=1, limit=50)
        self.assertEqual(len({i["interest"] for i in reply["items"]}), 1)

    def test_explain_says_which_interest_listened_to_what(self):
        history = self.histories[3]
        reply = self.recommend(history=history, explain=True, limit=3)
        for item in reply["items"]:
            scores = item["explain"]["scores_by_interest"]
            self.assertEqual(len(scores), 4)
            self.assertAlmostEqual(scores[item["interest"]], item["score"], places=5)
            self.assertTrue({e["item_id"] for e in item["explain"]["interest_history"]} <= set(history))
        self.assertEqual(len(reply["explain"]["interests"]), 4)

    def test_cold_start(self):
        for request, reason, unknown in [({}, "empty_history", 0), ({"history": []}, "empty_history", 0),
                                         ({"history": ["zzz", 42]}, "all_items_unknown", 2)]:
            reply = self.recommend(limit=4, **request)
            self.assertEqual(reply["fallback"], {"used": "popular", "reason": reason})
            self.assertEqual(len(reply["items"]), 4)
            self.assertEqual(reply["items"][0]["source"], "popular")
            self.assertEqual(reply["history"]["unknown"], unknown)
        self.assertEqual(self.recommend(fallback="none")["items"], [])
        got = self.d.post("/v1/recommend", {"history": ["i1", "zzz"], "unknown_items": "error"})
        self.assert_problem(got, 422, "unknown_items")

    def test_encode_formats_hold_the_same_vectors(self):
        request = {"history": self.histories[4]}
        status, reply, as_float = self.d.post("/v1/encode", request)
        self.assertEqual(status, 200, as_float)
        self.assertEqual(reply.getheader("X-Model-Version"), "toy@1")
        _, _, as_base64 = self.d.post("/v1/encode", {**request, "format": "base64"})
        self.assertEqual(len(as_float["interests"]), 4)
        self.assertEqual(as_float["dim"], 16)
        for f, b in zip(as_float["interests"], as_base64["interests"]):
            unpacked = struct.unpack("<16f", base64.b64decode(b["vector"]))
            again = [struct.unpack("<f", struct.pack("<f", x))[0] for x in f["vector"]]
            self.assertEqual(list(unpacked), again)
            self.assertEqual((f["index"], f["share"], f["active"]), (b["index"], b["share"], b["active"]))
        self.assertAlmostEqual(sum(f["share"] for f in as_float["interests"]), 1, places=5)
        _, _, nothing = self.d.post("/v1/encode", {"history": ["zzz"]})
        self.assertEqual((nothing["interests"], nothing["history"]["unknown"]), ([], 1))

    def test_models(self):
        _, _, reply = self.d.ask("GET", "/v1/models")
        self.assertEqual((reply["default"], reply["refused"]), ("toy", []))
        model = reply["models"][0]
        self.assertEqual((model["name"], model["version"], model["state"], model["default"]),
                         ("toy", "1", "ready", True))
        self.assertEqual((model["items"], model["dim"], model["interests"]), (100, 16, 4))
        self.assertEqual(self.d.ask("GET", "/v1/models/toy")[2], model)
        self.assert_problem(self.d.ask("GET", "/v1/models/nope"), 404, "model_not_found")
        self.assert_problem(self.d.post("/v1/recommend", {"model": "nope"}), 404, "model_not_found")
        self.assertEqual(self.recommend(model="toy", history=["i1"])["model"]["name"], "toy")

    def test_health_info_version(self):
        self.assertEqual(self.d.ask("GET", "/livez")[0], 200)
        for path in ["/readyz", "/healthz", "/health", "/ping", "/"]:
            status, _, reply = self.d.ask("GET", path)
            self.assertEqual((status, reply), (200, {"status": "ok", "model": "toy@1"}), path)
        self.assertIn("checks", self.d.ask("GET", "/readyz?verbose")[2])
        self.assertEqual(self.d.ask("GET", "/version")[2]["name"], "intentd")
        info = self.d.ask("GET", "/info")[2]
        self.assertEqual((info["threads"], info["limits"]["body_bytes"]), (2, 2 * MIB))

    def test_head_is_get_without_the_body(self):
        for path in ["/livez", "/readyz", "/v1/models", "/metrics", "/info"]:
            status, reply, body = self.d.ask("HEAD", path)
            self.assertEqual((status, body), (200, ""), path)
            self.assertGreater(int(reply.getheader("Content-Length")), 10)

    def test_metrics_count_what_was_asked(self):
        def counter(text, name):
            return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))
        ok = 'intentd_http_requests_total{route="/v1/recommend",method="POST",code="200"}'
        bad = 'intentd_http_requests_total{route="/v1/recommend",method="POST",code="422"}'
        empty = 'intentd_fallback_total{reason="empty_history"}'
        before = self.d.ask("GET", "/metrics")[2]
        self.recommend(history=["i1", "zzz"])
        self.recommend()
        self.d.post("/v1/recommend", {"limit": 0})
        deadline = time.time() + WAIT
        while True:  # a request is counted when its reply has left, which the client may see first
            after = self.d.ask("GET", "/metrics")[2]
            grown = [counter(after, n) - counter(before, n) for n in (ok, bad, empty)]
            if grown == [2, 1, 1] or time.time() > deadline:
                break
        self.assertEqual(grown, [2, 1, 1])
        unknown = 'intentd_history_items_total{kind="unknown"}'
        self.assertEqual(counter(after, unknown) - counter(before, unknown), 1)
        for name in ["intentd_ready 1", "intentd_index_items{model=\"toy\"} 100", "process_resident_memory_bytes",
                     "intentd_stage_duration_seconds_bucket{stage=\"encode\",le=\"+Inf\"}", "intentd_build_info{"]:
            self.assertIn(name, after)
        self.assert_prometheus(after)

    def assert_prometheus(self, text):
        """Every sample belongs to the family announced last; histograms are cumulative and end in +Inf."""
        family, kind, last = None, None, {}
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                _, _, family, kind = line.split(" ")
                continue
            if line.startswith("#"):
                continue
            name = line.split("{")[0].split(" ")[0]
            suffixes = ["_bucket", "_sum", "_count"] if kind == "histogram" else [""]
            self.assertIn(name, [family + s for s in suffixes], line)
            value = float(line.rsplit(" ", 1)[1])
            if name.endswith("_bucket"):
                series = line.split(",le=")[0]
                self.assertGreaterEqual(value, last.get(series, 0), line)
                last[series] = value



class Errors(Case):
    args = ["--request-timeout", "1.5"]

    def test_bodies(self):
        for body, status, code, pointer in [
                (b"", 400, "bad_json", None),
                (b"{", 400, "bad_json", None),
                (b'{"history": ["\xff"]}', 400, "bad_json", None),
                (b'{"history": ["a\0b"]}', 400, "bad_json", None),
                (b'{"history": [1]}\0', 400, "bad_json", None),
                (b"[" * 100000, 400, "bad_json", None),
                (b"[]", 400, "bad_type", ""),
                (b'{"history": "i1"}', 400, "bad_type", "/history"),
                (b'{"histroy": []}', 400, "unknown_field", "/histroy"),
                (b'{"limit": 0}', 422, "invalid_value", "/limit"),
                (b'{"limit": 1000000000}', 422, "invalid_value", "/limit"),
                (b'{"history": ["\\u0000"]}', 422, "invalid_value", "/history/0"),
                (b'{"merge": {"strategy": "best"}}', 422, "invalid_value", "/merge/strategy")]:
            with self.subTest(body=body[:40]):
                body_of = self.assert_problem(self.d.post("/v1/recommend", body), status, code, pointer)
                if pointer is None:
                    self.assertNotIn("errors", body_of)
        self.assertEqual(self.d.post("/v1/recommend?strict=false", {"histroy": []})[0], 200)

    def test_paths_and_methods(self):
        self.assert_problem(self.d.ask("GET", "/nope"), 404, "not_found")
        self.assert_problem(self.d.post("/v1/recommend/", {}), 404, "not_found")
        self.assert_problem(self.d.ask("GET", "/v1/models/"), 404, "not_found")
        self.assert_problem(self.d.ask("GET", "/%ff%00x"), 404, "not_found")
        for method, path, allow in [("GET", "/v1/recommend", "POST"), ("DELETE", "/v1/encode", "POST"),
                                    ("POST", "/livez", "GET, HEAD"), ("PUT", "/v1/models", "GET, HEAD"),
                                    ("OPTIONS", "/v1/recommend", "POST"), ("BREW", "/", "GET, HEAD")]:
            got = self.d.ask(method, path)
            self.assert_problem(got, 405, "method_not_allowed")
            self.assertEqual(got[1].getheader("Allow"), allow)

    def test_negotiation(self):
        self.assert_problem(self.d.post("/v1/recommend", {}, {"Content-Type": "text/plain"}), 415,
                            "unsupported_media_type")
        self.assert_problem(self.d.post("/v1/recommend", {}, {"Content-Encoding": "gzip"}), 415,
                            "unsupported_media_type")
        self.assert_problem(self.d.post("/v1/recommend", {}, {"Accept": "text/html"}), 406, "not_acceptable")
        self.assertEqual(self.d.post("/v1/recommend", {}, {"Accept": "text/html, */*;q=0.1"})[0], 200)
        self.assertEqual(self.d.post("/v1/recommend", {}, {"Content-Type": "application/json; charset=utf-8"})[0], 200)
        self.assertEqual(self.d.ask("GET", "/readyz", headers={"Accept": "text/html"})[0], 200)
        with self.d.raw() as c:
            c.send(b"POST /v1/recommend HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}")
            self.assertEqual(c.response()[0], 200)

    def test_a_refused_request_does_not_end_the_connection(self):
        c = self.d.connect()
        for _ in range(3):
            self.assertEqual(self.d.ask("POST", "/nope", b"x" * 5000, JSON, c)[0], 404)
            self.assertEqual(self.d.ask("DELETE", "/v1/models", b"x" * 5000, {}, c)[0], 405)
            self.assertEqual(self.d.post("/v1/recommend", {"limit": 0}, {}, c)[0], 422)
            self.assertEqual(self.d.post("/v1/recommend", {}, {}, c)[0], 200)
        c.close()

    def test_body_at_the_cap_and_beyond(self):
        at_cap = b'{"history": ["i1"]' + b" " * (2 * MIB - 19) + b"}"
        self.assertEqual(len(at_cap), 2 * MIB)
        self.assertEqual(self.d.post("/v1/recommend", at_cap)[0], 200)
        self.assert_problem(self.d.post("/v1/recommend", b" " + at_cap), 413, "body_too_large")
        self.assert_problem(self.d.post("/v1/recommend", b"x" * (3 * MIB)), 413, "body_too_large")

    def test_announced_body_beyond_the_cap_is_refused_at_once(self):
        with self.d.raw() as c:
            c.send(b"POST /v1/recommend HTTP/1.1\r\nHost: t\r\nContent-Length: 3000000000\r\n\r\n")
            status, headers, body = c.response()
            self.assertEqual((status, headers["connection"].lower()), (413, "close"))
            self.assertEqual(json.loads(body)["code"], "body_too_large")
            self.assertTrue(c.at_end())

    def test_chunked_bodies(self):
        def chunks(data, size):
            for i in range(0, len(data), size):
                part = data[i:i + size]
                yield b"%x\r\n%s\r\n" % (len(part), part)
            yield b"0\r\n\r\n"
        head = (b"POST /v1/recommend HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n")
        with self.d.raw() as c:
            c.send(head + b"".join(chunks(b'{"history": ["i1", "i2"]}', 3)))
            status, _, body = c.response()
            self.assertEqual((status, json.loads(body)["history"]["used"]), (200, 2))
            c.send(head + b"".join(chunks(b" " * (3 * MIB), 60000)))
            self.assertEqual(c.response()[0], 413)
            c.send(post_bytes(b"{}"))  # the connection is still good
            self.assertEqual(c.response()[0], 200)
            c.send(head + b"zzz\r\n")
            answer = c.response()
            self.assertTrue(answer is None or answer[0] == 400, answer)

    def test_endless_body_is_cut_off(self):
        with self.d.raw() as c:
            c.send(b"POST /v1/recommend HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
            with self.assertRaises((ConnectionError, socket.timeout)):
                while True:
                    c.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.assertEqual(self.d.ask("GET", "/livez")[0], 200)

    def test_expect_100_continue(self):
        expect = b"Expect: 100-continue\r\n\r\n"
        head = b"POST /v1/recommend HTTP/1.1\r\nHost: t\r\nContent-Type: %s\r\nContent-Length: 2\r\n" + expect
        with self.d.raw() as c:
            c.send(head % b"application/json")
            self.assertEqual(c.response()[0], 100)
            c.send(b"{}")
            self.assertEqual(c.response()[0], 200)
        with self.d.raw() as c:
            c.send(head % b"text/plain")
            self.assertEqual(c.response()[0], 415)  # before a byte of the body
            self.assertTrue(c.at_end())

    def test_slow_body_within_the_time_is_served(self):
        request = post_bytes(b'{"history": ["i1"]}')
        with self.d.raw() as c:
            for i in range(0, len(request), 16):
                c.send(request[i:i + 16])
                time.sleep(0.02)
            self.assertEqual(c.response()[0], 200)

    def test_silent_and_dripping_bodies_time_out(self):
        for drip in (False, True):
            with self.subTest(drip=drip), self.d.raw() as c:
                c.send(post_bytes(b"{}" + b" " * 1000, "X-Request-Id: slow")[:-990])
                start = time.time()
                if drip:
                    c.sock.settimeout(0.2)
                answer = None
                while answer is None and time.time() - start < WAIT:
                    try:
                        if drip:
                            c.send(b" ")
                        answer = c.response()
                        break
                    except socket.timeout:
                        continue
                    except ConnectionError:
                        break
                self.assertIsNotNone(answer)
                self.assertEqual(answer[0], 408)
                body = json.loads(answer[2])
                self.assertEqual((body["code"], body["request_id"]), ("body_timeout", "slow"))
                self.assertGreater(time.time() - start, 1)

    def test_huge_headers_and_lines(self):
        with self.d.raw() as c: # as a cookie and a token make them
            body = b'{"history":["i1"]}'
            c.send(b"POST /v1/recommend HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nCookie: " + b"x" * 5400 +
                   b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertEqual(c.response()[0], 200)
        with self.d.raw() as c:
            c.send(b"GET /livez HTTP/1.1\r\nHost: t\r\nX-Big: " + b"x" * 100000 + b"\r\n\r\n")
            answer = c.response()
            self.assertIn(answer[0], (413, 431))
        with self.d.raw() as c:
            c.send(b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\nHost: t\r\n\r\n")
            answer = c.response()
            self.assertIn(answer[0], (414, 431))

    def test_headers_of_any_size_are_answered(self):
        seen = set()
        for total in range(5000, 13000, 70):
            for each in (100, total):
                headers = [f"X-{i}: " + "y" * each for i in range(total // each)]
                with self.d.raw() as c:
                    c.send(post_bytes(b'{"history": ["i1"]}', *headers))
                    answer = c.response()
                    self.assertIsNotNone(answer, (total, each))
                    self.assertIn(answer[0], (200, 431))
                    seen.add((answer[0], answer[1].get("content-type")))
        self.assertIn((431, "application/problem+json"), seen)
        self.assertIn('route="/v1/recommend",method="POST",code="431"', self.d.ask("GET", "/metrics")[2])

    def test_pipelined_requests_are_answered_in_order(self):
        n = 20
        with self.d.raw() as c:
            c.send(b"".join(post_bytes(b'{"history": ["i%d"]}' % i, f"X-Request-Id: p{i}") if i % 3 else
                            b"GET /livez HTTP/1.1\r\nHost: t\r\nX-Request-Id: p%d\r\n\r\n" % i for i in range(n)))
            for i in range(n):
                status, headers, _ = c.response()
                self.assertEqual((status, headers["x-request-id"]), (200, f"p{i}"))

    def test_garbage_and_vanishing_clients(self):
        rng = random.Random(3)
        good = post_bytes(b'{"history": ["i1"]}')
        for i in range(120):
            with self.d.raw() as c:
                try:
                    if i % 4 == 0:
                        c.send(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400))) + b"\r\n\r\n")
                    elif i % 4 == 1:
                        c.send(good[:rng.randrange(1, len(good))])
                    elif i % 4 == 2:
                        mixed = bytearray(good)
                        mixed[rng.randrange(len(mixed))] = rng.randrange(256)
                        c.send(bytes(mixed))
                    else:
                        c.send(good)
                except ConnectionError:
                    pass
        self.assertEqual(self.d.post("/v1/recommend", {"history": ["i1"]})[0], 200)

    def test_http_1_0_and_close(self):
        with self.d.raw() as c:
            c.send(b"GET /livez HTTP/1.0\r\n\r\n")
            self.assertEqual(c.response()[0], 200)
            self.assertTrue(c.at_end())
        with self.d.raw() as c:
            c.send(post_bytes(b"{}", "Connection: close"))
            self.assertEqual(c.response()[0], 200)
            self.assertTrue(c.at_end())


class Load(Case):
    args = ["--max-connections", "40"]

    def test_concurrent_answers_are_the_lonely_ones(self):
        want = [self.recommend(history=h, limit=10)["items"] for h in self.histories[:40]]
        wrong = []

        def client(seed):
            rng, c = random.Random(seed), self.d.connect()
            for _ in range(40):
                i = rng.randrange(len(want))
                status, _, reply = self.d.post("/v1/recommend", {"history": self.histories[i], "limit": 10}, {}, c)
                if status != 200 or reply["items"] != want[i]:
                    wrong.append((status, reply))
            c.close()
        threads = [threading.Thread(target=client, args=(s,)) for s in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])


class Overload(Case):
    args = ["--max-connections", "3"]
    status = 429

    def test_connections_beyond_the_limit_are_told_to_come_back(self):
        held = [self.d.raw() for _ in range(3)]
        for c in held:  # an answer proves that the daemon knows the connection
            c.send(b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n")
            self.assertEqual(c.response()[0], 200)
        got = self.d.post("/v1/recommend", {"history": ["i1"]})
        self.assert_problem(got, self.status, "overloaded")
        self.assertEqual(got[1].getheader("Retry-After"), "1")
        self.assertEqual(self.d.ask("GET", "/readyz")[0], 200)
        self.assertIn('intentd_shed_total{reason="connections"} 1', self.d.ask("GET", "/metrics")[2])
        held[0].send(post_bytes(b'{"history": ["i1"]}'))
        self.assertEqual(held[0].response()[0], 200)
        for c in held:
            c.sock.close()
        deadline = time.time() + WAIT
        while self.d.post("/v1/recommend", {})[0] != 200:
            self.assertLess(time.time(), deadline)


class Overload503(Overload):
    args = ["--max-connections", "3", "--overload-status", "503"]
    status = 503


def item_weights(model_dir):
    """item.weight of a model's newest version: a list of rows, read as any safetensors reader would."""
    version = max((v for v in os.listdir(model_dir) if v.isdigit()), key=int)
    with open(os.path.join(model_dir, version, "model.safetensors"), "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        entry = json.loads(f.read(length))["item.weight"]
        f.seek(8 + length + entry["data_offsets"][0])
        flat = array.array("f", f.read(entry["data_offsets"][1] - entry["data_offsets"][0]))
    rows, width = entry["shape"]
    return [flat[r * width:(r + 1) * width] for r in range(rows)]


class Same(Case):
    """The daemon and `intent recommend` are one code path."""

    def assert_same(self, d, bundle, histories):
        lines = "".join(",".join(h) + "\n" for h in histories)
        offline = [json.loads(line) for line in
                   daemon.intent("recommend", "--bundle", bundle, "--stdin", "--json", "--limit", "20",
                                 stdin=lines).splitlines()]
        self.assertEqual(len(offline), len(histories))
        c = d.connect()
        for history, want in zip(histories, offline):
            status, _, got = d.post("/v1/recommend", {"history": history, "limit": 20}, {}, c)
            self.assertEqual(status, 200, got)
            for key in ("model", "items", "history", "fallback"):
                self.assertEqual(got[key], want[key])
        c.close()

    def assert_exact(self, d, bundle, histories, ids):
        """A flat index's answer is the exact ranking: max over active interests of phi . e, seen left out.
        ids: item ids in row order.  numpy makes it quick; without it a few users are checked."""
        try:
            import numpy
        except ImportError:
            numpy, histories = None, histories[:5]
        weights = item_weights(bundle)
        self.assertEqual(len(weights), len(ids))
        rows = {item: row for row, item in enumerate(ids)}
        table = numpy.array(weights) if numpy else None
        c = d.connect()
        for history in histories:
            _, _, got = d.post("/v1/recommend", {"history": history, "limit": 20}, {}, c)
            _, _, enc = d.post("/v1/encode", {"history": history}, {}, c)
            phi = [i["vector"] for i in enc["interests"] if i["active"]]
            if numpy:
                score = (table @ numpy.array(phi).T).max(axis=1)
            else:
                score = [max(sum(a * b for a, b in zip(p, w)) for p in phi) for w in weights]
            seen = {rows[item] for item in history[-1000:]}  # the newest 1000 are read
            best = sorted((-float(score[r]), r) for r in range(len(ids)) if r not in seen)[:20]
            self.assertEqual(len(got["items"]), len(best))
            for item, (want, _) in zip(got["items"], best):
                # equal up to float32's rounding: neighbours that close may change places
                self.assertAlmostEqual(item["score"], -want, delta=1e-5 * max(1, abs(want)))
                self.assertAlmostEqual(float(score[rows[item["item_id"]]]), -want, delta=1e-5 * max(1, abs(want)))
        c.close()

    def test_toy_users(self):
        self.assert_same(self.d, os.path.join(self.models, "toy"), self.histories)

    def test_all_users_of_the_demo(self):
        models = os.path.join(daemon.ROOT, "var/demo/models")
        ratings = os.path.join(daemon.ROOT, "models/ml-latest-small/ratings.csv")
        if not os.path.isdir(os.path.join(models, "films")):
            self.skipTest("no demo bundle: `make demo` makes one")
        users, ids = {}, {}
        with open(ratings) as f:
            next(f)
            for line in f:
                user, item, _, ts = line.split(",")
                users.setdefault(user, []).append((int(ts), item))
                ids.setdefault(item, None)
        histories = [[item for _, item in sorted(events, key=lambda e: e[0])] for events in users.values()]
        self.assertEqual(len(histories), 610)
        d = Daemon(models)
        try:
            self.assert_same(d, os.path.join(models, "films"), histories)
            self.assert_exact(d, os.path.join(models, "films"), histories, list(ids))
        finally:
            d.stop()


if __name__ == "__main__":
    unittest.main()

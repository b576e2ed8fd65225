"""Start, stop and drain of the daemon: no request is lost, nothing leaks, refusals give their reason."""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import daemon
from daemon import INTENTD, Daemon, post_bytes

tearDownModule = daemon.tearDownModule


def run(*args, env=None):
    """intentd to its end: (exit status, standard output, standard error)"""
    done = subprocess.run([INTENTD, *args], capture_output=True, text=True, timeout=daemon.WAIT_S,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout, done.stderr


class Start(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.models, cls.histories = daemon.bundle()

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="intentd-start-")
        self.addCleanup(shutil.rmtree, self.dir)

    def copy(self, name, damage=None):
        target = os.path.join(self.dir, name, "1")
        shutil.copytree(os.path.join(self.models, "toy", "1"), target)
        if damage:
            path = os.path.join(target, damage)
            with open(path, "r+b") as f:
                f.seek(os.path.getsize(path) // 2)
                byte = f.read(1)
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([byte[0] ^ 255]))
        return target

    def test_help_and_version(self):
        code, out, _ = run("--help")
        self.assertEqual(code, 0)
        for word in ["--models", "--listen", "--drain-delay", "INTENTD_", "curl", "--health-check", "(default"]:
            self.assertIn(word, out)
        code, out, _ = run("--version")
        self.assertEqual((code, out.split()[0]), (0, "intentd"))
        code, _, err = run(env={"INTENTD_VERSION": "1.2.3"})  # not a flag
        self.assertEqual(code, 2)
        self.assertIn("--models", err)

    def test_wrong_usage_is_2_and_says_what(self):
        for args, word in [([], "--models"), (["--thraeds", "2"], "did you mean 'threads'"), (["x"], "unexpected argument"),
                           (["--models", "x", "--threads", "many"], "whole number"),
                           (["--models", "x", "--overload-status", "500"], "429|503"),
                           (["--models", "x", "--listen", "8080"], "host:port"),
                           (["--models", "x", "--listen", "::1:80"], "[address]:port"),
                           (["--models", "x", "--config", "/nowhere.ini"], "/nowhere.ini")]:
            code, _, err = run(*args)
            self.assertEqual(code, 2, err)
            self.assertIn(word, err)

    def test_without_a_usable_model_it_refuses_to_start(self):
        listen = ["--listen", "127.0.0.1:0"]
        code, _, err = run("--models", os.path.join(self.dir, "absent"), *listen)
        self.assertEqual(code, 1, err)
        self.assertIn("No such file", err)
        code, _, err = run("--models", self.dir, *listen)
        self.assertEqual(code, 1, err)
        self.assertIn("<name>/<version>/manifest.json", err)
        bundle = self.copy("films", "model.safetensors")
        code, _, err = run("--models", self.dir, *listen)
        self.assertEqual(code, 1, err)
        self.assertIn("model.safetensors", err)
        self.assertIn("sha256", err)
        code, _, err = run("--models", bundle, *listen)
        self.assertEqual(code, 2, err)
        self.assertIn("two levels up", err)

    def test_a_bad_bundle_beside_a_good_one_is_skipped_and_shown(self):
        self.copy("broken", "items.bin")
        self.copy("toy")
        os.makedirs(os.path.join(self.dir, "empty"))
        d = Daemon(self.dir)
        try:
            _, _, reply = d.ask("GET", "/v1/models")
            self.assertEqual([m["name"] for m in reply["models"]], ["toy"])
            self.assertEqual([r["name"] for r in reply["refused"]], ["broken"])
            self.assertIn("items.bin", reply["refused"][0]["reason"])
            self.assertNotIn(self.dir, reply["refused"][0]["reason"])
            self.assertIn('intentd_model_loads_total{result="refused"} 1', d.ask("GET", "/metrics")[2])
            self.assertEqual(d.post("/v1/recommend", {"history": ["i1"]})[0], 200)
        finally:
            d.stop()

    def test_an_older_version_is_served_while_the_newest_cannot_be(self):
        self.copy("toy")
        shutil.copytree(os.path.join(self.dir, "toy", "1"), os.path.join(self.dir, "toy", "3"))  # says version 1
        os.makedirs(os.path.join(self.dir, "toy", "4"))  # reserved by a trainer
        d = Daemon(self.dir)
        try:
            _, _, reply = d.ask("GET", "/v1/models")
            self.assertEqual([(m["name"], m["version"]) for m in reply["models"]], [("toy", "1")])
            self.assertEqual([(r["name"], r["version"]) for r in reply["refused"]], [("toy", "4"), ("toy", "3")])
            self.assertEqual(sum("ev=model.refused model=toy" in line for line in d.log), 2)
            self.assertEqual(d.post("/v1/recommend", {"history": ["i1"]})[0], 200)
        finally:
            d.stop()

    def test_an_empty_variable_is_as_good_as_none(self):
        d = Daemon(self.models, env={"INTENTD_MODEL": "", "INTENTD_IDLE_TIMEOUT": ""})
        try:
            self.assertEqual(d.post("/v1/recommend", {"history": ["i1"]})[0], 200)
        finally:
            d.stop()

    def test_the_highest_version_and_the_model_that_is_named(self):
        _, other = daemon.make_bundle(os.path.join(self.dir), "other", seed=9)
        models = os.path.join(self.dir, "models")
        daemon.intent("train", "--data", os.path.join(self.dir, "data"), "--recipe",
                      os.path.join(daemon.ROOT, "models/recipes/demo.ini"), "--set", "epochs=1", "--set", "width=8",
                      "--set", "layers=1", "--out", os.path.join(models, "other"))
        shutil.copytree(os.path.join(self.models, "toy"), os.path.join(models, "toy"))
        d = Daemon(models)
        try:
            status, _, reply = d.post("/v1/recommend", {"history": other[0]})
            self.assertEqual((status, reply["code"]), (404, "model_not_found"))
            self.assertIn("other, toy", reply["detail"])
            _, _, reply = d.post("/v1/recommend", {"history": other[0], "model": "other"})
            self.assertEqual(reply["model"]["version"], "2")
            _, _, reply = d.post("/v1/recommend", {"history": other[0], "model": "toy"})
            self.assertEqual(reply["model"]["name"], "toy")
        finally:
            d.stop()
        d = Daemon(models, "--model", "other")
        try:
            self.assertEqual(d.post("/v1/recommend", {"history": other[0]})[2]["model"]["name"], "other")
        finally:
            d.stop()
        code, _, err = run("--models", models, "--model", "third", "--listen", "127.0.0.1:0")
        self.assertEqual(code, 1)
        self.assertIn("third", err)

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            code, _, err = run("--models", self.models, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        self.assertEqual(code, 1)
        self.assertIn("Address already in use", err)

    def test_flag_over_environment_over_file(self):
        path = os.path.join(self.dir, "intentd.ini")
        with open(path, "w") as f:
            f.write("# settings\n[intentd]\nmax_connections = 11\nrequest-timeout = 21\nidle_timeout = 31\n")
        d = Daemon(self.models, "--config", path, "--idle-timeout", "33",
                   env={"INTENTD_REQUEST_TIMEOUT": "22", "INTENTD_IDLE_TIMEOUT": "32"})
        try:
            limits = d.ask("GET", "/info")[2]["limits"]
        finally:
            d.stop()
        self.assertEqual((limits["connections"], limits["request_timeout_s"], limits["idle_timeout_s"]), (11, 22, 33))
        with open(path, "w") as f:
            f.write("max_conections = 11\n")
        code, _, err = run("--models", self.models, "--config", path)
        self.assertEqual(code, 2)
        self.assertIn(f"{path}:1", err)
        self.assertIn("max_connections", err)

    def test_health_check(self):
        d = Daemon(self.models)
        try:
            where = f"{d.host}:{d.port}"
            self.assertEqual(run("--health-check", "--listen", where)[0], 0)
            self.assertEqual(run("--health-check", env={"INTENTD_LISTEN": f"0.0.0.0:{d.port}"})[0], 0)
            self.assertEqual(run("--health-check", f"http://{where}/livez")[0], 0)
            code, _, err = run("--health-check", f"http://{where}/nope")
            self.assertEqual(code, 1)
            self.assertIn("404", err)
            self.assertEqual(run("--health-check", "ftp://x")[0], 2)
        finally:
            d.stop()
        self.assertEqual(run("--health-check", "--listen", where)[0], 1)

    def test_ipv6_takes_ipv4_too(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("no IPv6 here")
        d = Daemon(self.models, "--listen", "[::]:0")
        try:
            for host in ("127.0.0.1", "::1"):
                d.host = host
                self.assertEqual(d.ask("GET", "/readyz")[0], 200)
        finally:
            d.stop()

    def test_one_thread(self):
        d = Daemon(self.models, "--threads", "1")
        try:
            self.assertEqual(d.post("/v1/recommend", {"history": ["i1"]})[0], 200)
        finally:
            d.stop()

    def test_idle_connections_are_closed(self):
        d = Daemon(self.models, "--idle-timeout", "1")
        try:
            with d.raw() as new, d.raw() as used, d.raw() as dripping:
                used.send(b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n")
                self.assertEqual(used.response()[0], 200)
                start = time.time()
                dripping.send(b"GET /livez HTTP/1.1\r\nX-Drip: ")
                with self.assertRaises(OSError):
                    while time.time() - start < 20:
                        dripping.send(b"x")
                        time.sleep(0.1)
                self.assertTrue(new.at_end())
                self.assertTrue(used.at_end())
                self.assertLess(time.time() - start, 20)
        finally:
            d.stop()


    def test_who_does_not_read_the_reply_is_closed(self):
        store = tempfile.mkdtemp()
        d = Daemon(self.models, "--idle-timeout", "1", "--store", store)
        try:
            self.assertEqual(d.ask("PUT", "/v1/items/i1", json.dumps({"title": "x" * 1000}), daemon.JSON)[0], 200)
            with socket.socket() as c:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                c.settimeout(daemon.WAIT_S)
                c.connect((d.host, d.port))
                c.sendall(post_bytes(json.dumps({"items": ["i1"] * 9000}).encode(), path="/v1/items/lookup"))
                end = time.time() + daemon.WAIT_S
                while "intentd_connections 1\n" not in d.ask("GET", "/metrics")[2]:  # only the one that asks
                    self.assertLess(time.time(), end)
                    time.sleep(0.2)
                got = 0
                try:
                    while more := c.recv(1 << 16):
                        got += len(more)
                except ConnectionResetError:
                    pass
                self.assertLess(got, 9000 * 1000)
        finally:
            d.stop()
            shutil.rmtree(store)


    def test_without_descriptors_it_waits_for_one(self):
        d = Daemon(self.models)

        def spent():
            with open(f"/proc/{d.process.pid}/stat") as f:
                return sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")
        try:
            most = len(os.listdir(f"/proc/{d.process.pid}/fd")) + 8
            resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE, (most, most))
            crowd = [d.raw() for _ in range(30)]  # the kernel takes in those that the daemon cannot
            time.sleep(0.5)
            before = spent()
            time.sleep(1)
            self.assertLess(spent() - before, 0.5)
            for c in crowd:
                c.sock.close()
            self.assertEqual(d.ask("GET", "/readyz")[0], 200)
        finally:
            d.stop()


class Drain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.models, cls.histories = daemon.bundle()

    def test_readiness_goes_first_and_requests_are_still_served(self):
        d = Daemon(self.models, "--drain-delay", "3")
        kept = d.connect()
        self.assertEqual(d.post("/v1/recommend", {"history": ["i1"]}, connection=kept)[0], 200)
        d.signal()
        deadline = time.time() + daemon.WAIT_S
        while True:
            status, reply, body = d.ask("GET", "/readyz")
            if status == 503:
                break
            self.assertLess(time.time(), deadline)
        self.assertEqual(body["status"], "draining")
        self.assertEqual(reply.getheader("Retry-After"), "1")
        self.assertEqual(d.ask("GET", "/livez")[0], 200)
        self.assertIn("intentd_ready 0", d.ask("GET", "/metrics")[2])
        status, reply, _ = d.post("/v1/recommend", {"history": ["i1"]}, connection=kept)
        self.assertEqual((status, reply.getheader("Connection")), (200, "close"))
        self.assertEqual(d.wait(), 0, d.log)
        for event in ["drain.start", "drain.quiet", "stopped"]:
            self.assertTrue(any(f"ev={event}" in line for line in d.log), d.log)

    def load(self, d, n_clients, keep_alive, stop, lost, counts):
        def client(seed):
            connection, sent = None, seed
            while not stop.is_set():
                try:
                    if connection is None:
                        connection = d.connect()
                        connection.connect()
                except ConnectionRefusedError:
                    return  # nothing was sent: the port is closed
                try:
                    history = self.histories[sent % len(self.histories)]
                    status, reply, _ = d.post("/v1/recommend", {"history": history}, connection=connection)
                    sent += 1
                    counts[seed] = counts.get(seed, 0) + 1
                    if status != 200:
                        lost.append(status)
                    if not keep_alive or reply.getheader("Connection") == "close":
                        connection.close()
                        connection = None
                except Exception as e:  # whatever it is, a request got no answer
                    lost.append(repr(e))
                    return
        threads = [threading.Thread(target=client, args=(i,)) for i in range(n_clients)]
        for t in threads:
            t.start()
        return threads

    def drain_under_load(self, keep_alive, delay):
        d = Daemon(self.models, "--drain-delay", delay)
        stop, lost, counts = threading.Event(), [], {}
        threads = self.load(d, 12, keep_alive, stop, lost, counts)
        time.sleep(0.7)
        d.signal()
        for t in threads:
            t.join(daemon.WAIT_S)
        stop.set()
        self.assertEqual(d.wait(), 0, d.log)
        self.assertEqual(lost, [])
        self.assertGreater(sum(counts.values()), 20)

    def test_no_request_is_lost_on_kept_connections(self):
        self.drain_under_load(True, "0.5")

    def test_no_request_is_lost_on_new_connections(self):
        self.drain_under_load(False, "0.5")

    def test_a_request_that_is_still_arriving_is_answered(self):
        d = Daemon(self.models)
        request = post_bytes(b'{"history": ["i1"]}')
        with d.raw() as c, d.raw() as fresh:
            c.send(request[:-5])
            time.sleep(0.3)
            d.signal()
            fresh.send(request)
            deadline = time.time() + daemon.WAIT_S
            while not any("ev=drain.quiet" in line for line in d.log):
                self.assertLess(time.time(), deadline)
                time.sleep(0.02)
            self.assertEqual(fresh.response()[0], 200)
            c.send(request[-5:])
            status, headers, _ = c.response()
            self.assertEqual((status, headers["connection"].lower()), (200, "close"))
        self.assertEqual(d.wait(), 0, d.log)

    def test_a_drain_ends_at_its_timeout(self):
        d = Daemon(self.models, "--drain-timeout", "0.5", "--request-timeout", "60")
        with d.raw() as c:
            c.send(post_bytes(b"{}" + b" " * 100)[:-50])
            time.sleep(0.3)
            start = time.time()
            d.signal()
            self.assertEqual(d.wait(), 0, d.log)
            self.assertLess(time.time() - start, 20)
        self.assertTrue(any("ev=drain.timeout" in line for line in d.log), d.log)

    def test_a_second_interrupt_stops_at_once(self):
        d = Daemon(self.models, "--drain-delay", "300")
        d.signal(signal.SIGINT)
        deadline = time.time() + daemon.WAIT_S
        while not any("ev=drain.start" in line for line in d.log):
            self.assertLess(time.time(), deadline)
            time.sleep(0.02)
        d.signal(signal.SIGINT)
        self.assertEqual(d.wait(), 130)


if __name__ == "__main__":
    unittest.main()

"""What the end-to-end tests share: a toy bundle made by `intent`, a daemon on a free port, a raw HTTP connection.

INTENT_BIN and INTENTD_BIN name the programs (build/asan/ by default), DATA the test data."""
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INTENT = os.environ.get("INTENT_BIN", os.path.join(ROOT, "build/asan/intent"))
INTENTD = os.environ.get("INTENTD_BIN", os.path.join(ROOT, "build/asan/intentd"))
JSON = {"Content-Type": "application/json"}
WAIT_S = 60  # sanitizers on a busy machine are slow


def intent(*args, stdin=None):
    """Runs `intent`; its standard output."""
    done = subprocess.run([INTENT, *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"intent {' '.join(args)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def make_bundle(directory, name="toy", seed=7, items=100, prep=()):
    """<directory>/models/<name>/1 from 150 users with four tastes over the items i0 .. i99; the histories.
    prep: more arguments of `intent prep`."""
    rng = random.Random(seed)
    histories = []
    for _ in range(150):
        taste, n = rng.randrange(4), rng.randint(4, 20)
        histories.append([f"i{taste * (items // 4) + rng.randrange(items // 4)}" for _ in range(n)])
    text, data = os.path.join(directory, "seq.txt"), os.path.join(directory, "data")
    with open(text, "w") as f:
        for u, h in enumerate(histories):
            f.write(f"u{u} {' '.join(h)}\n")
    models = os.path.join(directory, "models")
    intent("prep", text, "--out", data, *prep)
    intent("train", "--data", data, "--recipe", os.path.join(ROOT, "models/recipes/demo.ini"), "--set", "epochs=2",
           "--set", "width=16", "--set", "layers=1", "--out", os.path.join(models, name))
    return models, histories


_shared = None


def bundle():
    """The toy bundle of this process, made once: (models directory, histories)."""
    global _shared
    if _shared is None:
        directory = tempfile.mkdtemp(prefix="intentd-e2e-")
        _shared = (directory, make_bundle(directory))
    return _shared[1]


def tearDownModule():
    global _shared
    if _shared is not None:
        shutil.rmtree(_shared[0])
        _shared = None


class Daemon:
    """A running intentd.  stop() insists on exit status 0, which a leak under ASan is not."""

    def __init__(self, models, *args, env=None):
        self.process = subprocess.Popen(
            [INTENTD, "--models", models, "--listen", "127.0.0.1:0", "--threads", "2", "--drain-delay", "0",
             "--queue-ms", "0", "--state-cache-mib", "8", *args],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.log, self.ready = [], threading.Event()
        self.host, self.port = None, None
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        if not self.ready.wait(WAIT_S) or self.port is None:
            self.process.kill()
            self.reader.join()
            raise AssertionError("the daemon did not start:\n" + "".join(self.log))

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"ev=ready addr=(\S+):(\d+)", line)
            if found:
                self.host, self.port = found[1], int(found[2])
                self.ready.set()
        self.ready.set()

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        code = self.process.wait(WAIT_S)
        self.reader.join()
        self.process.stderr.close()
        return code

    def stop(self):
        self.signal()
        code = self.wait()
        if code != 0:
            raise AssertionError(f"the daemon exited with {code}:\n" + "".join(self.log))

    def connect(self, timeout=WAIT_S):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, connection=None):
        """(status, headers, body as text or parsed JSON)"""
        c = connection or self.connect()
        try:
            c.request(method, path, body, headers or {})
            reply = c.getresponse()
            data = reply.read()
            kind = reply.getheader("Content-Type", "")
            return reply.status, reply, json.loads(data) if data and "json" in kind else data.decode()
        finally:
            if connection is None:
                c.close()

    def post(self, path, body, headers=None, connection=None):
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.ask("POST", path, data, {**JSON, **(headers or {})}, connection)

    def raw(self, timeout=WAIT_S):
        return Raw(socket.create_connection((self.host, self.port), timeout))


class Raw:
    """A socket with just enough HTTP to read what comes back."""

    def __init__(self, sock):
        self.sock, self.have = sock, b""

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _fill(self):
        more = self.sock.recv(65536)
        self.have += more
        return bool(more)

    def response(self):
        """(status, headers in lower case, body), or None when the connection ends first."""
        while b"\r\n\r\n" not in self.have:
            if not self._fill():
                return None
        head, self.have = self.have.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(self.have) < length:
            if not self._fill():
                raise AssertionError("the body is cut off")
        body, self.have = self.have[:length], self.have[length:]
        return int(lines[0].split()[1]), headers, body

    def at_end(self):
        """True when the other side closed and sent nothing more."""
        try:
            return not self.have and not self._fill()
        except ConnectionResetError:
            return True


def post_bytes(body, *headers, path="/v1/recommend"):
    """A whole request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

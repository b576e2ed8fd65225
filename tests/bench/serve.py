#!/usr/bin/python3
"""intentd beside the stack that one would build without it: FastAPI, uvicorn, PyTorch, FAISS.  One table in Markdown.

  make bench-serve [BUNDLE=DIR] [OUT=FILE.json] [ARGS="..."]         about ten minutes
  tests/bench/serve.py --only ours --conns 64 --seconds 3 --no-open  half a minute

Both serve the same bundle with the same index and get the same bodies from one load generator (bench_load), on the same
cores, taking turns.  Without --bundle it is Amazon Beauty with four interests, trained for a few epochs (kept in
var/bench): how good it is does not matter here, that its vectors were trained does.  --items N: its encoder over N items
around those (stack/widen.py), indexed as --index (auto, or what `intent import --index` knows) says.

  --only ours,stack,encoder   what to measure (default all)
  --conns 1,16,64,256         closed loop, --rounds (2) rounds of --seconds (5) each; the figures are medians
  --no-open                   not the open loop at half of the saturation rate and, --overload (60) seconds, at twice it
  --stack 8x1-jit             requests a call x threads of a worker - jit or compile; otherwise a probe chooses
  --daemon-args "..."         further options of intentd
  --overload-args "..."       and of the one that gets twice the saturation rate (--queue-ms 0.5)
  --out FILE                  all figures as JSON

What the words mean.  rps: answers with 200 in a second.  cpu us: processor time of the server (all its processes) over
requests.  saturation: the best rps of the closed loops.  predicted: what the stages' own times at one connection would
allow on the cores that the generator leaves: cores / (sum of the stages' times + the generator's own time), both for one
request.  lists: of 200 requests, those for which both answer the same items in the same order, but for scores within 1e-4.
"""
import argparse
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "..", ".."))
RELEASE = os.path.join(ROOT, "build", "release")
VENV = os.path.join(ROOT, "build", "bench-venv")
CACHE = os.path.join(ROOT, "var", "bench")
STACK = os.path.join(HERE, "stack")
DATA = os.environ.get("DATA", os.path.join(ROOT, "..", "shared", "data"))
CORES = len(os.sched_getaffinity(0))
PROBES = ("1x1-jit", "8x1-jit", "8x2-jit", "1x1-compile", "8x1-compile", "16x1-compile", "32x1-compile")


def say(text):
    print("bench-serve: " + text, file=sys.stderr, flush=True)


def intent(*args):
    log = os.path.join(CACHE, "intent.log")
    with open(log, "w") as f:
        if subprocess.run([os.path.join(RELEASE, "intent"), *args], stdout=f, stderr=f, check=False).returncode:
            sys.exit(f"bench-serve: intent {' '.join(args)} failed: see {log}")


# ---- what is served --------------------------------------------------------------------------

def beauty():
    """The version directory of the Beauty bundle, and its histories."""
    histories = os.path.join(DATA, "amazon-yelp", "Beauty.txt")
    models = os.path.join(CACHE, "models", "beauty")
    if not newest(models):
        say(f"training Beauty for a minute, once: {models}")
        data = os.path.join(CACHE, "data", "beauty")
        intent("prep", histories, "--out", data)
        intent("train", "--data", data, "--out", models, "--set", "epochs=3", "--no-test",
               "--recipe", os.path.join(ROOT, "models", "recipes", "interests.ini"))
        intent("index", "--bundle", models)
    return newest(models), histories


def wide(n_items, index):
    """The same of n_items items around Beauty's."""
    name = f"wide-{n_items}" + ("" if index == "auto" else "-" + index)
    made, models = os.path.join(CACHE, f"wide-{n_items}"), os.path.join(CACHE, "models", name)
    histories = os.path.join(made, "histories.txt")
    if not newest(models):
        say(f"making {n_items} items and their index, once (a graph of a million takes an hour): {models}")
        make_venv()
        bundle, source = beauty()
        data = os.path.join(CACHE, "data", name)
        run_python("widen.py", export(bundle, "safetensors"), source, str(n_items), made)
        intent("prep", os.path.join(made, "catalogue.txt"), "--out", data)
        intent("import", "--from", "safetensors", os.path.join(made, "model.safetensors"), "--data", data, "--out", models,
               "--index", index)
    return newest(models), histories


def newest(models):
    """Its newest version, or None."""
    versions = [v for v in (os.listdir(models) if os.path.isdir(models) else [])
                if os.path.exists(os.path.join(models, v, "manifest.json"))]
    return os.path.join(models, max(versions, key=int)) if versions else None


def write_bodies(path, histories, limit=20):
    """A request a line; a user's last item is what the model is asked to foresee, as in the evaluation."""
    with open(histories) as f, open(path, "w") as out:
        for line in f:
            items = line.split()[1:-1]
            if len(items) > 1:
                out.write(json.dumps({"history": items, "limit": limit}, separators=(",", ":")) + "\n")


def make_venv():
    wanted = os.path.join(STACK, "requirements.txt")
    done = os.path.join(VENV, "installed.txt")
    with open(wanted) as f:
        text = f.read()
    if os.path.exists(done) and open(done).read() == text:
        return
    python = os.environ.get("PYTHON_STACK", "python3.11")
    say(f"installing the stack into {VENV} (PyTorch's default package is large)")
    subprocess.run([python, "-m", "venv", VENV], check=True)
    subprocess.run([os.path.join(VENV, "bin", "pip"), "install", "-q", "--no-cache-dir", "-r", wanted], check=True)
    with open(done, "w") as f:
        f.write(text)


def run_python(script, *args, text=None):
    """Standard output of one of the stack's scripts."""
    return subprocess.run([os.path.join(VENV, "bin", "python"), os.path.join(STACK, script), *args], input=text, text=True,
                          stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}).stdout


# ---- servers ---------------------------------------------------------------------------------

class Server:
    """A server in a process group of its own."""

    def __init__(self, command, env, log, ready):
        self.log = log
        with open(log, "w") as f:
            self.process = subprocess.Popen(command, stdout=f, stderr=f, env={**os.environ, **env},
                                            start_new_session=True)
        try:
            self.url = self.wait(ready)
        except BaseException:
            self.stop()
            raise

    def wait(self, ready):
        """ready(text of the log): the URL, or None as long as it is not."""
        until = time.time() + 300
        while time.time() < until and self.process.poll() is None:
            with open(self.log) as f:
                url = ready(f.read())
            if url:
                return url
            time.sleep(.05)
        sys.exit(f"bench-serve: a server did not start: see {self.log}")

    def pids(self):
        """Of its session."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[3]) == self.process.pid:
                        found.append(pid)
            except OSError:
                pass  # it has ended
        return found

    def cpu_us(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat") as f:
                cells = f.read().rsplit(")", 1)[1].split()
            total += int(cells[11]) + int(cells[12])
        return total * 1e6 / os.sysconf("SC_CLK_TCK")

    def rss_mb(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as f:
                total += int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
        return round(total / 1024, 1)

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def start_daemon(bundle, args):
    """intentd with this bundle alone."""
    models = os.path.join(CACHE, "served")
    name, version = bundle.split(os.sep)[-2:]
    subprocess.run(["rm", "-rf", models], check=True)
    os.makedirs(os.path.join(models, name))
    os.symlink(bundle, os.path.join(models, name, version))
    return Server([os.path.join(RELEASE, "intentd"), "--models", models, "--listen", "127.0.0.1:0", "--drain-delay", "0",
                   *args], {}, os.path.join(CACHE, "intentd.log"),
                  lambda log: next((f"http://{m}" for m in re.findall(r"ev=ready addr=(\S+)", log)), None))


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_stack(exported, index, variant):
    batch, threads, way = re.fullmatch(r"(\d+)x(\d+)-(\w+)", variant).groups()
    port = free_port()
    env = {"STACK_MODEL": exported, "STACK_BATCH": batch, "STACK_THREADS": threads, "STACK_ENCODER": way,
           "OMP_NUM_THREADS": threads, "PYTHONDONTWRITEBYTECODE": "1"}
    if index:
        env["STACK_INDEX"] = index
    command = [os.path.join(VENV, "bin", "python"), "-m", "uvicorn", "app:app", "--app-dir", STACK, "--port", str(port),
               "--workers", str(CORES), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    url = f"http://127.0.0.1:{port}"
    return Server(command, env, os.path.join(CACHE, "stack.log"),
                  lambda log: url if log.count("Application startup complete") >= CORES else None)


# ---- measuring -------------------------------------------------------------------------------

def load(server, bodies, **options):
    """What bench_load prints, and the server's processor time per request."""
    command = [os.path.join(RELEASE, "bench_load"), "--json", "--url", server.url + "/v1/recommend", "--bodies", bodies]
    for name, value in options.items():
        command += ["--" + name, str(value)]
    before = server.cpu_us()
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(run.stdout)
    # The warm-up costs as well: the time is shared among all the requests there were.
    total = figures["replies"]
    figures["cpu_us"] = (server.cpu_us() - before) / max(1, total)
    return figures


def stage_totals(server):
    """{stage: [seconds, requests]} so far."""
    with urllib.request.urlopen(server.url + "/metrics") as reply:
        text = reply.read().decode()
    totals = {}
    for what, stage, value in re.findall(r'stage_duration_seconds_(sum|count){[^}]*stage="(\w+)"[^}]*} (\S+)', text):
        totals.setdefault(stage, [0, 0])[what == "count"] += float(value)
    return totals


def stage_us(before, after):
    return {s: 1e6 * (t[0] - before[s][0]) / max(1, t[1] - before[s][1]) for s, t in after.items()}


def isolated(server, bodies):
    """Stage times of requests that come one by one: of five short runs the one that was disturbed least."""
    best = None
    for seed in range(5):
        before = stage_totals(server)
        load(server, bodies, connections=1, seconds=1, warmup=.2, seed=seed)
        us = stage_us(before, stage_totals(server))
        if best is None or sum(us.values()) < sum(best.values()):
            best = us
    return best


def median_of(runs):
    """One figure of several: the run with the median rps, its percentiles replaced by the medians."""
    runs = sorted(runs, key=lambda r: r["ok_rps"])
    figures = dict(runs[len(runs) // 2])
    figures["ok_rps"] = statistics.median(r["ok_rps"] for r in runs)
    figures["cpu_us"] = statistics.median(r["cpu_us"] for r in runs)
    figures["ok_us"] = {k: statistics.median(r["ok_us"][k] for r in runs) for k in runs[0]["ok_us"]}
    figures["runs"] = [r["ok_rps"] for r in runs]
    return figures


def closed_loops(servers, bodies, args):
    """figures[name][connections]"""
    runs = {name: {c: [] for c in args.conns} for name in servers}
    for turn in range(args.rounds):
        for c in args.conns:
            for name, server in servers.items():
                stages = stage_totals(server) if name == "ours" else None
                r = load(server, bodies, connections=c, seconds=args.seconds, warmup=args.warmup, seed=turn)
                if stages:
                    r["stage_us"] = stage_us(stages, stage_totals(server))
                runs[name][c].append(r)
                say(f"{name}, {c} connections: {r['ok_rps']:.0f} rps, p99 {r['ok_us']['p99'] / 1e3:.2f} ms, "
                    f"{r['cpu_us']:.0f} us of processor time")
    return {name: {c: median_of(r) for c, r in by.items()} for name, by in runs.items()}


class Memory(threading.Thread):
    """Resident memory of a server, watched while something happens."""

    def __init__(self, server):
        super().__init__()
        self.server, self.mb, self.stopped = server, [], threading.Event()

    def run(self):
        while not self.stopped.wait(.25):
            self.mb.append(self.server.rss_mb())

    def __enter__(self):
        self.before = self.server.rss_mb()
        self.start()
        return self

    def __exit__(self, *what):
        self.stopped.set()
        self.join()
        self.after = self.server.rss_mb()


def open_loops(server, bundle, bodies, saturation, args):
    """At half of the saturation rate, and at twice it with what the memory does: there by a daemon told how long a request
    may wait."""
    half = load(server, bodies, connections=256, seconds=max(args.seconds, 5), warmup=args.warmup, rate=saturation / 2)
    short = start_daemon(bundle, args.daemon_args + args.overload_args)
    try:
        load(short, bodies, connections=64, seconds=3)  # what it keeps of histories is there
        with Memory(short) as memory:
            twice = load(short, bodies, connections=384, seconds=args.overload, warmup=args.warmup, rate=saturation * 2)
    finally:
        short.stop()
    twice["rss_mb"] = {"before": memory.before, "peak": max(memory.mb), "after": memory.after,
                       "middle": memory.mb[len(memory.mb) // 2]}
    return {"half": half, "twice": twice, "overload_args": args.overload_args}


def choose_stack(exported, index, bodies):
    """The fastest of the variants at 64 connections: what its builder would have found."""
    rps = {}
    for variant in PROBES:
        server = start_stack(exported, index, variant)
        try:
            rps[variant] = load(server, bodies, connections=64, seconds=2, warmup=1)["ok_rps"]
        finally:
            server.stop()
        say(f"stack {variant}: {rps[variant]:.0f} rps")
    return max(rps, key=rps.get), rps


def agreement(exported, bodies, servers):
    return json.loads(run_python("agree.py", exported, bodies, "200",
                                 *[s.url + "/v1/recommend" for s in servers.values()]))


def encoders(bundle, bodies):
    """us a history of our encoder, PyTorch's and onnxruntime's, for some lengths and for 512 of the bodies."""
    with open(bodies) as f:
        lengths = [len(json.loads(line)["history"]) for line, _ in zip(f, range(512))]
    names = ["1", "5", "10", "20", "50"]
    text = "\n".join(names + [" ".join(map(str, lengths))]) + "\n"
    ours = subprocess.run([os.path.join(RELEASE, "bench_encode"), bundle], input=text, text=True, check=True,
                          stdout=subprocess.PIPE).stdout
    us = {"intentd": [float(x) for x in ours.split()]}
    us.update(json.loads(run_python("encode.py", export(bundle, "safetensors"), export(bundle, "onnx"), text=text)))
    return {"cases": names + [f"the bodies' ({statistics.mean(lengths):.1f} on average)"], "us": us}


def predict(figures, stages):
    """rps that the isolated stages would allow."""
    busiest = max(figures.values(), key=lambda f: f["ok_rps"])
    return CORES * 1e6 / (sum(stages.values()) + busiest["own_cpu_us"])


# ---- the report ------------------------------------------------------------------------------

def ms(us):
    return f"{us / 1e3:.2f}"


def table(figures):
    lines = ["| | connections | rps | p50 ms | p99 ms | p99.9 ms | cpu us |", "|---|---|---|---|---|---|---|"]
    for c in sorted({c for by in figures.values() for c in by}):
        for name, by in figures.items():
            f = by[c]
            lines.append(f"| {name} | {c} | {f['ok_rps']:,.0f} | {ms(f['ok_us']['p50'])} | {ms(f['ok_us']['p99'])} | "
                         f"{ms(f['ok_us']['p99.9'])} | {f['cpu_us']:.0f} |")
    return lines


def open_lines(name, f, saturation):
    half, twice, said = f["half"], f["twice"], " ".join(f["overload_args"])
    refused = sum(n for s, n in twice["status"].items() if s in ("429", "503"))
    m = twice["rss_mb"]
    return [f"{name}, open loop at {saturation / 2:.0f} rps (half of saturation): p50 {ms(half['ok_us']['p50'])}, "
            f"p99 {ms(half['ok_us']['p99'])}, p99.9 {ms(half['ok_us']['p99.9'])} ms.",
            f"{name}, open loop at {saturation * 2:.0f} rps (twice), {said}, for {twice['seconds']:g} s: {twice['ok_rps']:.0f} rps with 200, "
            f"{refused / twice['seconds']:.0f} refused ({twice['refused_without_retry_after']} without Retry-After), "
            f"p99 of the accepted {ms(twice['ok_us']['p99'])} ms, of the refused {ms(twice['refused_us']['p99'])} ms; "
            f"unsent {twice['unsent']}, broken {twice['broken']}; resident {m['before']} MB before, {m['middle']} half-way, "
            f"{m['peak']} peak, {m['after']} after."]


def ours_lines(by, alone):
    names = list(alone)
    lines = ["", "| us a request by stage | " + " | ".join(names) + " | sum |", "|---" * (len(names) + 2) + "|"]
    rows = {"alone": alone, **{f"{c} connections": f["stage_us"] for c, f in sorted(by.items())}}
    for name, us in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{us[s]:.1f}" for s in names) + f" | {sum(us.values()):.1f} |")
    saturation, predicted = max(f["ok_rps"] for f in by.values()), predict(by, alone)
    lines += ["", f"Stages alone predict {predicted:,.0f} rps; saturation is {saturation:,.0f}: "
              f"{100 * saturation / predicted:.0f} % of it."]
    return lines


def report(result):
    lines = [f"{os.path.relpath(result['bundle'], ROOT)}: {result['items']:,} items, K = {result['interests']}, index "
             f"{result['index']['type']}; {CORES} cores shared with the generator, load average {result['loadavg']:.1f} before.",
             ""]
    figures = result.get("closed", {})
    if figures:
        lines += table(figures)
    if "ours" in figures:
        lines += ours_lines(figures["ours"], result["alone"])
    if len(figures) == 2:
        ratio = {c: figures["ours"][c]["ok_rps"] / figures["stack"][c]["ok_rps"] for c in figures["ours"]}
        lines += ["", "intentd serves " + ", ".join(f"{r:.1f} x at {c}" for c, r in sorted(ratio.items())) +
                  " connections what the stack serves."]
    if "stack_variants" in result:
        lines += ["", "Stack variants (requests a call x threads - way), 64 connections: " +
                  ", ".join(f"{v} {r:.0f}" for v, r in result["stack_variants"].items()) + " rps."]
    if "agreement" in result:
        lines += ["", agreement_line(result["agreement"], figures)]
    for name, f in result.get("open", {}).items():
        lines += [""] + open_lines(name, f, result["saturation"][name])
    if "encoder" in result:
        lines += encoder_lines(result["encoder"])
    return "\n".join(lines)


def agreement_line(a, names):
    same = f"{a['same_lists']} of {a['bodies']} lists are the same, scores differ by at most " \
           f"{a['largest_score_difference']:.1e}; " if "same_lists" in a else ""
    return same + "recall@20 against an exact scan: " + ", ".join(f"{n} {r:.4f}" for n, r in zip(names, a["recall"])) + "."


def encoder_lines(e):
    lines = ["", "| encoder alone, us a history, one thread; length | " + " | ".join(e["cases"]) + " |",
             "|---" * (len(e["cases"]) + 1) + "|"]
    for name, us in e["us"].items():
        lines.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in us) + " |")
    return lines


# ---- main ------------------------------------------------------------------------------------

def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle")
    p.add_argument("--histories", help="user-sequence text with the bundle's ids (default: Beauty's)")
    p.add_argument("--items", type=int)
    p.add_argument("--index", default="auto")
    p.add_argument("--only", default="ours,stack,encoder", type=lambda s: s.split(","))
    p.add_argument("--conns", default="1,16,64,256", type=lambda s: [int(c) for c in s.split(",")])
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--warmup", type=float, default=1)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--open", action=argparse.BooleanOptionalAction, default=True)
    p.add_argument("--overload", type=float, default=60)
    p.add_argument("--stack", default="auto")
    p.add_argument("--daemon-args", default="", type=shlex.split)
    p.add_argument("--overload-args", default="--queue-ms 0.5", type=shlex.split)
    p.add_argument("--out")
    return p.parse_args()


def what_to_serve(args):
    if args.bundle:
        histories = args.histories or os.path.join(DATA, "amazon-yelp", "Beauty.txt")
        bundle = os.path.realpath(args.bundle)
        return newest(bundle) or bundle, histories
    return wide(args.items, args.index) if args.items else beauty()


def export(bundle, form):
    """Its weights for others; made anew when the bundle is newer."""
    out = os.path.join(CACHE, "export-" + form, *bundle.split(os.sep)[-2:])
    manifest = os.path.join(bundle, "manifest.json")
    ids = os.path.join(out, "ids.txt")
    if not os.path.exists(ids) or os.path.getmtime(ids) < os.path.getmtime(manifest):
        intent("export", "--bundle", bundle, "--format", form, "--out", out)
    return out


def faiss_index(bundle, kind):
    """Its index when that is one of FAISS's own; else none: the stack scans."""
    return os.path.join(bundle, "index.faiss") if kind.startswith(("flat", "hnsw", "ivf")) else None


def serve(args, result, bundle, bodies):
    stack = "stack" in args.only
    exported = export(bundle, "safetensors") if stack else None
    index = faiss_index(bundle, result["index"]["type"])
    if stack and args.stack == "auto":
        args.stack, result["stack_variants"] = choose_stack(exported, index, bodies)
    servers = {}
    try:
        if "ours" in args.only:
            servers["ours"] = start_daemon(bundle, args.daemon_args)
            result["alone"] = isolated(servers["ours"], bodies)
        if stack:
            servers["stack"] = start_stack(exported, index, args.stack)
            result["agreement"] = agreement(exported, bodies, servers)
        result["closed"] = closed_loops(servers, bodies, args)
        result["saturation"] = {name: max(f["ok_rps"] for f in by.values()) for name, by in result["closed"].items()}
        if args.open:
            result["open"] = {name: open_loops(server, bundle, bodies, result["saturation"][name], args)
                              for name, server in servers.items() if name == "ours"}
    finally:
        for server in servers.values():
            server.stop()


def main():
    args = options()
    os.makedirs(CACHE, exist_ok=True)
    if "stack" in args.only or "encoder" in args.only:
        make_venv()
    bundle, histories = what_to_serve(args)
    bodies = os.path.join(CACHE, "bodies.jsonl")
    write_bodies(bodies, histories)
    with open(os.path.join(bundle, "manifest.json")) as f:
        manifest = json.load(f)
    result = {"bundle": bundle, "cores": CORES, "loadavg": os.getloadavg()[0], "items": manifest["items"],
              "interests": manifest["interests"], "index": manifest["index"]}
    if "encoder" in args.only:
        result["encoder"] = encoders(bundle, bodies)
    if "ours" in args.only or "stack" in args.only:
        serve(args, result, bundle, bodies)
    print(report(result))
    if args.out:
        with open(args.out, "w") as f:
            json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()

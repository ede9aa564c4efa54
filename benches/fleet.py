"""What the benchmarks on real processes share: Tritons, nodes in front of them, recordings, and the generator that plays
them. Everything is on loopback and ends with its `with` block. Only the standard library is used.

Where it is permitted all processes run under SCHED_RR: service times are slept, so it costs nobody anything, and whatever
else the machine does does not delay them.
"""
import concurrent.futures
import contextlib
import csv
import json
import math
import os
import pathlib
import random
import re
import secrets
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "triton"))
import lab  # noqa: E402

TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
PODS_PRIORITY, NODES_PRIORITY, LOAD_PRIORITY = 10, 10, 20

# Ports of nodes; tests take theirs from 26000 on, pods of tests and benchmarks from 18000.
NODE_PORTS = range(24000, 26000)


class BenchError(Exception):
    """What went wrong, with what to do about it."""


def build(*packages):
    """Release binaries, built together so that they share what they depend on."""
    chosen = [word for package in packages for word in ("--package", package)]
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bins", *chosen], cwd=ROOT, check=True)
    return [TARGET / "release" / package for package in packages]


def may_run_real_time():
    probe = "import os, sys; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))"
    return subprocess.run([sys.executable, "-c", probe], stderr=subprocess.DEVNULL, check=False).returncode == 0


def started(command, priority, **options):
    """The process of a command that ends when we do."""
    process = subprocess.Popen(lab.launched(list(map(str, command)), priority, tied=True), **options)
    return process


# ---- pods ----


class Tritons:
    """Triton servers for the length of a `with` block."""

    def __init__(self, count, models, folder, venv):
        self.count, self.models = count, models
        self.lab = lab.Lab(run=folder / "lab", venv=venv)

    def __enter__(self):
        self.lab.down()  # what a killed run may have left
        base = lab.free_base(self.count, first=22000)
        self.pods = self.lab.up(self.count, self.models, base=base, real_time=PODS_PRIORITY, tied=True)
        return self

    def __exit__(self, *_):
        self.lab.down()

    def urls(self):
        return [f"http://127.0.0.1:{pod.grpc}" for pod in self.pods]

    def both(self):
        """Where each takes gRPC, and where HTTP."""
        return [(f"http://127.0.0.1:{pod.grpc}", f"http://127.0.0.1:{pod.http}") for pod in self.pods]

    def counts(self, model):
        """Requests served and executions made, by all pods since they started."""
        stats = [ask(pod.http, f"/v2/models/{model}/stats")["model_stats"][0] for pod in self.pods]
        return tuple(sum(int(one[key]) for one in stats) for key in ("inference_count", "execution_count"))

    def wait_idle(self, model, limit=120):
        """Until nothing waits or runs any more: what is left of one run must not meet the next one."""
        end, last, since = time.monotonic() + limit, None, 0
        while time.monotonic() < end:
            now = self.counts(model)
            waiting = sum(self.pending(pod) for pod in self.pods)
            if waiting or now != last:
                last, since = now, time.monotonic()
            # The longest execution: what runs is not counted anywhere.
            elif time.monotonic() - since > 2.0:
                return
            time.sleep(0.1)
        raise BenchError(f"the pods are still busy {limit} s after the load ended")

    @staticmethod
    def pending(pod):
        with urllib.request.urlopen(f"http://127.0.0.1:{pod.metrics}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("nv_inference_pending_request_count"))


def ask(port, path, limit=5):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=limit) as answer:
        return json.loads(answer.read())


class Pods:
    """Pods of the demo, all in one process, for the length of a `with` block."""

    def __init__(self, binary, count, slow=1):
        command = [binary, "pod", "--until-stdin-ends", "--slow", slow, *["--grpc", "127.0.0.1:0"] * count]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.process, self.count = started(command, PODS_PRIORITY, **pipes), count

    def __enter__(self):
        said = [self.process.stdout.readline() for _ in range(self.count)]
        self.urls = [f"http://{match[1]}" for line in said if (match := re.search(r"ready on (\S+)", line))]
        if len(self.urls) != self.count:
            self.__exit__()
            raise BenchError(f"{len(self.urls)} of {self.count} pods started: {said}")
        return self.urls

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# ---- nodes ----


class Nodes:
    """`plimsoll node` processes that know each other, for the length of a `with` block. A pod is where it takes gRPC, or that and
    where it takes HTTP.
    """

    def __init__(self, binary, folder, count, pods, policy, extra=""):
        self.binary, self.folder, self.count, self.pods, self.policy, self.extra = binary, folder, count, pods, policy, extra
        self.processes, self.ports = [], []

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        secret = self.folder / "secret"
        secret.write_text(secrets.token_hex(32))
        secret.chmod(0o600)
        free = free_ports(3 * self.count)
        self.ports = [free[3 * index : 3 * index + 3] for index in range(self.count)]
        try:
            for index in range(self.count):
                self.start(index, secret)
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, index, secret):
        grpc, admin, gossip = self.ports[index]
        # Three peers are enough to find all: the rest is gossip's business.
        join = [f"127.0.0.1:{ports[2]}" for ports in self.ports[max(index - 3, 0) : index]]
        pods = "".join(table(k, *([pod] if isinstance(pod, str) else pod)) for k, pod in enumerate(self.pods))
        config = self.folder / f"node{index}.toml"
        config.write_text(
            f'[node]\nname = "node{index}"\ngrpc = "127.0.0.1:{grpc}"\nadmin = "127.0.0.1:{admin}"\n'
            f'gossip = "127.0.0.1:{gossip}"\njoin = {json.dumps(join)}\ncluster_secret_file = "{secret}"\n'
            f'[pick]\npolicy = "{self.policy}"\n{self.extra}\n{pods}'
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PLIMSOLL_")}
        with open(self.folder / f"node{index}.log", "wb") as log:
            command = [self.binary, "node", "--config", config]
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": environment | {"NO_COLOR": "1"}}
            self.processes.append(started(command, NODES_PRIORITY, **options))

    def wait_ready(self, limit=60):
        end = time.monotonic() + limit
        for index, (_, admin, _) in enumerate(self.ports):
            while not self.is_ready(admin):
                log = self.folder / f"node{index}.log"
                if self.processes[index].poll() is not None:
                    raise BenchError(f"node{index} ended while it started:\n{log.read_text()}")
                if time.monotonic() > end:
                    raise BenchError(f"node{index} is not ready, or does not know all others, after {limit} s; see {log}")
                time.sleep(0.05)

    def is_ready(self, admin):
        try:
            ask(admin, "/health/ready")
            members = ask(admin, "/v1/members")
        except (OSError, urllib.error.HTTPError):
            return False
        return sum(member["state"] == "alive" for member in members) == self.count

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def urls(self):
        return [f"http://127.0.0.1:{grpc}" for grpc, _, _ in self.ports]

    def view(self, index=0):
        return ask(self.ports[index][1], "/v1/view")

    def metrics(self, index):
        """Name, or name{labels}, to value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[index][1]}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}


def table(index, grpc, http=None):
    """A pod in a node's configuration."""
    return f'\n[[pods]]\nname = "pod{index}"\ngrpc = "{grpc}"\n' + (f'http = "{http}"\n' if http else "")


def free_ports(count):
    """Ports that nobody listens on, for TCP and UDP alike."""
    first = NODE_PORTS.start + secrets.randbelow(len(NODE_PORTS) - 1)
    order = [NODE_PORTS[(first - NODE_PORTS.start + k) % len(NODE_PORTS)] for k in range(len(NODE_PORTS))]
    free = [port for port in order if lab.is_free(port) and lab.is_free_udp(port)][:count]
    if len(free) < count:
        raise BenchError(f"no {count} free ports between {NODE_PORTS.start} and {NODE_PORTS.stop}")
    return free


# ---- load ----


@dataclass
class Mix:
    """Kinds of requests: share, bytes, mean service in ms; each service times a lognormal of `sigma`, of mean one."""

    name: str
    kinds: list
    sigma: float

    def mean_ms(self):
        return sum(share * ms for share, _, ms in self.kinds)

    def longest_ms(self):
        return max(ms for _, _, ms in self.kinds)

    def slower(self, factor):
        return Mix(self.name, [(share, size, ms * factor) for share, size, ms in self.kinds], self.sigma)

    def draw(self, rng):
        share = rng.random()
        for part, size, ms in self.kinds:
            if share < part:
                break
            share -= part
        return size, ms * math.exp(rng.gauss(0, self.sigma) - self.sigma**2 / 2)


# What looks large costs much, as in sim_gpu's law; nobody can tell the noise from the size.
MIXED = Mix("5 ms (85 %) and 120 ms (15 %)", [(0.85, 100, 5.0), (0.15, 5000, 120.0)], 0.3)
ONE_CLASS = Mix("20 ms", [(1.0, 739, 20.0)], 0.1)


def write_trace(path, seed, mix, rates, nodes):
    """A recording: Poisson arrivals of each (requests per second, seconds) in turn."""
    rng, begin = random.Random(seed), 0.0
    with open(path, "w") as file:
        file.write("at_us,node,model,bytes,service_us\n")
        for rate, seconds in rates:
            at = begin
            while (at := at + rng.expovariate(rate)) < begin + seconds:
                node = rng.randrange(nodes)
                size, ms = mix.draw(rng)
                file.write(f"{int(at * 1e6)},{node},,{size},{max(round(ms * 1e3), 1)}\n")
            begin += seconds
    return path


@dataclass
class Played:
    """What became of one recording; `rows` are those that began after `counted_from`."""

    said: dict
    rows: list

    def latencies_ms(self, keep=lambda row: True):
        return sorted(int(row["latency_us"]) / 1e3 for row in self.rows if row["latency_us"] and keep(row))

    def figures(self, small_us=None):
        """ms; `small` are those that take less than the mean."""
        every = self.latencies_ms()
        services = [int(row["service_us"]) for row in self.rows]
        small_us = small_us or (statistics.fmean(services) if services else 0)
        small = self.latencies_ms(lambda row: int(row["service_us"]) < small_us)
        late = sorted(int(row["late_us"]) / 1e3 for row in self.rows)
        return {
            "requests": len(self.rows),
            "errors": sum(not row["latency_us"] for row in self.rows) + self.said["unanswered"],
            "mean_ms": statistics.fmean(every) if every else math.nan,
            "p50_ms": quantile(every, 0.5),
            "p99_ms": quantile(every, 0.99),
            "small_p99_ms": quantile(small, 0.99),
            "late_p99_ms": quantile(late, 0.99),
        }

    def in_flight(self, begin_s, end_s):
        """The mean number in flight between two moments of the recording: what is unanswered stays."""
        total = 0.0
        for row in self.rows:
            begun = int(row["at_us"]) / 1e6
            ended = begun + int(row["latency_us"]) / 1e6 if row["latency_us"] else math.inf
            total += max(0.0, min(ended, end_s) - max(begun, begin_s))
        return total / (end_s - begin_s)


def quantile(ordered, share):
    """The smallest value that at least that share does not exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else math.nan


def play(generator, trace, targets, model, out, counted_from=0.0, choose="node", batches=False, give_up_at=None, drain_s=10, streams=None):
    """Plays a recording against targets."""
    command = [generator, "--trace", trace, "--model", model, "--choose", choose, "--out", out, "--drain-s", drain_s]
    command += [word for url in targets for word in ("--target", url)]
    command += ["--batches"] if batches else []
    command += ["--give-up-at", give_up_at] if give_up_at else []
    command += ["--streams", streams] if streams else []
    process = started(command, LOAD_PRIORITY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, complaint = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise BenchError(f"{' '.join(map(str, command[:3]))} ... ended with {process.returncode}: {complaint.strip()}")
    with open(out, newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["at_us"]) >= counted_from * 1e6]
    return Played(json.loads(said), rows)


class Background:
    """A call on a thread of its own, for the length of a `with` block; result() waits for it."""

    def __init__(self, call):
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.call = call

    def __enter__(self):
        return self.pool.submit(self.call)

    def __exit__(self, *_):
        self.pool.shutdown()


@contextlib.contextmanager
def told():
    """Ends a benchmark with one line where it cannot go on, and what it started with it, also when it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except (BenchError, lab.LabError) as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as failed:
        sys.exit(f"error: {' '.join(map(str, failed.cmd[:4]))} ended with {failed.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)

"""The ways from callers to pods that are compared, and the processes that they take."""
import contextlib
import json
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field

import install
import settings
from install import fleet

# One for all: callers, pods and what stands between them wait for their turns alike.
PRIORITY = 10
READY_WITHIN_S = 20


@dataclass(frozen=True)
class Way:
    """`by` is how callers go (see caller/src/way.rs), `kind` the process in between, `said` what it is and how it is set."""

    name: str
    by: str
    kind: str | None
    said: str


WAYS = {
    way.name: way
    for way in (
        Way("direct", "address", None, "no balancer: one pod"),
        Way("plimsoll-node", "address", "plimsoll", "the gRPC front, all defaults; a node beside each caller"),
        Way("plimsoll-library", "library", None, "the channel in the caller, all defaults"),
        Way("nginx", "address", "nginx", "least_conn, grpc_pass, upstream keepalive 512, keepalive_requests 1e9"),
        Way("haproxy", "address", "haproxy", "leastconn, HTTP/2 on both sides, http-reuse always, nbthread 1"),
        Way("envoy", "address", "envoy", "LEAST_REQUEST with FULL_SCAN, concurrency 1, no breakers, route timeout 0"),
        Way("envoy-p2c", "address", "envoy-p2c", "the same with Envoy's default, the better of two random hosts"),
        Way("pingora", "address", "pingora", "fewest in flight (written by hand), HTTP/2 on both sides, one thread"),
        Way("tower-pending", "tower-pending", None, "in the caller: tower's Balance by PendingRequests, a tonic channel to each pod"),
        Way("tower-ewma", "tower-ewma", None, "the same by PeakEwma (30 ms, 10 s), as linkerd sets it"),
        Way("redis", "redis", "redis", "in the caller: ZRANGE and ZINCRBY in Lua by EVALSHA, released off the request's way, no persistence"),
    )
}


@dataclass
class Tools:
    """Programs, by the name of what they are for; `said` are their versions."""

    programs: dict
    said: dict


def tools(names, plimsoll=None, perf=True):
    """Sets up what these ways need; `plimsoll` is one to use instead of building it, `perf` says whether perf_analyzer is wanted."""
    kinds = {WAYS[name].kind for name in names}
    packages = ["peers-caller", *(["peers-pingora"] if "pingora" in kinds else [])]
    install.say("building (the first time takes minutes)")
    programs = dict(zip(packages, install.build(*packages), strict=True))
    programs["plimsoll"] = plimsoll or fleet.build("plimsoll")[0]
    said = {"plimsoll": install.version([programs["plimsoll"], "--version"])}
    for kind, name, flag in (("haproxy", "haproxy", "-v"), ("nginx", "nginx", "-v"), ("redis", "redis-server", "--version")):
        if kind in kinds:
            programs[kind] = install.program(name)
            said[kind] = install.version([programs[kind], flag])
    if kinds & {"envoy", "envoy-p2c"}:
        programs["envoy"] = programs["envoy-p2c"] = install.envoy()
        said["envoy"] = install.version([programs["envoy"], "--version"])
    if perf:
        programs["perf_analyzer"] = install.perf_analyzer()
        said["perf_analyzer"] = install.PERF_ANALYZER
    for crate in ("tower", "redis", "tonic", *(["pingora-proxy"] if "pingora" in kinds else [])):
        said[f"crate {crate}"] = install.crate_version(crate)
    return Tools(programs, said)


def pinned(command, core):
    """The command on one core, or anywhere."""
    return [shutil.which("taskset"), "-c", str(core), *command] if core is not None else command


@dataclass
class Running:
    """Processes that run, and what callers must be told to go their way."""

    way: Way
    to: list
    processes: list = field(default_factory=list)
    redis: str | None = None

    def words(self):
        """The caller's arguments."""
        words = ["--by", self.way.by, *(word for url in self.to for word in ("--to", url))]
        return words + (["--redis", self.redis] if self.redis else [])

    def cpu_us(self):
        """CPU that the processes in between used so far. To the nanosecond: utime and stime go by hundredths of a second."""
        tasks = [task for process in self.processes for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3

    def memory_kb(self, key="VmRSS"):
        return sum(memory_kb(process.pid, key) for process in self.processes)

    def forget_peak(self):
        for process in self.processes:
            pathlib.Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def memory_kb(pid, key):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


class World:
    """Pods and ways on this machine, for the length of a `with` block: what it started ends with it."""

    def __init__(self, tools, folder):
        self.tools, self.folder, self.processes = tools, folder, []

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, label, command, core):
        log = open(self.folder / f"{label}.log", "wb")  # noqa: SIM115, the process has it
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": install.environment()}
        with log:
            process = fleet.started(pinned(command, core), PRIORITY, **options)
        self.processes.append(process)
        return process

    def pods(self, count, core=None):
        """The ports of so many pods with a slot each, all in one process."""
        ports = fleet.free_ports(count)
        flags = [word for port in ports for word in ("--grpc", f"127.0.0.1:{port}")]
        process = self.start(f"pods-{ports[0]}", [self.tools.programs["plimsoll"], "pod", *flags], core)
        for port in ports:
            self.wait_open(f"pods-{ports[0]}", process, port)
        return ports

    def way(self, name, pods, callers=1, core=None):
        """What stands between so many callers and `pods`: one process for all, or for each caller where `callers` says so."""
        way = WAYS[name]
        to = [f"http://127.0.0.1:{port}" for port in pods]
        if way.kind is None:
            return Running(way, to[:1] if name == "direct" else to)
        if way.kind == "plimsoll":
            return self.nodes(way, pods, callers, core)
        if way.kind == "redis":
            port, process = self.proxy(way.kind, pods, core)
            return Running(way, to, [process], f"redis://127.0.0.1:{port}")
        started = [self.proxy(way.kind, pods, core) for _ in range(callers)]
        return Running(way, [f"http://127.0.0.1:{port}" for port, _ in started], [process for _, process in started])

    def proxy(self, kind, pods, core):
        port = fleet.free_ports(1)[0]
        label = f"{kind}-{port}"
        process = self.start(label, self.command(kind, port, pods, label), core)
        self.wait_open(label, process, port)
        return port, process

    def command(self, kind, port, pods, label):
        program = self.tools.programs["peers-pingora" if kind == "pingora" else kind]
        if kind == "redis":
            return [program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if kind == "pingora":
            return [program, "--listen", f"127.0.0.1:{port}", *(word for pod in pods for word in ("--pod", f"127.0.0.1:{pod}"))]
        written = self.folder / f"{label}.{'yaml' if 'envoy' in kind else 'conf'}"
        if kind == "nginx":
            state = self.folder / label
            state.mkdir(exist_ok=True)
            written.write_text(settings.nginx(port, pods, state))
            return [program, "-p", state, "-e", state / "nginx.err", "-c", written]
        if kind == "haproxy":
            written.write_text(settings.haproxy(port, pods))
            return [program, "-db", "-f", written]
        written.write_text(settings.envoy(port, pods, "FULL_SCAN" if kind == "envoy" else "N_CHOICES"))
        return [program, "-c", written, "--concurrency", 1, "--disable-hot-restart", "--log-level", "warning"]

    def nodes(self, way, pods, count, core):
        free = fleet.free_ports(3 * count)
        ports = [free[3 * index : 3 * index + 3] for index in range(count)]
        secret = self.folder / "secret"
        if not secret.exists():
            secret.write_text(secrets.token_hex(32))
            secret.chmod(0o600)
        processes = []
        for index in range(count):
            label = f"plimsoll-{ports[index][0]}"
            written = self.folder / f"{label}.toml"
            join = [gossip for _, _, gossip in ports[:index]]
            written.write_text(settings.plimsoll(index, ports[index], pods, join, secret))
            processes.append(self.start(label, [self.tools.programs["plimsoll"], "node", "--config", written], core))
        for index, (grpc, admin, _) in enumerate(ports):
            self.wait(f"plimsoll-{grpc}", processes[index], lambda admin=admin: knows(admin, count))
        return Running(way, [f"http://127.0.0.1:{grpc}" for grpc, _, _ in ports], processes)

    def wait_open(self, label, process, port):
        def is_open():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        self.wait(label, process, is_open)

    def wait(self, label, process, is_ready):
        end = time.monotonic() + READY_WITHIN_S
        while not is_ready():
            log = self.folder / f"{label}.log"
            if process.poll() is not None:
                raise fleet.BenchError(f"{label} ended while it started: {log.read_text(errors='replace')[-1000:]}")
            if time.monotonic() > end:
                raise fleet.BenchError(f"{label} is not there after {READY_WITHIN_S} s; see {log}")
            time.sleep(0.02)


def knows(admin, count):
    """Whether a node is ready and knows all others."""
    try:
        fleet.ask(admin, "/health/ready")
        members = fleet.ask(admin, "/v1/members")
    except OSError:
        return False
    return sum(member["state"] == "alive" for member in members) == count


def call(tools, words, core=None, limit_s=120):
    """Runs the caller to its end; what it printed."""
    command = pinned([tools.programs["peers-caller"], *words], core)
    process = fleet.started(command, PRIORITY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, complaint = process.communicate(timeout=limit_s)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise fleet.BenchError(f"{' '.join(map(str, words))} ended with {process.returncode}: {complaint.strip()}")
    return json.loads(said)

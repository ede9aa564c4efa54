#!/usr/bin/env python3
"""Real Triton servers on loopback, from the binary inside the nvidia-pytriton wheel. No GPU, no container.

    tests/triton/lab.py up 4 --models sim_gpu,sim_batch     start four, wait until ready, print one line of JSON
    tests/triton/lab.py status | down
    tests/triton/lab.py kill 2 | term 2 | stop 2 | cont 2   SIGKILL, SIGTERM, SIGSTOP, SIGCONT
    tests/triton/lab.py kill-model 2 sim_gpu                the server lives on and answers INTERNAL
    tests/triton/lab.py restart 2                           the same ports again, a new life
    tests/triton/lab.py slow 2 3.5                          pod 2 serves 3.5 times slower from now on; 1 puts it back
    tests/triton/lab.py sicken 2                            pod 2 fails every request at once; slow 2 1 heals it

Pod i listens on base + 10 i (HTTP), + 1 (gRPC) and + 2 (metrics). State and logs are under target/triton, the wheel in
target/venv (tests/run makes it); PLIMSOLL_LAB_RUN and PLIMSOLL_LAB_VENV put them elsewhere. Only the standard library is
used here, so any Python from 3.11 on can run it; the servers run the venv's own Python.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target"
RUN = pathlib.Path(os.environ.get("PLIMSOLL_LAB_RUN", TARGET / "triton"))
VENV = pathlib.Path(os.environ.get("PLIMSOLL_LAB_VENV", TARGET / "venv"))
MODELS = HERE / "models"
STOCK = HERE / "stock"  # models by the names that NVIDIA's own example clients ask for

# Ports from here on up to the ephemeral range, where the kernel's own choices would collide with ours.
FIRST_PORT, END_PORT = 18000, 32768
PORTS_PER_POD = 10


class LabError(Exception):
    """What went wrong, with what to do about it."""


@dataclass
class Pod:
    """One Triton server: where it listens, how it was started, which process it is."""

    name: str
    index: int
    http: int
    grpc: int
    metrics: int
    models: list
    flags: list = field(default_factory=list)
    real_time: int = 0
    tied: bool = False
    pid: int = 0
    born: str = ""  # the process's start time: a recycled pid is not our pod

    def alive(self):
        return bool(self.born) and start_time(self.pid) == self.born

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def signal(self, number):
        """Signals the server alone, as an operator or the out-of-memory killer would."""
        if self.alive():
            os.kill(self.pid, number)

    def signal_group(self, number):
        """Signals the server and its model processes; start_new_session made them one group."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive() or group_lives(self.pid):
                os.killpg(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait_dead()

    def term(self):
        self.signal(signal.SIGTERM)

    def stop(self):
        self.signal_group(signal.SIGSTOP)

    def cont(self):
        self.signal_group(signal.SIGCONT)

    def kill_model(self, model):
        """Kills the process of one model. The server lives on, calls itself ready, and answers INTERNAL for ever."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_text().split("\0")
                if words[0].endswith("python_backend_stub") and str(self.pid) in words and f"{model}_0_0" in words:
                    os.kill(int(process.name), signal.SIGKILL)
                    return
        raise LabError(f"{self.name} (pid {self.pid}) runs no process for {model}")

    def wait_dead(self, limit=20.0):
        end = time.monotonic() + limit
        while self.alive():
            if time.monotonic() > end:
                raise LabError(f"{self.name} (pid {self.pid}) still runs {limit:g} s after its signal")
            time.sleep(0.01)
            reap(self.pid)


def start_time(pid):
    """When a process started, in clock ticks since boot; empty if it is gone or only waits to be reaped."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def group_lives(pgid):
    """Whether model processes outlive their killed server: group `pgid` has members, and all of them are Triton's."""
    members = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, rest = stat.read_text().rsplit(")", 1)
            state, _, group = rest.split()[:3]
            if group == str(pgid) and state not in "ZX":
                members.append(name.split("(", 1)[1])
    return bool(members) and all(name.startswith("triton") for name in members)


def reap(pid):
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_free_udp(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_base(count, first=FIRST_PORT):
    """The first base whose whole block of `count` pods is free."""
    for base in range(first, END_PORT - count * PORTS_PER_POD, PORTS_PER_POD * count):
        if all(is_free(base + PORTS_PER_POD * i + k) for i in range(count) for k in range(3)):
            return base
    raise LabError(f"no {count * PORTS_PER_POD} free ports in a row between {first} and {END_PORT}")


class Lab:
    """The pods of one run directory. Everything about them is on disk, so that any process can go on with them.

    Models are loaded only when asked for (explicit model control): those of up() at the start, others by a client. `models`
    is the folder they are in, or several.
    """

    def __init__(self, run=RUN, venv=VENV, models=MODELS):
        self.run, self.venv = pathlib.Path(run), pathlib.Path(venv)
        self.repositories = [pathlib.Path(folder) for folder in (models if isinstance(models, (list, tuple)) else [models])]

    # ---- what a user calls ----

    def up(self, count, models, base=0, flags=(), real_time=0, tied=False, limit=60.0):
        """Starts `count` pods and waits until all are ready. `base` 0 finds free ports; `tied` pods die with us."""
        if self.pods():
            raise LabError(f"pods of an earlier run are in {self.run}; end them first: lab.py down")
        base = base or free_base(count)
        pods = []
        for i in range(count):
            http = base + PORTS_PER_POD * i
            pods.append(Pod(f"pod{i}", i, http, http + 1, http + 2, list(models), list(flags), real_time, tied))
        try:
            for pod in pods:
                self.start(pod)
            self.wait_ready(pods, limit)
        except BaseException:
            self.down()
            raise
        return pods

    def start(self, pod):
        """Starts one pod and returns at once; wait_ready() is the second half."""
        for port in (pod.http, pod.grpc, pod.metrics):
            if not is_free(port):
                raise LabError(f"port {port} is taken; see `lab.py status`, or give another --base")
        self.run.mkdir(parents=True, exist_ok=True)
        self.slow(pod, 1)
        with open(self.log(pod), "ab") as log:
            process = subprocess.Popen(
                launched(self.command(pod), pod.real_time, pod.tied),
                env=self.environment(pod),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pod.pid, pod.born = process.pid, start_time(process.pid)
        process.returncode = 0  # the lab reaps by pid: keep Popen from warning that it still runs
        self.state(pod).write_text(json.dumps(asdict(pod)))

    def wait_ready(self, pods, limit=60.0):
        end = time.monotonic() + limit
        for pod in pods:
            while not pod.ready():
                reap(pod.pid)
                if not pod.alive():
                    raise LabError(f"{pod.name} ended while it started; its log is {self.log(pod)}")
                if time.monotonic() > end:
                    raise LabError(f"{pod.name} is not ready after {limit:g} s; its log is {self.log(pod)}")
                time.sleep(0.02)

    def restart(self, pod, limit=60.0):
        """A new life on the same ports, whatever became of the old one."""
        self.end(pod)
        self.start(pod)
        self.wait_ready([pod], limit)

    def slow(self, pod, factor):
        """From now on the pod serves `factor` times slower; 1 puts it back."""
        self.tell(pod, str(factor))

    def sicken(self, pod):
        """From now on the pod fails every request at once, while it calls itself ready; slow(pod, 1) heals it."""
        self.tell(pod, "sick")

    def pods(self):
        found = [Pod(**json.loads(path.read_text())) for path in self.run.glob("pod*.json")]
        return sorted(found, key=lambda pod: pod.index)

    def down(self):
        pods = self.pods()
        for pod in pods:
            pod.cont()
            pod.term()
        for pod in pods:
            self.end(pod)
            self.state(pod).unlink(missing_ok=True)
            self.health(pod).unlink(missing_ok=True)

    # ---- how it is done ----

    def end(self, pod):
        """Drains the pod, then makes sure: server and model processes gone, shared memory given back."""
        pod.cont()
        pod.term()
        with contextlib.suppress(LabError):
            pod.wait_dead(10.0)
        pod.signal_group(signal.SIGKILL)
        pod.wait_dead()
        end = time.monotonic() + 10
        while group_lives(pod.pid) and time.monotonic() < end:
            time.sleep(0.01)  # the model processes inherit the server's sockets: its ports are free when they are gone
        for leftover in pathlib.Path("/dev/shm").glob(shm_prefix(pod) + "*"):
            leftover.unlink(missing_ok=True)

    def tell(self, pod, health):
        """Written aside and renamed, so that no reader sees half of it."""
        fresh = self.health(pod).with_suffix(".new")
        fresh.write_text(health)
        fresh.replace(self.health(pod))

    def state(self, pod):
        return self.run / f"{pod.name}.json"

    def log(self, pod):
        return self.run / f"{pod.name}.log"

    def health(self, pod):
        return self.run / f"{pod.name}.health"

    def ledger(self, pod):
        """Where models that keep one write down what they executed (sim_ledger); it outlives the pod's lives."""
        return self.run / f"{pod.name}.ledger"

    def site(self):
        """The venv's site-packages, with the server inside."""
        for site in self.venv.glob("lib/python3*/site-packages"):
            if (site / "pytriton/tritonserver/bin/tritonserver").exists():
                return site
        raise LabError(f"no nvidia-pytriton in {self.venv}; make it with tests/run --setup")

    def backends(self):
        """A backend directory of links: Triton wants the stub beside the backend, the wheel keeps one per Python apart.

        Models can import what lies there, so sim.py joins it; the stub ignores PYTHONPATH.
        """
        site, made = self.site(), self.run / "backends" / "python"
        python = site.parent.name.removeprefix("python")
        server = site / "pytriton" / "tritonserver"
        made.mkdir(parents=True, exist_ok=True)
        for source in (
            server / "backends/python/libtriton_python.so",
            server / "backends/python/triton_python_backend_utils.py",
            server / f"python_backend_stubs/{python}/triton_python_backend_stub",
            HERE / "sim.py",
        ):
            if not source.exists():
                raise LabError(f"{source} is missing: is there a python backend for Python {python}?")
            link = made / source.name
            if link.is_symlink() and link.resolve() == source.resolve():
                continue
            link.unlink(missing_ok=True)
            link.symlink_to(source)
        return made.parent

    def libraries(self):
        """LD_LIBRARY_PATH of the model processes: the venv's own libpython first.

        Without it the stub takes the system's libpython, which may be of another micro version than the standard
        library it then loads.
        """
        site, paths = self.site(), []
        for line in (self.venv / "pyvenv.cfg").read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                lib = pathlib.Path(value.strip()).parent / "lib"
                paths += [lib] if list(lib.glob("libpython3.*.so.1.0")) else []
        return ":".join(str(path) for path in [*paths, site / "nvidia_pytriton.libs"])

    def environment(self, pod):
        """A small environment of its own: nothing of the caller's leaks into a pod."""
        return {
            "PATH": f"{self.venv}/bin:/usr/bin:/bin",  # the stub finds its standard library and numpy by `python3` here
            "HOME": os.environ.get("HOME", "/"),
            "LD_LIBRARY_PATH": self.libraries(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "POD_NAME": pod.name,
            "POD_HEALTH": str(self.health(pod)),
            "POD_LEDGER": str(self.ledger(pod)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def command(self, pod):
        return [
            str(self.site() / "pytriton/tritonserver/bin/tritonserver"),
            f"--id={pod.name}",
            *(f"--model-repository={folder}" for folder in self.repositories),
            f"--backend-directory={self.backends()}",
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            "--metrics-address=127.0.0.1",
            f"--http-port={pod.http}",
            f"--grpc-port={pod.grpc}",
            f"--metrics-port={pod.metrics}",
            "--http-thread-count=4",
            "--model-load-thread-count=2",
            "--allow-gpu-metrics=false",
            "--metrics-interval-ms=500",
            "--model-control-mode=explicit",
            # Headers x-... become request parameters, which sim_echo says back.
            "--grpc-header-forward-pattern=x-.*",
            "--http-header-forward-pattern=x-.*",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix(pod)}",
            "--backend-config=python,shm-default-byte-size=1048576",
            *(f"--load-model={model}" for model in pod.models),
            *pod.flags,
        ]


def shm_prefix(pod):
    """Shared memory is named after the port, which only one pod of the machine can hold at a time."""
    return f"plimsoll-lab-{pod.grpc}-"


def launched(command, real_time=0, tied=False):
    """The command, started through launch.py: in real time if allowed, and ending with its parent if tied."""
    return [sys.executable, str(HERE / "launch.py"), str(real_time), str(int(tied)), *command]


# ---- the command line ----


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start pods and wait until they are ready")
    up.add_argument("count", type=int)
    up.add_argument("--models", default="sim_gpu", help="comma-separated; sim_gpu unless told")
    up.add_argument("--base", type=int, default=FIRST_PORT, help=f"first port, {FIRST_PORT} unless told; 0 finds free ones")
    up.add_argument("--real-time", type=int, default=0, metavar="PRIORITY", help="SCHED_RR priority; 10 is a good one")
    up.add_argument("flags", nargs="*", help="after --: further flags for tritonserver")
    verbs.add_parser("status", help="one line of JSON per pod")
    verbs.add_parser("down", help="end all pods of this run directory")
    for verb in ("kill", "term", "stop", "cont", "restart", "sicken"):
        verbs.add_parser(verb).add_argument("pod", type=int)
    kill_model = verbs.add_parser("kill-model", help="kill one model's process; the server lives on")
    kill_model.add_argument("pod", type=int)
    kill_model.add_argument("model")
    slow = verbs.add_parser("slow", help="make a pod slower; 1 puts it back")
    slow.add_argument("pod", type=int)
    slow.add_argument("factor", type=float)
    return parser.parse_args()


def pod_at(lab, index):
    for pod in lab.pods():
        if pod.index == index:
            return pod
    raise LabError(f"no pod {index} in {lab.run}; start some with: lab.py up")


def main():
    asked, lab = arguments(), Lab()
    match asked.verb:
        case "up":
            start = time.monotonic()
            pods = lab.up(asked.count, asked.models.split(","), asked.base, asked.flags, asked.real_time)
            took = round(time.monotonic() - start, 2)
            print(json.dumps({"ready_s": took, "pods": [asdict(pod) for pod in pods]}))
        case "status":
            for pod in lab.pods():
                print(json.dumps(asdict(pod) | {"alive": pod.alive(), "ready": pod.ready()}))
        case "down":
            lab.down()
        case "slow":
            lab.slow(pod_at(lab, asked.pod), asked.factor)
        case "kill-model":
            pod_at(lab, asked.pod).kill_model(asked.model)
        case "restart" | "sicken":
            getattr(lab, asked.verb)(pod_at(lab, asked.pod))
        case verb:
            getattr(pod_at(lab, asked.pod), verb)()


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"lab: {error}")

"""`plimsoll node` processes on loopback: start them, ask them, end them, keep their logs."""
import itertools
import json
import os
import pathlib
import signal
import subprocess
import urllib.error
import urllib.request

import lab
import tritonclient.grpc as triton
from harness import wait

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"

# Above the pods' ports and below the kernel's ephemeral range.
_ports = itertools.cycle(range(26000, 32000))


def binary():
    """The binary under test. It is an error, never a skip, if there is none."""
    path = pathlib.Path(os.environ.get("PLIMSOLL_BIN", TARGET / "release" / "plimsoll"))
    if not path.is_file():
        raise RuntimeError(f"no binary at {path}: build it with `cargo build --release`, or set PLIMSOLL_BIN")
    return str(path)


def free_port():
    """A port that nobody listens on, and that this test run has not given out lately."""
    return next(port for port in _ports if lab.is_free(port) and lab.is_free_udp(port))


def loopback(port):
    return f"127.0.0.1:{port}"


def clean_environment():
    """Ours without PLIMSOLL_*: a developer's own settings must not steer the nodes under test."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PLIMSOLL_")}


def plimsoll(*arguments, environment=None, limit=10.0):
    """Runs one plimsoll command to its end."""
    return subprocess.run(
        [binary(), *map(str, arguments)],
        env=clean_environment() | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def pod_flags(pods):
    """--pod NAME=URL for lab pods."""
    return [flag for pod in pods for flag in ("--pod", f"{pod.name}=http://{loopback(pod.grpc)}")]


class Node:
    """One node process. Its ports are its own for the whole test, so that it can be started again as the same one."""

    def __init__(self, name, folder, arguments=()):
        self.name, self.folder, self.arguments = name, folder, list(map(str, arguments))
        self.grpc, self.http, self.admin, self.gossip = (loopback(free_port()) for _ in range(4))
        # Nobody balances in front of most of these nodes: what ends them need not wait. Tests of drains say otherwise.
        self.environment = {"PLIMSOLL_DRAIN_GRACE_S": "0"}
        self.process = None

    # ---- life ----

    def start(self, ready=True):
        """Starts the process; with `ready` also waits until it serves."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                lab.launched([binary(), "node", *self.own_arguments(), *self.arguments], tied=True),
                env=clean_environment() | {"NO_COLOR": "1"} | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if ready:
            self.wait_ready()
        return self

    def listens(self):
        return {"grpc": self.grpc, "http": self.http, "admin": self.admin, "gossip": self.gossip}

    def own_arguments(self):
        flags = [word for key, address in self.listens().items() for word in (f"--{key}", address)]
        return ["--name", self.name, *flags, "--log-format", "json"]

    def wait_ready(self, limit=15.0):
        """Ready means what it means to a client: gRPC answers ServerReady, and the admin port lists the members."""

        def serves():
            code = self.process.poll()
            assert code is None, f"node {self.name} ended with exit code {code} while it started:\n{self.log()}"
            try:
                with triton.InferenceServerClient(self.grpc) as client:
                    return client.is_server_ready(client_timeout=1) and self.members() is not None
            except (triton.InferenceServerException, OSError):
                return False

        wait.until(f"node {self.name} is ready; its log so far:\n{self.log()}", serves, limit, every=0.05)

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait(self, limit=15.0):
        """Waits for the end and returns the exit code."""
        return self.process.wait(timeout=limit)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def end(self, limit=10.0):
        """Whatever state it is in: no process afterwards."""
        if self.runs():
            self.process.send_signal(signal.SIGCONT)
            self.term()
            try:
                self.wait(limit)
            except subprocess.TimeoutExpired:
                self.kill()

    # ---- what it says ----

    def drain(self, *arguments):
        """`plimsoll drain` to its end."""
        return plimsoll("drain", "--admin", self.admin, *arguments, limit=60)

    def ask(self, path, limit=2.0):
        """The body of an admin answer; an HTTP error status is an exception."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=limit) as answer:
            return answer.read().decode()

    def status(self, path):
        """The HTTP status of an admin path, whatever it is; None if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=2) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def members(self):
        """The members as this node sees them, itself among them or not, as a list of objects."""
        answer = json.loads(self.ask("/v1/members"))
        return answer["members"] if isinstance(answer, dict) else answer

    def alive_members(self):
        return sorted(member["name"] for member in self.members() if member["state"].lower() == "alive")

    def view(self):
        """The load view: pod name -> what this node believes about the pod."""
        answer = json.loads(self.ask("/v1/view"))
        pods = answer["pods"] if isinstance(answer, dict) else answer
        return {pod["name"]: pod for pod in pods}

    def in_flight(self):
        """Everything this node knows to be in flight, its own and its peers', each by the weight of its row."""
        return sum(pod["in_flight"] for pod in self.view().values())

    def own_in_flight(self):
        return sum(pod["own_in_flight"] for pod in self.view().values())

    def holds_of(self, peer):
        """How many requests in flight this node's view holds of one peer."""
        rows = (row for pod in self.view().values() for row in pod["peers"])
        return sum(row["in_flight"] for row in rows if row["node"] == peer)

    @property
    def log_path(self):
        return self.folder / f"{self.name}.log"

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines_with(self, *words):
        """The log lines that hold all of the words, whatever their case."""
        return [line for line in self.log().splitlines() if all(word.lower() in line.lower() for word in words)]


class ConfiguredNode(Node):
    """A node that reads everything from its configuration file."""

    def __init__(self, name, folder, secret, join, sections):
        super().__init__(name, folder)
        self.config = folder / f"{name}.toml"
        lines = [
            "[node]",
            f'name = "{name}"',
            *(f'{key} = "{address}"' for key, address in self.listens().items()),
            f"join = {json.dumps([peer.gossip for peer in join])}",
            f'cluster_secret_file = "{secret}"',
            "",
            sections,
        ]
        self.config.write_text("\n".join(lines))

    def own_arguments(self):
        return ["--config", str(self.config), "--log-format", "json"]


class Nodes:
    """Starts the nodes of one test and ends every one of them, whatever happened."""

    def __init__(self, folder):
        self.folder, self.started = folder, []
        folder.mkdir(parents=True, exist_ok=True)

    def secret(self, name="secret"):
        """The path of a cluster secret, made once per name; a different name is a different secret."""
        path = self.folder / name
        if not path.exists():
            made = plimsoll("secret")
            assert made.returncode == 0, made.stderr
            path.write_text(made.stdout)
            path.chmod(0o600)
        return path

    def node(self, name, *arguments, pods=(), join=(), secret=None, policy=None):
        """A node that is not started yet."""
        flags = ["--cluster-secret-file", secret or self.secret(), *self.pods(name, pods)]
        flags += [word for peer in join for word in ("--join", peer.gossip)]
        flags += ["--policy", policy] if policy else []
        made = Node(name, self.folder, [*flags, *arguments])
        self.started.append(made)
        return made

    def pods(self, name, pods):
        """The pods of one node, in a file: a flag has no room for where they take HTTP."""
        if not pods:
            return []
        path = self.folder / f"{name}-pods.toml"
        path.write_text(pod_tables(pods))
        return ["--config", path]

    def configured(self, name, sections, join=()):
        """A node with a configuration file: [node] is written for it, `sections` is the rest. Not started yet."""
        made = ConfiguredNode(name, self.folder, self.secret(), join, sections)
        self.started.append(made)
        return made

    def start(self, name, *arguments, **options):
        return self.node(name, *arguments, **options).start()

    def cluster(self, names, **options):
        """Several nodes that all know each other, started at once; returns when each sees all as alive."""
        made = []
        for name in names:
            made.append(self.node(name, join=made, **options))
        for node in made:
            node.start(ready=False)
        for node in made:
            node.wait_ready()
        for node in made:
            wait.until(f"{node.name} sees all of {names}", lambda: set(node.alive_members()) >= set(names) - {node.name}, 15)
        return made

    def end(self):
        for node in self.started:
            if node.runs():
                node.process.send_signal(signal.SIGTERM)
        for node in self.started:
            node.end()

    def logs(self, lines=60):
        """The end of every log, for the report of a failed test."""
        return [(node.name, "\n".join(node.log().splitlines()[-lines:])) for node in self.started]


def pod_tables(pods):
    """[[pods]] tables, as in a configuration file and in a watched file."""
    return "".join(
        f'[[pods]]\nname = "{pod.name}"\ngrpc = "http://{loopback(pod.grpc)}"\n'
        f'http = "http://{loopback(pod.http)}"\nmetrics = "http://{loopback(pod.metrics)}"\n\n'
        for pod in pods
    )

"""Servers that speak Redis, on loopback: the real one that the Redis face is judged by, and ours."""
import contextlib
import os
import pathlib
import shlex
import signal
import subprocess

import lab
import redis
from harness import wait
from harness.nodes import ROOT, TARGET, free_port

PROGRAMS = TARGET / "redis" / "bin"
# What nothing in a test may wait for, nor find on disk.
REAL = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--enable-debug-command", "yes"]
# The server under test, ours: a command with `{port}` in it, and `{folder}` if it wants one of its own.
OURS = f"{os.environ.get('CARGO_TARGET_DIR', TARGET)}/release/examples/serve 127.0.0.1:{{port}}"


def program(name):
    """The path of one of Redis's own programs. It is an error, never a skip, if it is not there."""
    path = PROGRAMS / name
    if not path.is_file():
        raise RuntimeError(f"no {path.relative_to(ROOT)}: tests/run --setup fetches it")
    return str(path)


class Server:
    """One server process; its port is its own for the whole test, so that it can be started again."""

    def __init__(self, name, folder, command):
        self.name, self.folder, self.command = name, pathlib.Path(folder), command
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    @property
    def log_path(self):
        return self.folder / f"{self.name}.log"

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self, limit=10.0):
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [word.format(port=self.port, folder=self.folder) for word in self.command]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                lab.launched(words, tied=True), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        wait.until(f"{self.name} answers; its log so far:\n{self.log()}", self.answers, limit, every=0.02)
        return self

    def answers(self):
        code = self.process.poll()
        assert code is None, f"{self.name} ended with exit code {code}:\n{self.log()[-5000:]}"
        try:
            with self.client(socket_timeout=1) as client:
                return client.ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def client(self, **options):
        """A redis-py client of this server, which gives bytes and does not try again."""
        return redis.Redis(port=self.port, **{"retry": None, "protocol": 2} | options)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def rss(self):
        """What it has in memory, bytes."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self, limit=5.0):
        """No process afterwards."""
        if self.runs():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                self.kill()


def real(folder, *options):
    """Redis 7.0.15."""
    return Server("redis-server", folder, [program("redis-server"), "--port", "{port}", *REAL, *options])


def ours(folder):
    """The server under test: PLIMSOLL_REDIS_CMD, or the one that was built."""
    words = shlex.split(os.environ.get("PLIMSOLL_REDIS_CMD", OURS))
    if not pathlib.Path(words[0]).is_file():
        raise RuntimeError(f"no {words[0]}: `cargo build --release -p plimsoll-redis --example serve` builds it")
    return Server("ours", folder, words)


KINDS = {"redis-server": real, "ours": ours}


@contextlib.contextmanager
def running(kind, folder):
    """A server for as long as the block lasts."""
    server = KINDS[kind](folder)
    try:
        yield server.start()
    finally:
        server.end()

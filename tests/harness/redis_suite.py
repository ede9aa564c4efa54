"""Redis's own test suite, run unit by unit against a server that is up already, and read into what became of each test.

    python tests/harness/redis_suite.py [--server ours|redis-server] [--report FILE] [UNIT ...]

What is run, and what is left out for which reason, is in tests/redis_face/suite.toml.
"""
import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
PATHS = [str(HERE.parent), str(HERE.parent / "triton")]
sys.path[:0] = PATHS
import lab  # noqa: E402
from harness import redises, wait  # noqa: E402
from harness.nodes import ROOT, TARGET, free_port  # noqa: E402

PLAN = ROOT / "tests" / "redis_face" / "suite.toml"
SUITE = TARGET / "redis" / "suite"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINE = re.compile(r"\[(ok|err|skip|ignore|exception|TIMEOUT|\d+/\d+ done)\]: ?(.*)")
# The end of a test's line where it failed, and of one that passed.
FAILED_IN = re.compile(r" in tests/unit/\S+\.tcl$")
TOOK = re.compile(r" \(\d+ ms\)$")


@dataclass
class Skip:
    """A test that is left out, by its name or a /regular expression, and why."""

    unit: str
    test: str
    reason: str

    def matches(self, name):
        return re.search(self.test[1:], name) is not None if self.test.startswith("/") else self.test == name


@dataclass
class Plan:
    """What suite.toml says."""

    units: dict  # unit -> tests that redis-server passes under the same flags and skips
    spawned: list  # of these, those that start their servers themselves
    tags: dict  # tag -> why no test that has it can be run
    skips: list
    edits: list

    @classmethod
    def read(cls, path=PLAN):
        told = tomllib.loads(path.read_text())
        skips = [Skip(unit, **skip) for unit, those in told.get("skip", {}).items() for skip in those]
        for entry in (*skips, *(Skip(edit["file"], edit["old"], edit["reason"]) for edit in told["edits"])):
            assert entry.reason.strip(), f"suite.toml gives no reason for {entry.test}"
        assert all(told["tags"].values()), "suite.toml gives no reason for a tag"
        return cls(told["units"], told["spawned"], told["tags"], skips, told["edits"])

    def skips_of(self, unit):
        return [skip for skip in self.skips if skip.unit == unit]


@dataclass
class Outcome:
    """What became of the tests of one unit."""

    unit: str
    passed: list = field(default_factory=list)
    failed: dict = field(default_factory=dict)  # name -> what was said
    skipped: list = field(default_factory=list)  # by name
    ignored: list = field(default_factory=list)  # by tag
    is_done: bool = False  # the unit came to its end
    output: str = ""

    def fails(self):
        """Everything that is wrong, in words."""
        told = [f"{name}: {said}" for name, said in self.failed.items()]
        return told if self.is_done else [*told, f"the unit broke off:\n{self.output[-2000:]}"]

    def rate(self):
        tried = len(self.passed) + len(self.failed) + (not self.is_done)
        return len(self.passed) / tried if tried else 0.0


# Where the suite starts its servers itself: ours, told what stands in the configuration that it would give redis-server.
SPAWN = """#!{python}
import sys
sys.path[:0] = {path!r}
from harness import redis_suite
redis_suite.spawn({kind!r}, sys.argv[1])
"""
# What of a configuration ours is told.
TOLD = ("requirepass", "maxclients")


def prepare(plan, kind, folder):
    """A copy of the suite with the plan's edits in it, each of which must fit, for servers of one kind."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SUITE / "tests", folder / "tests")
    (folder / "src").mkdir()
    for tool in ("redis-cli", "redis-benchmark"):
        (folder / "src" / tool).symlink_to(redises.program(tool))
    started = folder / "src" / "redis-server"
    if kind == "redis-server":
        started.symlink_to(redises.program(kind))
    else:
        started.write_text(SPAWN.format(python=sys.executable, path=PATHS, kind=kind))
        started.chmod(0o755)
    for edit in plan.edits:
        path = folder / edit["file"]
        text = path.read_text()
        assert text.count(edit["old"]) == 1, f"suite.toml: {edit['old']!r} is not once in {edit['file']}"
        path.write_text(text.replace(edit["old"], edit["new"]))
    return folder


def spawn(kind, config):
    """Becomes a server as the suite starts one. It looks for these words on standard output."""
    settings = dict(line.split(maxsplit=1) for line in pathlib.Path(config).read_text().splitlines() if " " in line)
    port, folder = int(settings["port"]), pathlib.Path(config).parent
    if os.fork() == 0:
        server = redises.KINDS[kind](folder)
        server.port = port
        wait.until("the server answers", lambda: not lab.is_free(port), 10)
        if given := [word for name in TOLD if name in settings for word in (name, settings[name])]:
            with server.client() as client:
                client.config_set(*given)
        print(f" PID: {os.getppid()}", "Ready to accept", sep="\n", flush=True)
        os._exit(0)
    server = redises.KINDS[kind](folder)
    os.execv(server.command[0], [word.format(port=port, folder=folder) for word in server.command])


# A unit takes half a minute at most, and a test a few seconds. The suite ends itself when nothing has happened for so long.
SILENCE_S, LIMIT_S = 60, 300


def run(plan, kind, unit, folder, only=None):
    """One unit against a server of `kind`, in a prepared `folder`. `only` names tests, for who looks for a failure."""
    if unit in plan.spawned:
        return execute(plan, unit, folder, only, ["--clients", "1"])
    with redises.running(kind, folder / "server") as server:
        return execute(plan, unit, folder, only, ["--host", "127.0.0.1", "--port", str(server.port)])


def execute(plan, unit, folder, only, words):
    words = ["tclsh", "tests/test_helper.tcl", "--durable", *words]
    words += ["--single", unit, "--baseport", str(free_port()), "--timeout", str(SILENCE_S)]
    words += ["--tags", " ".join(f"-{tag}" for tag in plan.tags)]
    for skip in plan.skips_of(unit):
        words += ["--skiptest", skip.test]
    for test in only or []:
        words += ["--only", test]
    with tempfile.TemporaryFile() as output:
        ran = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        try:
            ran.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            pass  # a unit that did not come to its end is read as one
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)  # with the processes and servers that it started
            ran.wait()
        output.seek(0)
        return read(unit, output.read().decode(errors="replace"))


def read(unit, output):
    """The suite's output as an Outcome."""
    outcome = Outcome(unit, output=COLOUR.sub("", output))
    told, _, _ = outcome.output.partition("\n                   The End\n")
    failing = None
    for line in told.splitlines():
        found = LINE.match(line)
        if not found:
            if failing and not line.startswith("["):
                outcome.failed[failing] += f"\n{line}"
            continue
        failing, (kind, text) = None, found.groups()
        if kind == "ok":
            outcome.passed.append(TOOK.sub("", text))
        elif kind == "skip":
            outcome.skipped.append(text)
        elif kind == "ignore":
            outcome.ignored.append(text)
        elif kind == "err":
            failing = FAILED_IN.sub("", text)
            outcome.failed[failing] = ""
        elif kind.endswith("done"):
            outcome.is_done = True
        else:
            outcome.failed[f"[{kind}]"] = text
    return outcome


def stale(plan, unit, outcome):
    """Skips that match no test of the unit any more."""
    return [skip.test for skip in plan.skips_of(unit) if not any(map(skip.matches, outcome.skipped))]


def table(plan, outcomes):
    """The rates, unit by unit."""
    rows = [f"{'unit':<24}{'ok':>5}{'failed':>8}{'skipped':>9}{'by tag':>8}{'of redis-server':>17}{'rate':>9}"]
    for outcome in outcomes:
        counts = f"{len(outcome.passed):>5}{len(outcome.failed):>8}{len(outcome.skipped):>9}{len(outcome.ignored):>8}"
        rows.append(f"{outcome.unit:<24}{counts}{plan.units[outcome.unit]:>17}{outcome.rate():>9.1%}")
    passed, all_ = (sum(count) for count in zip(*((len(one.passed), plan.units[one.unit]) for one in outcomes)))
    rows.append(f"{'all':<24}{passed:>5}{'':>25}{all_:>17}")
    return "\n".join(rows)


def report(plan, outcomes, path):
    """The table, which tests failed, then all that was said of each."""
    names = [f"{one.unit}: {name}" for one in outcomes for name in one.failed]
    told = [f"== {one.unit}\n" + "\n".join(one.fails()) for one in outcomes if one.fails()]
    path.write_text("\n\n".join([table(plan, outcomes), "\n".join(names), *told, ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("units", nargs="*", help="as in suite.toml (all)")
    parser.add_argument("--server", choices=redises.KINDS, default="ours", help="which is tested (ours)")
    parser.add_argument("--only", action="append", help="a test's name, or a /regular expression; may be repeated")
    parser.add_argument("--report", type=pathlib.Path, help="a file for what failed, unit by unit")
    args = parser.parse_args()
    plan, outcomes = Plan.read(), []
    folder = prepare(plan, args.server, TARGET / "redis" / f"suite-{args.server}")
    for unit in args.units or plan.units:
        outcomes.append(run(plan, args.server, unit, folder, only=args.only))
        print(f"\n== {unit}", *outcomes[-1].fails(), sep="\n", flush=True)
        if args.report:
            report(plan, outcomes, args.report)
        if not args.only:
            print(*(f"stale skip: {test}" for test in stale(plan, unit, outcomes[-1])), sep="\n")
    print(table(plan, outcomes))
    return 0 if all(not one.fails() for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

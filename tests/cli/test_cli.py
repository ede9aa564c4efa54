"""The command line: what a person meets who types something wrong, and what scripts read."""
import json
import os
import re
import signal
import socket

import pytest
from harness.nodes import ConfiguredNode, Node, free_port, loopback, plimsoll, pod_flags, pod_tables

POD = ["--pod", "one=http://127.0.0.1:9"]


@pytest.fixture
def secret(nodes):
    return nodes.secret()


def complaint(ended, *words):
    """Bad input ends with exit code 2 and one line on stderr that holds all of the words."""
    assert ended.returncode == 2, f"exit code {ended.returncode}, stderr: {ended.stderr!r}, stdout: {ended.stdout!r}"
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, f"more than one line: {ended.stderr}"
    missing = [word for word in words if word.lower() not in lines[0].lower()]
    assert not missing, f"{missing} not in: {lines[0]}"
    return lines[0]


def node_command(secret, *more):
    """A good `plimsoll node` command, to be spoiled in one place."""
    ports = [word for key in ("--grpc", "--admin", "--gossip") for word in (key, loopback(free_port()))]
    return ["node", "--name", "n", *ports, "--cluster-secret-file", secret, *more]


def spoiled(command, flag, value):
    """The command with another value for one flag."""
    command = list(command)
    command[command.index(flag) + 1] = value
    return command


# ---- bad flags ----


@pytest.mark.parametrize("flag", ["--grpc", "--admin", "--gossip"])
@pytest.mark.parametrize("value", ["nonsense", "127.0.0.1:99999", "127.0.0.1"])
def test_an_address_that_is_none(secret, flag, value):
    """The line names the flag and the value, so that nobody has to guess which of four addresses it was."""
    complaint(plimsoll(*spoiled(node_command(secret, *POD), flag, value)), flag.strip("-"), value)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("one", "`one`"),
        ("one=", "grpc"),
        ("=http://127.0.0.1:9", "name"),
        ("one=ftp://127.0.0.1:9", "`ftp://127.0.0.1:9`"),
        ("one=http://127.0.0.1:x", "`http://127.0.0.1:x`"),
    ],
)
def test_a_pod_that_is_none(secret, value, named):
    """What is wrong is named: the part that was written, or the part that is missing."""
    complaint(plimsoll(*node_command(secret, "--pod", value)), "--pod", named)


def test_two_pods_of_one_name(secret):
    """The second would shadow the first in every metric and view."""
    complaint(plimsoll(*node_command(secret, *POD, "--pod", "one=http://127.0.0.1:10")), "one", "pod")


def test_a_policy_that_is_none(secret):
    """The remedy is the list of those there are."""
    complaint(plimsoll(*node_command(secret, *POD, "--policy", "fastest")), "fastest", "plimsoll", "round_robin")


def test_no_pods(secret):
    """A node that balances nothing, neither pods nor a source of them: say how to give it some."""
    complaint(plimsoll(*node_command(secret)), "pod", "--pod")


def test_a_secret_that_is_not_there(tmp_path):
    """The remedy names the command that makes one."""
    complaint(plimsoll(*node_command(tmp_path / "absent", *POD)), "absent", "plimsoll secret")


def test_a_secret_that_cannot_be_read(tmp_path):
    """A folder stands for every unreadable thing; as root no file is unreadable."""
    complaint(plimsoll(*node_command(tmp_path, *POD)), str(tmp_path))


def test_a_secret_that_is_too_short(tmp_path):
    """`password` in a file is no secret."""
    (tmp_path / "weak").write_text("password\n")
    complaint(plimsoll(*node_command(tmp_path / "weak", *POD)), "weak", "plimsoll secret")


@pytest.mark.parametrize("flag", ["--grpc", "--admin", "--gossip"])
def test_a_port_that_is_taken(secret, flag):
    """The process ends instead of serving half of what was asked; the line names the address."""
    kind = socket.SOCK_DGRAM if flag == "--gossip" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        taken = loopback(holder.getsockname()[1])
        complaint(plimsoll(*spoiled(node_command(secret, *POD), flag, taken)), taken, "in use")


def test_a_flag_that_is_none():
    """clap's own complaint may take several lines, but it ends with 2 and names the flag."""
    ended = plimsoll("node", "--gprc", "127.0.0.1:1")
    assert ended.returncode == 2 and "--gprc" in ended.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demo", "--nodes", "many"], ["'many'", "--nodes", "whole number"]),
        (["demo", "--nodes", "-2"], ["'-2'", "--nodes", "whole number"]),
        (["demo", "--load", "-1"], ["--load -1", "above 0"]),
        (["demo", "--slots", "0"], ["'0'", "--slots", "whole number"]),
        (["pod", "--slow", "fast"], ["'fast'", "--slow", "a number"]),
        (["node", *POD, "--budget-mbit", "-1"], ["--budget-mbit", "`-1`", "0.01 to 10000"]),
        (["node", *POD, "--budget-mbit", "1e300"], ["--budget-mbit", "`1e300`", "0.01 to 10000"]),
    ],
)
def test_a_number_that_is_none(words, named):
    """Below zero is a wrong number and no unknown option, and 1e300 no line of three hundred digits."""
    complaint(plimsoll(*words), *named)


# ---- configuration files ----

GOOD = '[pick]\npolicy = "least_cost"\n\n' + '[[pods]]\nname = "one"\ngrpc = "http://127.0.0.1:9"\n'


def config(nodes, sections):
    """The path of a configuration whose [node] is right."""
    return ConfiguredNode("n", nodes.folder, nodes.secret(), [], sections).config


def test_check_says_that_a_good_file_is_good(nodes):
    ended = plimsoll("check", config(nodes, GOOD))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()


BAD = {
    "unknown key": (GOOD.replace("policy =", "polcy ="), ["polcy"]),
    "unknown section": (GOOD + "[pikc]\nx = 1\n", ["pikc"]),
    "unknown policy": (GOOD.replace("least_cost", "fastest"), ["fastest"]),
    "unparsable pod address": (GOOD.replace("http://127.0.0.1:9", "http://:::"), ["http://:::"]),
    "wrong type": (GOOD.replace('"one"', "1"), ["name"]),
    "no TOML": (GOOD + "[[[", ["toml:16:", "not valid TOML"]),
}


@pytest.mark.parametrize("command", ["check", "node"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file(nodes, command, case):
    """`check` and `node` give the same answer: one line with the file, and the key or value that is wrong."""
    sections, words = BAD[case]
    path = config(nodes, sections)
    arguments = ["check", path] if command == "check" else ["node", "--config", path]
    complaint(plimsoll(*arguments), path.name, *words)


def test_a_file_that_is_not_there(tmp_path):
    complaint(plimsoll("check", tmp_path / "absent.toml"), "absent.toml")


def test_flags_win_over_the_environment_and_that_over_the_file(nodes):
    """Which policy runs is told by the first complaint about a bad one, so three bad ones show the order."""
    path = config(nodes, GOOD.replace("least_cost", "from_file"))
    environment = {"PLIMSOLL_POLICY": "from_environment"}
    complaint(plimsoll("node", "--config", path), "from_file")
    complaint(plimsoll("node", "--config", path, environment=environment), "from_environment")
    complaint(plimsoll("node", "--config", path, "--policy", "from_flag", environment=environment), "from_flag")


# ---- good commands ----


def test_help_names_the_commands():
    """What there is, on one screen."""
    ended = plimsoll("--help")
    assert ended.returncode == 0
    for command in ("node", "view", "members", "check", "secret"):
        assert re.search(rf"^\s+{command}\b", ended.stdout, re.MULTILINE), f"no {command} in:\n{ended.stdout}"


def test_version():
    assert re.fullmatch(r"plimsoll \d+\.\d+\.\d+\S*\n", plimsoll("--version").stdout)


def test_every_secret_is_fresh():
    """One line, at least 256 bits of it, never the same."""
    made = {plimsoll("secret").stdout for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(r"[0-9A-Za-z+/=_-]{43,}\n", secret) for secret in made), made


def test_view_and_members(nodes, tritons):
    """For people a table, for scripts JSON; both from the admin address alone."""
    a, b = nodes.cluster(["a", "b"], pods=tritons)
    for command, words in (("view", [pod.name for pod in tritons]), ("members", [b.name])):
        table = plimsoll(command, "--admin", a.admin)
        assert table.returncode == 0, table.stderr
        assert all(word in table.stdout for word in words), table.stdout
        listed = plimsoll(command, "--admin", a.admin, "--json")
        assert listed.returncode == 0, listed.stderr
        assert all(f'"{word}"' in json.dumps(json.loads(listed.stdout)) for word in words)


def test_nobody_at_the_admin_address():
    """Not bad input but a bad day: another exit code than 2, and the address in one line."""
    address = loopback(free_port())
    ended = plimsoll("view", "--admin", address)
    assert ended.returncode == 1 and address in ended.stderr and len(ended.stderr.strip().splitlines()) == 1


def test_a_node_from_a_file_serves(nodes, tritons):
    """The configuration file alone makes a whole node, with its health and its metrics."""
    node = nodes.configured("filed", '[pick]\npolicy = "least_cost"\n\n' + pod_tables(tritons)).start()
    assert set(node.view()) == {pod.name for pod in tritons}
    assert node.status("/health/live") == 200 and node.status("/health/ready") == 200
    assert re.search(r"^plimsoll_\w+", node.ask("/metrics"), re.MULTILINE)


def test_a_node_from_the_environment_serves(nodes, tritons):
    """Containers are configured by their environment."""
    node = Node("from-environment", nodes.folder, pod_flags(tritons))
    variables = {"PLIMSOLL_NAME": node.name, "PLIMSOLL_CLUSTER_SECRET_FILE": str(nodes.secret())}
    variables |= {f"PLIMSOLL_{key.upper()}": address for key, address in node.listens().items()}
    node.own_arguments = lambda: ["--log-format", "json"]
    node.environment = variables
    nodes.started.append(node)
    node.start()
    assert set(node.view()) == {pod.name for pod in tritons}


def test_a_log_line_is_json_when_asked(nodes, tritons):
    """Every line, from the first on, or log collectors drop it."""
    node = nodes.start("speaker", pods=tritons)
    node.term()
    assert node.wait() == 0
    lines = node.log().splitlines()
    assert lines and all(isinstance(json.loads(line), dict) for line in lines)


def test_an_interrupt_ends_a_node_like_a_termination(nodes, tritons):
    """Ctrl-C at a terminal drains too, and is no failure."""
    node = nodes.start("interrupted", pods=tritons)
    os.kill(node.process.pid, signal.SIGINT)
    assert node.wait(5) == 0

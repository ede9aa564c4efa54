"""A published-style caller, unchanged, against Redis and against the Redis face: it cannot tell which it has."""
import collections
import importlib.util
import json
import subprocess
import sys

import pytest
from harness import redises
from harness.nodes import ROOT

PROGRAM = ROOT / "examples" / "redis_balancer.py"
PODS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("balancer")
    with redises.running("redis-server", folder) as real, redises.running("ours", folder) as ours:
        yield {"redis-server": real, "ours": ours}


@pytest.fixture(params=redises.KINDS)
def balancer(running, request):
    """The program's own class, on an empty server."""
    spec = importlib.util.spec_from_file_location("redis_balancer", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.Balancer(running[request.param].url, client="me", dead_after=0.05)
    made.redis.flushall()
    made.add_pods(PODS)
    return made


def play(server, *arguments):
    """One run of the program on an empty server; what it tells."""
    with server.client() as client:
        client.flushall()
    words = [sys.executable, PROGRAM, "--redis", server.url, "--pods", ",".join(PODS), *map(str, arguments)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, timeout=100, check=True).stdout)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sequential_history_is_the_same(running, seed):
    """The same seed, one request after the other: the same pods picked, the same scores and logs half-way and at the end."""
    told = [play(running[kind], "--requests", 300, "--seed", seed, "--client", "me") for kind in ("redis-server", "ours")]
    for one in told:
        del one["pick_p50_ms"], one["pick_p99_ms"]
        assert not one["failed"] and one["released_twice"] == 0 and one["reconciled"] == 0
        assert len(one["picks"]) == 300 and sum(map(len, one["in_flight"]["logs"].values())) == 6
        assert set(one["end"]["loads"].values()) == {0} and not any(one["end"]["logs"].values())
    assert told[0] == told[1]


@pytest.mark.parametrize("kind", redises.KINDS)
def test_many_at_once_balance_and_leave_nothing(running, kind):
    """Sixteen at once: nothing is lost or counted twice, and no pod is left idle."""
    told = play(running[kind], "--requests", 400, "--concurrency", 16)
    assert not told["failed"] and told["released_twice"] == 0
    assert set(told["end"]["loads"].values()) == {0} and not any(told["end"]["logs"].values())
    shares = collections.Counter(told["picks"])
    assert min(shares.values()) > 400 / len(PODS) / 2, shares


def test_a_release_counts_once_and_not_below_zero(balancer):
    """Callers try again. A score below zero would draw all requests to its pod."""
    pod = balancer.pick("r1", 10)
    assert balancer.state()["loads"][pod] == 10
    assert balancer.release(pod, "r1") is True and balancer.release(pod, "r1") is False
    balancer.pick("r2", 10)
    balancer.redis.zadd("balancer:loads", dict.fromkeys(PODS, 3))
    (held,) = [pod for pod, log in balancer.state()["logs"].items() if log]
    balancer.release(held, "r2")
    assert balancer.state()["loads"][held] == 0


def test_scores_are_put_right_from_the_logs(balancer):
    """Whatever went wrong before, the log knows what is in flight."""
    pods = [balancer.pick(f"r{number}", 10 + number) for number in range(6)]
    right = balancer.state()
    balancer.redis.zadd("balancer:loads", {pods[0]: 500.5, pods[1]: 0})
    assert balancer.reconcile() == 2
    assert balancer.state() == right and balancer.reconcile() == 0


def test_what_the_dead_held_is_given_back(balancer):
    """A caller that dies releases nothing: its heartbeat stops, and another one does it for it."""
    balancer.redis.zadd("balancer:clients", {"dead": 1})
    mine, balancer.client = balancer.pick("mine", 7), "dead"
    for number in range(4):
        balancer.pick(f"r{number}", 10)
    balancer.client = "me"
    balancer.heartbeat()
    assert balancer.reclaim() == 4 and balancer.reclaim() == 0
    assert {pod: load for pod, load in balancer.state()["loads"].items() if load} == {mine: 7}
    assert balancer.redis.zrange("balancer:clients", 0, -1) == ["me"]


def test_without_pods_it_is_told_so(balancer):
    """The script's own error reaches the caller with its own code."""
    balancer.redis.delete("balancer:loads")
    with pytest.raises(Exception, match="^NOPODS "):
        balancer.pick("r", 1)

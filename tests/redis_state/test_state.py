"""A real Redis as the shared state of real nodes: what it knows, and what becomes of requests when it is slow, gone, empty, full
or wrong. Test pods (`plimsoll pod`) stand for Tritons: what is tested is the nodes and Redis."""
import itertools
import json
import re
import signal
import subprocess
import time

import lab
import pytest
from harness import nodes as node_processes
from harness import redises, wait
from harness.traffic import LongRequest, Traffic, poisson

# Its bounds in time are tight for a busy machine: see "What is left" in docs/redis.md.
pytestmark = pytest.mark.long

PODS = 4
RATE = 50  # of about 140 per second that four pods can do with this mix
PREFIX = "{plimsoll:default}:"
DEADLINE_MS = 20  # four times the default, for machines that run tests on the side


@pytest.fixture
def redis(nodes):
    server = redises.real(nodes.folder).start()
    yield server
    if server.runs():
        server.process.send_signal(signal.SIGCONT)
    server.end()


@pytest.fixture
def pods(nodes):
    """Addresses of test pods, by name."""
    flags = itertools.chain.from_iterable(("--grpc", "127.0.0.1:0") for _ in range(PODS))
    process = subprocess.Popen(
        lab.launched([node_processes.binary(), "pod", *flags], tied=True),
        env=node_processes.clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    ready = [re.match(r"(\S+) ready on (\S+)", process.stdout.readline()) for _ in range(PODS)]
    yield dict(match.groups() for match in ready)
    process.terminate()
    process.wait()


@pytest.fixture
def fleet(nodes, pods, redis):
    """Makes nodes that share a Redis, each by a configuration file; by default two that ask it."""

    def start(*names, **settings):
        settings = {"mode": "redis", "redis": redis.url, "deadline_ms": DEADLINE_MS, "heartbeat_s": 0.5, "reclaim_s": 2} | settings
        lines = ["[state]", *(f"{key} = {value!r}" for key, value in settings.items())]
        lines += [f"[[pods]]\nname = '{name}'\ngrpc = 'http://{address}'" for name, address in pods.items()]
        made = []
        for name in names:
            made.append(nodes.configured(name, "\n".join(lines), join=made))
        for node in made:
            node.start(ready=False)
        for node in made:
            node.wait_ready()
            wait.until(f"{node.name} knows the others", lambda: len(node.alive_members()) == len(names))
        return made

    return start


@pytest.fixture
def pair(fleet):
    made = fleet("a", "b")
    for node in made:
        asks(node)
    return made


def state(node):
    return json.loads(node.ask("/v1/view"))["state"]


def is_consistent(redis):
    """Whether scores are what the log says, at one moment: requests come and go meanwhile."""
    with redis.client().pipeline() as both:
        both.zrange(PREFIX + "load", 0, -1, withscores=True)
        pods = sorted(scores(redis))
        for pod in pods:
            both.hvals(PREFIX + "log:" + pod)
        seen, *logs = both.execute()
    sums = {pod: sum(float(entry.split(b"|")[0]) for entry in entries) for pod, entries in zip(pods, logs)}
    return sums == {pod.decode(): score for pod, score in seen}


def asks(node, limit=5.0):
    wait.until(f"{node.name} asks Redis", lambda: state(node)["rung"] == "redis", limit)


def scores(redis):
    return {pod.decode(): score for pod, score in redis.client().zrange(PREFIX + "load", 0, -1, withscores=True)}


def logged(redis):
    """What is in flight by the log: the sum of costs by pod."""
    with redis.client() as client:
        logs = {key.decode().removeprefix(PREFIX + "log:"): client.hvals(key) for key in client.keys(PREFIX + "log:*")}
    return {pod: sum(float(entry.split(b"|")[0]) for entry in entries) for pod, entries in logs.items()}


def settles(redis, nodes):
    """When nothing is in flight, Redis knows it."""
    for node in nodes:
        wait.until(f"{node.name} has told all: {state(node)}", lambda: state(node)["in_flight"] == 0, 10)
        wait.until(f"{node.name} has told all: {state(node)}", lambda: state(node)["waiting"] == 0)
    wait.until(f"all scores are zero: {scores(redis)}", lambda: set(scores(redis).values()) == {0.0})
    assert logged(redis) == {} and redis.client().keys(PREFIX + "own:*") == []


def test_requests_flow_and_redis_knows_of_all_that_is_in_flight(pair, redis, pods, capsys):
    """The whole way: picks are asked for, charged, logged, released; scores are what the log says, none is below zero, and at
    the end nothing is left."""
    with Traffic(pair, poisson(RATE, nodes=2)) as traffic:
        end = time.monotonic() + 5
        seen = []
        while time.monotonic() < end:
            seen.append(scores(redis))
            time.sleep(0.01)
    assert traffic.failures() == []
    assert set(seen[-1]) == set(pods) and all(score >= 0 for sample in seen for score in sample.values())
    assert max(sum(sample.values()) for sample in seen) > 100, "large requests cost more than a hundred milliseconds"
    for node in pair:
        told = state(node)
        assert told["answered"] >= 0.9 * told["asked"] > 50, told
        assert set(told["missed"]) == {"late", "failed", "unknown", "unfit"}
    settles(redis, pair)
    with capsys.disabled():
        print(f"\n    an answer took {state(pair[0])['ask_ms']}")


def test_ten_requests_of_two_callers_spread_over_four_pods(pair, redis):
    """The point of it: callers that do not hear each other yet do not meet on one pod, since Redis charges in the same step."""
    warm = [LongRequest(node, 300) for node in pair for _ in range(PODS)]
    assert not any(request.failed() for request in warm), "costs are learned now"
    settles(redis, pair)
    requests = [LongRequest(node, 300) for _ in range(2) for node in pair]
    wait.until("all are charged", lambda: sum(logged(redis).values()) > 900)
    assert sorted(len(entries) for entries in entries_by_pod(redis).values()) == [1, 1, 1, 1]
    assert sorted(request.answered() for request in requests) == sorted(scores(redis))


def entries_by_pod(redis):
    with redis.client() as client:
        return {key: client.hkeys(key) for key in client.keys(PREFIX + "log:*")}


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "as it was"])
def test_redis_is_killed_under_load_and_comes_back(fleet, redis, empty, capsys):
    """kill -9. No request fails, those that asked wait no longer than the deadline, and within two seconds of its restart Redis
    is asked again and knows what is in flight; also where it comes back with what it knew long ago."""
    pair = fleet("a", "b")
    for node in pair:
        asks(node)
    with Traffic(pair, poisson(RATE, nodes=2)) as traffic:
        time.sleep(2)
        before = traffic.quantile_ms(0.99)
        if not empty:
            redis.client().save()
            time.sleep(0.5)
        gone = time.monotonic()
        redis.kill()
        for node in pair:
            wait.until(f"{node.name} goes by its view", lambda: state(node)["rung"] == "gossip", 1)
        time.sleep(2)
        redis.start()
        back = time.monotonic()
        for node in pair:
            asks(node, limit=2)
        took = time.monotonic() - back
        time.sleep(1)
        assert is_consistent(redis)
    assert traffic.failures() == []
    while_gone = sorted(answer.took_ms for answer in traffic.answers if gone <= answer.begun <= back)
    p99 = while_gone[int(0.99 * len(while_gone))]
    assert p99 < 2 * before + 10 * DEADLINE_MS
    for node in pair:
        told = state(node)
        assert told["steps_down"] == 1 and told["steps_up"] == 2, told
        assert told["missed"]["late"] + told["missed"]["failed"] <= 10, told
        # The log of an earlier run of this test may stand before this one's.
        assert len(node.log_lines_with(redis.url, "picks go by the gossiped view")) == 1
        assert len(node.log_lines_with(redis.url, "the shared redis answers")) == 2
    settles(redis, pair)
    with capsys.disabled():
        print(f"\n    p99 {before:.0f} ms before, {p99:.0f} ms while Redis was gone; asked again {took:.2f} s after its start")


def test_redis_stands_still_and_goes_on(pair, redis, capsys):
    """SIGSTOP: connections stay, answers do not come. Three picks of each node wait for the deadline, no more. What Redis was
    asked before it stood still it does afterwards; none of that may stay charged."""
    with Traffic(pair, poisson(RATE, nodes=2)) as traffic:
        time.sleep(1)
        late = {node.name: state(node)["missed"]["late"] for node in pair}
        redis.process.send_signal(signal.SIGSTOP)
        for node in pair:
            wait.until(f"{node.name} goes by its view", lambda: state(node)["rung"] == "gossip", 2)
        time.sleep(3)
        for node in pair:
            # Those that were asked at the same moment all wait.
            assert state(node)["missed"]["late"] - late[node.name] <= 6, state(node)
        redis.process.send_signal(signal.SIGCONT)
        back = time.monotonic()
        for node in pair:
            asks(node, limit=2)
        took = time.monotonic() - back
        time.sleep(1)
    assert traffic.failures() == []
    settles(redis, pair)
    with capsys.disabled():
        print(f"\n    asked again {took:.2f} s after it went on")


@pytest.mark.parametrize("trouble", ["flushed", "scripts flushed", "full", "a replica", "another type", "clients gone"])
def test_whatever_happens_to_redis_no_request_fails(pair, redis, trouble):
    """What operators and other programs do to a Redis: requests go on, and when it is over everything is right again."""
    client = redis.client()
    with Traffic(pair, poisson(RATE, nodes=2)) as traffic:
        time.sleep(0.5)
        match trouble:
            case "flushed":
                client.flushall()
            case "scripts flushed":
                client.script_flush()
            case "full":
                client.config_set("maxmemory", 1)
            case "a replica":
                client.replicaof("127.0.0.1", 1)
            case "another type":
                client.set(PREFIX + "load", "mine")
            case "clients gone":
                client.delete(PREFIX + "clients")
        time.sleep(1)
        if trouble in ("full", "a replica", "another type"):
            for node in pair:
                wait.until(f"{node.name} goes by its view", lambda: state(node)["rung"] == "gossip", 2)
                assert node.log_lines_with("picks go by the gossiped view"), node.log()
        client.config_set("maxmemory", 0)
        client.replicaof("NO", "ONE")
        if trouble == "another type":
            client.delete(PREFIX + "load")
        for node in pair:
            asks(node, limit=3)
        time.sleep(0.5)
    assert traffic.failures() == []
    settles(redis, pair)


def test_a_killed_nodes_load_is_reclaimed(fleet, redis):
    """kill -9 of a caller with requests in flight: pods must not stay charged with what nobody waits for, and what lives is not
    touched, however long it takes."""
    dead, alive = fleet("dead", "alive")
    for node in (dead, alive):
        asks(node)
    for _ in range(3):
        LongRequest(dead, 8000)
    kept = LongRequest(alive, 8000)
    wait.until("four are in flight", lambda: sum(map(len, entries_by_pod(redis).values())) == 4)
    killed = time.monotonic()
    dead.kill()
    wait.until("its three are gone", lambda: sum(map(len, entries_by_pod(redis).values())) == 1, 6)
    took = time.monotonic() - killed
    assert took > 1.5, "a node is not dead because it missed a heartbeat"
    assert sum(scores(redis).values()) == sum(logged(redis).values()) > 0
    assert state(alive)["reclaimed"] == 1
    assert not kept.failed(20)
    settles(redis, [alive])


def test_a_node_that_is_taken_for_dead_comes_back(fleet, redis):
    """A node that stands still for longer than `reclaim_s` has its charges given back; when it goes on, they are there again."""
    still, other = fleet("still", "other")
    for node in (still, other):
        asks(node)
    request = LongRequest(still, 9000)
    wait.until("it is in flight", lambda: sum(map(len, entries_by_pod(redis).values())) == 1)
    still.process.send_signal(signal.SIGSTOP)
    wait.until("it is reclaimed", lambda: entries_by_pod(redis) == {}, 6)
    still.process.send_signal(signal.SIGCONT)
    wait.until("it is there again", lambda: sum(map(len, entries_by_pod(redis).values())) == 1, 3)
    assert not request.failed(20)
    settles(redis, [still, other])


def test_a_damaged_score_is_repaired_by_the_log(pair, redis):
    """Somebody adds to a score, takes from one, and removes a third: the log knows better. None is ever seen below zero after a
    release."""
    client = redis.client()
    held = [LongRequest(pair[0], 6000) for _ in range(PODS)]
    wait.until("all are in flight", lambda: sum(map(len, entries_by_pod(redis).values())) == PODS)
    names = sorted(scores(redis))
    client.zincrby(PREFIX + "load", 1e6, names[0])
    client.zadd(PREFIX + "load", {names[1]: -1e6})
    client.zrem(PREFIX + "load", names[2])
    wait.until(f"scores are the log's: {scores(redis)}", lambda: scores(redis) == logged(redis), 5)
    assert sum(state(node)["corrected"] for node in pair) >= 3
    client.zadd(PREFIX + "load", {name: 1 for name in names})
    assert not any(request.failed(20) for request in held)
    settles(redis, pair)


def test_a_pod_that_leaves_is_forgotten_and_one_that_drains_is_not(nodes, pods, redis):
    """The set is what operators look at: a pod that is gone must not stand there for ever, nor one with requests vanish."""
    table = nodes.folder / "pods.toml"

    def write(names):
        table.write_text("".join(f"[[pods]]\nname = '{name}'\ngrpc = 'http://{pods[name]}'\n" for name in names))

    names = sorted(pods)
    write(names)
    sections = f"[discovery]\nfile = '{table}'\n[state]\nmode = 'redis'\nredis = '{redis.url}'\nheartbeat_s = 0.1\nreclaim_s = 0.3"
    node = nodes.configured("a", sections).start()
    asks(node)
    wait.until("all are named", lambda: sorted(scores(redis)) == names)
    requests = [LongRequest(node, 4000) for _ in names]
    wait.until("all are busy", lambda: sorted(logged(redis)) == names)
    write(names[:2])
    time.sleep(2.5)
    assert sorted(scores(redis)) == names, "they have requests"
    assert not any(request.failed(20) for request in requests)
    wait.until("two are left", lambda: sorted(scores(redis)) == names[:2], 6)


def test_who_leaves_takes_everything_along(pair, redis):
    """A rolling update must leave nothing behind, and the last one turns off the light."""
    requests = [LongRequest(node, 300) for node in pair for _ in range(3)]
    assert not any(request.failed() for request in requests)
    for node in pair:
        node.term()
        assert node.wait() == 0
    assert redis.client().keys(PREFIX + "*") == []


def test_a_redis_with_a_password(nodes, pods, redis, fleet):
    """The password stands in a file, is never printed, and may be written there late."""
    redis.client().config_set("requirepass", "open sesame")
    secret = nodes.folder / "password"
    secret.write_text("wrong\n")
    (node,) = fleet("a", password_file=str(secret))
    wait.until(f"it says so: {state(node)}", lambda: "password file" in (state(node)["last_trouble"] or ""))
    secret.write_text("open sesame\n")
    asks(node)
    shown = node_processes.plimsoll("check", node.config)
    assert shown.returncode == 0 and "open sesame" not in shown.stdout + node.log(), shown.stderr
    assert f"password_file = \"{secret}\"" in shown.stdout


def test_view_and_metrics_say_who_decides(pair, redis):
    """What an operator looks at first."""
    node = pair[0]
    request = LongRequest(node, 50)
    assert not request.failed()
    view = node_processes.plimsoll("view", "--admin", node.admin)
    assert view.returncode == 0, view.stderr
    first, second = view.stdout.splitlines()[:2]
    assert "policy redis" in first and second.startswith(f"state {redis.url}  decides redis  steps 0 down 1 up")
    scrape = node.ask("/metrics")
    for line in ['plimsoll_state_rung{rung="redis"} 1', "plimsoll_state_asked_total 1", 'plimsoll_state_steps_total{to="redis"} 1']:
        assert line in scrape.splitlines(), line
    assert "plimsoll_state_ask_seconds_count 1" in scrape
    assert 'policy="redis"' in scrape


def test_routes_and_full_pods_are_kept_to(nodes, pods, redis):
    """Where requests per pod are bounded, Redis chooses among those that have room, and what waits here waits."""
    settings = f"[state]\nmode = 'redis'\nredis = '{redis.url}'\n[limits]\nin_flight_per_pod = 1\n"
    tables = "".join(f"[[pods]]\nname = '{name}'\ngrpc = 'http://{address}'\n" for name, address in pods.items())
    node = nodes.configured("a", settings + tables).start()
    asks(node)
    requests = [LongRequest(node, 300) for _ in range(3 * PODS)]
    most = 0
    while any(request.under_way() for request in requests):
        most = max([most, *(pod["own_in_flight"] for pod in node.view().values())])
        time.sleep(0.01)
    assert sorted(request.answered() for request in requests) == sorted(list(pods) * 3)
    assert most == 1
    settles(redis, [node])

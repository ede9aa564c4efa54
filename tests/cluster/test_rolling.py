"""Rolling restarts under load: every pod, then every node, one after the other, and not one failed request.

Of pods nothing is asked of callers: a Triton that got SIGTERM finishes what it has and refuses the rest without having begun
it, and the node offers that to another pod.

A node is its callers' only address, and while it restarts somebody must wait or go elsewhere. gRPC does either by itself, told
so by channel arguments and nothing else: a caller with one node waits for its return (`waitForReady` in a service config, and
a short reconnect backoff); a caller with two node addresses goes to the other. What was under way when the node got its
SIGTERM is finished by it first.
"""
import json
import time

import pytest
import tritonclient.grpc as triton
from harness import wait
from harness.kserve import tokens
from harness.traffic import TRAFFIC, Traffic, poisson
from harness.wire import Stream

NAMES = ["a", "b", "c"]
RATE = 40  # of about 105 per second that three pods can do with this mix; two can do 70

# Wait for a connection instead of failing without one, and try to make it often.
PATIENT = [
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "waitForReady": True}]})),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]


@pytest.fixture
def cluster(nodes, few_tritons):
    return nodes.cluster(NAMES, pods=few_tritons)


def describe(answers):
    return [f"{answer.node}: {answer.error}" for answer in answers[:5]]


@pytest.mark.parametrize("wire", TRAFFIC)
def test_all_pods_one_after_the_other(cluster, few_tritons, few_lab, wire):
    """A fleet gets new servers, as Kubernetes does it: SIGTERM, a new life, the next one when it is ready. Callers do nothing."""
    with TRAFFIC[wire](cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1)
        for pod in few_tritons:
            few_lab.restart(pod)
            back = time.monotonic()
            wait.until(f"{pod.name} is used again", lambda: pod.name in traffic.pods_since(back), limit=15)
    assert describe(traffic.failures()) == []
    assert len(traffic.answers) == traffic.begun
    for node in cluster:
        wait.until(f"{node.name} has none in flight", lambda: node.own_in_flight() == 0, limit=2)


def test_new_streams_lose_nothing_to_a_draining_pod(cluster, few_tritons, few_lab):
    """A pod that got SIGTERM answers a stream's first request with OK and a message that calls the model unknown. It has begun
    nothing: another pod must be asked, as for a single call."""
    victim, failed = few_tritons[0], []
    with triton.InferenceServerClient(cluster[0].grpc) as client:
        victim.term()
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            with Stream(client) as stream:
                stream.send("sim_stream", tokens(1, 1))
                failed += [error.message() for _, error in [stream.next()] if error]
    few_lab.restart(victim)
    assert failed == []


def test_all_nodes_one_after_the_other(cluster):
    """New nodes beside their callers, each of which knows only its own: nothing fails, since the callers wait for it."""
    with Traffic(cluster, poisson(RATE, nodes=3, seed=2), channel=PATIENT) as traffic:
        time.sleep(1)
        for node in cluster:
            restart(node)
            back = time.monotonic()
            answered = lambda: any(answer.begun > back and answer.pod for answer in list(traffic.of(node)))
            wait.until(f"{node.name} answers again", answered, limit=10)
            time.sleep(0.5)
    assert describe(traffic.failures()) == []
    assert len(traffic.answers) == traffic.begun


def test_all_nodes_where_callers_know_two(cluster):
    """A caller with a second address needs no patience: it is served by the other node meanwhile."""
    pairs = [Pair(node, cluster[(i + 1) % 3]) for i, node in enumerate(cluster)]
    with Traffic(pairs, poisson(RATE, nodes=3, seed=3)) as traffic:
        time.sleep(1)
        for node in cluster:
            restart(node)
            time.sleep(1)
    assert describe(traffic.failures()) == []
    assert len(traffic.answers) == traffic.begun


def test_all_nodes_drained_one_after_the_other(cluster):
    """A deployment script drains each node before it ends it: while callers notice, it serves, and afterwards it has none."""
    pairs = [Pair(node, cluster[(i + 1) % 3]) for i, node in enumerate(cluster)]
    for node in cluster:
        node.environment = {"PLIMSOLL_DRAIN_GRACE_S": "0.5"}
        restart(node)
    with Traffic(pairs, poisson(RATE, nodes=3, seed=4)) as traffic:
        time.sleep(1)
        for node in cluster:
            drained = node.drain("--timeout-s", "20")
            assert drained.returncode == 0 and drained.stdout.startswith("drained in "), drained
            assert node.own_in_flight() == 0 and node.status("/health/ready") == 503
            restart(node)
            time.sleep(1)
    assert describe(traffic.failures()) == []
    assert len(traffic.answers) == traffic.begun


class Pair:
    """Two nodes as one target, the way gRPC writes them."""

    def __init__(self, first, second):
        self.name = f"{first.name}+{second.name}"
        self.grpc = f"ipv4:{first.grpc},{second.grpc}"


def restart(node):
    """SIGTERM, to the end, which must be a clean one; then a new life on the same ports."""
    node.term()
    assert node.wait() == 0
    node.start()

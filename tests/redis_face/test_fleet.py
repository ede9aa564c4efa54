"""Nodes that speak Redis: what a caller of one reads is the load of the whole fleet, and what it charges is seen by all."""
import pytest
from harness import faces, wait

LOADS = "balancer:loads"


@pytest.fixture
def both(nodes):
    """Two nodes of one cluster, each with its own callers."""
    table = f'key = "{LOADS}"\n'
    with faces.test_pods() as pods:
        yield faces.cluster(nodes, {"first": table, "second": table}, pods)


def scores(client):
    return dict(client.zrange(LOADS, 0, -1, withscores=True))


def test_a_charge_is_seen_by_callers_of_other_nodes_and_dies_with_its_node(both):
    """The count that leaks when a caller dies is what teams leave Redis for."""
    here, there = (face.client() for face in both)
    assert scores(here) == {"pod-0": 0.0, "pod-1": 0.0}
    assert here.zincrby(LOADS, 64.5, "pod-0") == 64.5
    wait.until("the other node's callers see it", lambda: 0.8 * 64.5 <= scores(there)["pod-0"] <= 1.25 * 64.5, 2)
    assert there.zrange(LOADS, 0, 0) == ["pod-1"]
    both[0].node.kill()
    wait.until("it is gone with its node", lambda: scores(there) == {"pod-0": 0.0, "pod-1": 0.0}, 8)


def test_a_connection_that_dies_returns_what_it_charged(both):
    """A caller that is killed cannot give back, and nobody else knows what it had."""
    caller, witness = both[0].client(single_connection_client=True), both[1].client()
    caller.zincrby(LOADS, 40, "pod-1")
    wait.until("it is charged", lambda: scores(witness)["pod-1"] > 0, 2)
    caller.connection._sock.close()
    wait.until("it is given back", lambda: scores(witness)["pod-1"] == 0, 2)
    assert both[0].node.own_in_flight() == 0


def test_a_script_picks_and_charges_in_one_step(both):
    """The published design is one script; it must mean here what it means in a Redis."""
    client = both[0].client()
    take = client.register_script(
        "local pod = redis.call('ZRANGE', KEYS[1], 0, 0)[1] redis.call('ZINCRBY', KEYS[1], ARGV[1], pod) return pod"
    )
    picked = [take(keys=[LOADS], args=[cost]) for cost in (30, 10, 10, 10, 10)]
    assert picked == ["pod-0", "pod-1", "pod-1", "pod-1", "pod-0"]
    assert scores(client) == {"pod-0": 40.0, "pod-1": 30.0}

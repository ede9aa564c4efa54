"""What gossip is for: every node knows what the others have in flight, and picks accordingly."""
import time

import pytest
from harness import wait
from harness.traffic import LongRequest

NAMES = ["a", "b", "c"]


@pytest.fixture
def cluster(nodes, tritons):
    return nodes.cluster(NAMES, pods=tritons)


def test_every_node_sees_every_request(cluster, capsys):
    """Two requests through each of three nodes are six in every view, and zero again when they are answered."""
    asked = [LongRequest(node, 700) for node in cluster for _ in range(2)]
    begun = time.monotonic()
    for node in cluster:
        wait.until(f"{node.name} sees six", lambda: node.in_flight() == 6, limit=0.6, every=0.005)
    took = time.monotonic() - begun
    for node in cluster:
        assert node.own_in_flight() == 2
        for peer in cluster:
            assert peer is node or node.holds_of(peer.name) == 2
    for request in asked:
        request.answered()
    for node in cluster:
        wait.until(f"{node.name} sees none", lambda: node.in_flight() == 0, limit=0.5)
    with capsys.disabled():
        print(f"\n    six requests through three nodes were in every view after {took * 1e3:.0f} ms")


# Six rounds of four. Blind picks would use 16 different pods in the mean; `plimsoll` may now and then queue behind a request
# that is nearly done, because of what it has not heard yet.
@pytest.mark.parametrize(("policy", "at_least"), [("least_in_flight", 24), ("plimsoll", 20)])
def test_nodes_keep_out_of_each_others_way(nodes, tritons, policy, at_least):
    """The reason for it all, in small: four requests through three nodes, a tenth of a second apart, land on four pods."""
    cluster = nodes.cluster(NAMES, pods=tritons, policy=policy)
    for request in [LongRequest(node, 600) for node in cluster]:
        request.answered()  # now every node knows what one of these costs
    rounds = []
    for round in range(6):
        asked = []
        for turn in range(4):
            asked.append(LongRequest(cluster[(round + turn) % 3], 600))
            time.sleep(0.1)
        rounds.append([request.answered() for request in asked])
        for node in cluster:
            wait.until(f"{node.name} sees none", lambda: node.in_flight() == 0, limit=0.5)
    assert sum(len(set(pods)) for pods in rounds) >= at_least, rounds


def test_a_node_that_joins_late_learns_at_once(nodes, tritons):
    """What is in flight when it comes is in its view before its first pick, so that it does not start with a blunder."""
    old = nodes.start("old", pods=tritons, policy="least_in_flight")
    asked = [LongRequest(old, 4000) for _ in range(3)]
    wait.until("three are under way", lambda: old.own_in_flight() == 3)
    young = nodes.start("young", pods=tritons, join=[old], policy="least_in_flight")
    wait.until("it holds the three", lambda: young.holds_of("old") == 3, limit=2)
    free = [name for name, pod in young.view().items() if pod["in_flight"] == 0]
    assert [LongRequest(young, 10).answered()] == free
    for request in asked:
        request.answered()


def test_a_lone_node_balances_too(nodes, tritons):
    """No peers, no gossip: what it knows itself is all there is, and it is enough to use every pod once."""
    node = nodes.start("lone", pods=tritons)
    asked = []
    for _ in range(4):
        asked.append(LongRequest(node, 500))
        time.sleep(0.05)
    assert {request.answered() for request in asked} == {pod.name for pod in tritons}

"""A fleet that moves from a Redis to gossip, caller by caller: both sides see each other, nothing counts twice."""
import pytest
from harness import faces, redises, wait

LOADS = "balancer:loads"
PLAIN = f'key = "{LOADS}"\n'


@pytest.fixture
def theirs(tmp_path):
    """The Redis of the callers that have not moved."""
    with redises.running("redis-server", tmp_path) as server:
        with server.client(decode_responses=True) as client:
            client.zadd(LOADS, {"pod-0": 0, "pod-1": 0})
        yield server


def scores(client):
    return dict(client.zrange(LOADS, 0, -1, withscores=True))


def is_near(value, wanted):
    """Peers hear of a charge by its size class: half a power of two apart, so a fifth off at most."""
    return 0.8 * wanted <= value <= 1.25 * wanted


@pytest.fixture
def fleet(nodes, theirs):
    """Two nodes that may be the bridge, and one that only gossips; each speaks Redis to its own callers."""
    bridging = f'{PLAIN}bridge = "{theirs.url}"\n'
    with faces.test_pods() as pods:
        yield faces.cluster(nodes, {"first": bridging, "second": bridging, "third": PLAIN}, pods)


def holder(theirs):
    """The name of the node that is the bridge now."""
    (lease,) = theirs.keys("plimsoll:bridge:*:lease") or [""]
    return (theirs.get(lease) or "").split("/")[0]


def test_both_sides_see_each_other_through_deaths_of_either(fleet, theirs):
    """Each half of a fleet that sees only itself sends its requests where the other half's are."""
    their_client = theirs.client(decode_responses=True)
    third = fleet[2].client()

    third.zincrby(LOADS, 300, "pod-1")
    wait.until("their set has the gossiped load", lambda: is_near(scores(their_client)["pod-1"], 300), 10)
    their_client.zincrby(LOADS, 500, "pod-0")
    wait.until("gossip has theirs", lambda: is_near(scores(third)["pod-0"], 500), 3)
    assert scores(their_client)["pod-0"] == 500

    def is_as_it_was():
        there, here = scores(their_client), scores(third)
        return there["pod-0"] == 500 and is_near(there["pod-1"], 300) and here["pod-1"] == 300 and is_near(here["pod-0"], 500)

    wait.holds("what is read is not put back, and what is put is not read", is_as_it_was, 3)

    dead, other = (face.node for face in sorted(fleet[:2], key=lambda face: face.node.name != holder(their_client)))
    dead.kill()
    wait.until("the other one is the bridge", lambda: holder(their_client) == other.name, 8)
    wait.until("and nothing is lost or doubled", is_as_it_was, 8)
    wait.holds("nor later", is_as_it_was, 5)

    their_client.zincrby(LOADS, -500, "pod-0")
    third.zincrby(LOADS, -300, "pod-1")
    wait.until("all is given back", lambda: set(scores(their_client).values()) | set(scores(third).values()) == {0.0}, 3)

    third.zincrby(LOADS, 70, "pod-1")
    wait.until("what comes then is seen", lambda: is_near(scores(their_client)["pod-1"], 70), 3)
    theirs.kill()
    wait.until("what was theirs counts no more", lambda: scores(third) == {"pod-0": 0.0, "pod-1": 70.0}, 6)
    theirs.start()
    their_client.zadd(LOADS, {"pod-0": 5, "pod-1": 7})
    wait.until("an empty Redis is filled again", lambda: is_near(scores(their_client)["pod-1"] - 7, 70), 10)
    wait.until("and read again", lambda: is_near(scores(third)["pod-0"], 5), 3)

    other.end()
    assert scores(their_client) == {"pod-0": 5.0, "pod-1": 7.0}, "a bridge that ends takes out what it had put"

"""Sequences where nodes and pods come and go: a node that was restarted, or another one, finds a sequence where it began; one
whose pod is gone fails clearly and can be begun again."""
import uuid

import numpy as np
import pytest
import tritonclient.grpc as triton
from harness import wait
from harness.kserve import array, failure, pod_of

NAMES = ["a", "b"]


@pytest.fixture
def cluster(nodes, few_tritons):
    return nodes.cluster(NAMES, pods=few_tritons)


class Sequences:
    """Some sequences under way, integer and string ids in turn, and the pod that each is on."""

    def __init__(self, count, first):
        self.ids = [first + i if i % 2 else str(uuid.uuid4()) for i in range(count)]
        self.pods, self.turns = {}, 0

    def step(self, node, end=False):
        """The next request of each, by way of `node`: the sum is right and the pod the one where it began."""
        self.turns += 1
        with triton.InferenceServerClient(node.grpc) as client:
            for key in self.ids:
                answer = ask(client, key, start=self.turns == 1, end=end)
                assert answer.as_numpy("OUTPUT").item() == self.turns, f"sequence {key}"
                assert self.pods.setdefault(key, pod_of(answer)) == pod_of(answer)


def ask(client, key, start=False, end=False):
    one = array("INPUT", np.ones((1, 1), np.int32), "INT32")
    return client.infer("sim_sequence", one, sequence_id=key, sequence_start=start, sequence_end=end, client_timeout=10)


def test_sequences_outlive_their_node(cluster):
    """What a node remembers of sequences dies with it. Its next life finds them by their ids."""
    sequences = Sequences(16, first=5000)
    sequences.step(cluster[0])
    cluster[0].kill()
    cluster[0].start()
    sequences.step(cluster[0])
    sequences.step(cluster[0], end=True)
    assert len(set(sequences.pods.values())) > 1


def test_sequences_go_on_at_another_node(cluster):
    """A caller that turns to another node, as one does whose node drains: every turn by the other one."""
    sequences = Sequences(16, first=6000)
    for turn in range(4):
        sequences.step(cluster[turn % 2], end=turn == 3)


def test_a_sequence_whose_pod_is_gone_fails_clearly(cluster, few_tritons, few_lab):
    """Its state died with the pod: no other pod may answer as if it were in order. The error says what to do, doing it helps,
    and sequences on other pods notice nothing."""
    sequences = Sequences(16, first=7000)
    sequences.step(cluster[0])
    victim = few_tritons[0]
    lost = [key for key, pod in sequences.pods.items() if pod == victim.name]
    kept = [key for key in sequences.ids if key not in lost]
    assert lost and kept
    victim.kill()
    with triton.InferenceServerClient(cluster[0].grpc) as client:
        for key in kept:
            assert ask(client, key).as_numpy("OUTPUT").item() == 2
        for key in lost:
            status, text = failure(lambda: ask(client, key))
            assert status in ("StatusCode.UNAVAILABLE", "StatusCode.INVALID_ARGUMENT"), text
            assert "begin it again" in text or "START flag" in text or victim.name in text, text
        for key in lost:
            assert ask(client, key, start=True).as_numpy("OUTPUT").item() == 1
            assert ask(client, key, end=True).as_numpy("OUTPUT").item() == 2
    few_lab.restart(victim)
    wait.until("it is in again", lambda: not cluster[0].view()[victim.name]["ejected"], limit=10)

"""Three nodes, four Tritons, requests all the time: models that come and go, and pods that are up and no good.

Rates leave the pods about half idle, as in test_faults.
"""
import time

import pytest
import tritonclient.grpc as triton
from harness import wait
from harness.kserve import SMALL, failure, payload, pod_of
from harness.nodes import loopback
from harness.traffic import Traffic, poisson

NAMES = ["a", "b", "c"]
RATE = 60  # of about 140 per second that four pods can do with this mix


@pytest.fixture
def cluster(nodes, tritons):
    return nodes.cluster(NAMES, pods=tritons)


def describe(answers):
    return [f"{answer.node}: {answer.error}" for answer in answers[:5]]


def at(pod):
    return triton.InferenceServerClient(loopback(pod.grpc))


def test_a_model_that_is_unloaded_and_loaded_moves_its_traffic(cluster, tritons, capsys):
    """Unloaded on one pod after the other, and loaded again: the others take over without a failed request, and each pod
    is used again within the interval at which it is asked."""
    used = []
    with Traffic(cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1)
        for victim in tritons[:2]:
            with at(victim) as client:
                client.unload_model("sim_gpu")
                wait.until("it is unloaded", lambda: not client.is_model_ready("sim_gpu"), limit=10)
                time.sleep(0.2)
                gone = time.monotonic()
                time.sleep(2)
                assert victim.name not in traffic.pods_since(gone)
                client.load_model("sim_gpu")
                back = time.monotonic()
            wait.until("it is used again", lambda: victim.name in traffic.pods_since(back), limit=10)
            used.append(time.monotonic() - back)
    assert describe(traffic.failures()) == []
    with capsys.disabled():
        print(f"\n    {traffic.begun} requests; used again {used[0]:.1f} and {used[1]:.1f} s after it was loaded")


def test_a_model_that_moves_in_one_breath_is_found(cluster, tritons):
    """Only one pod has the model; it is loaded elsewhere and unloaded here. Every request finds it, one by one."""
    here, there = tritons[0], tritons[3]
    for pod in tritons[1:]:
        with at(pod) as client:
            client.unload_model("sim_echo")
    try:
        with triton.InferenceServerClient(cluster[0].grpc) as client:
            ask = lambda: client.infer("sim_echo", payload(SMALL))
            wait.until("nobody else has it", lambda: len({pod_of(ask()) for _ in range(12)}) == 1, limit=10)
            with at(there) as loads, at(here) as unloads:
                loads.load_model("sim_echo")
                unloads.unload_model("sim_echo")
            for _ in range(30):
                ask()
            wait.until("it is where it is", lambda: pod_of(ask()) == there.name, limit=5)
    finally:
        for pod in tritons:
            with at(pod) as client:
                client.load_model("sim_echo")


def test_a_name_that_nobody_knows_takes_nothing_away(cluster, tritons):
    """A thousand typos: each gets Triton's own words, and no pod is left alone for it."""
    with triton.InferenceServerClient(cluster[0].grpc) as client:
        for k in range(1000):
            status, text = failure(lambda: client.infer(f"nope-{k % 50}", payload(SMALL)))
            assert (status, text) == ("StatusCode.NOT_FOUND", f"Request for unknown model: 'nope-{k % 50}' is not found")
        seen = {pod_of(client.infer("sim_zero", payload(SMALL))) for _ in range(24)}
        assert seen == {pod.name for pod in tritons}

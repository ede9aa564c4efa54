"""Minutes of faults in a seeded order. What counts is what is left behind: nothing in flight, nobody forgotten, no memory."""
import pathlib
import random
import signal
import time

import pytest
from harness import wait
from harness.traffic import Traffic, poisson

NAMES = ["a", "b", "c"]
MINUTES = 6


def resident_mib(node):
    for line in pathlib.Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"node {node.name} has no memory to speak of")


class Faults:
    """Things that go wrong one at a time, and are put right again."""

    def __init__(self, cluster, tritons, triton_lab, rng):
        self.cluster, self.tritons, self.lab, self.rng = cluster, tritons, triton_lab, rng

    def kill_pod(self):
        pod = self.rng.choice(self.tritons)
        pod.kill()
        self.lab.restart(pod)

    def drain_pod(self):
        self.lab.restart(self.rng.choice(self.tritons))

    def stop_pod(self):
        pod = self.rng.choice(self.tritons)
        pod.stop()
        time.sleep(self.rng.uniform(0.5, 3))
        pod.cont()

    def slow_pod(self):
        pod = self.rng.choice(self.tritons)
        self.lab.slow(pod, 3)
        time.sleep(5)
        self.lab.slow(pod, 1)

    def sicken_pod(self):
        pod = self.rng.choice(self.tritons)
        self.lab.sicken(pod)
        time.sleep(4)
        self.lab.slow(pod, 1)

    def kill_model(self):
        pod = self.rng.choice(self.tritons)
        pod.kill_model("sim_gpu")
        time.sleep(4)
        pod.kill()
        self.lab.restart(pod)

    def kill_node(self):
        node = self.rng.choice(self.cluster)
        node.kill()
        time.sleep(self.rng.uniform(0, 4))
        node.start()

    def terminate_node(self):
        node = self.rng.choice(self.cluster)
        node.term()
        assert node.wait() == 0
        node.start()

    def stop_node(self):
        node = self.rng.choice(self.cluster)
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.5, 6))
        node.process.send_signal(signal.SIGCONT)


@pytest.mark.long
@pytest.mark.timeout(MINUTES * 60 + 300)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_left_behind(nodes, tritons, triton_lab, capsys, seed):
    """Whatever happened: soon after the last fault no request fails, every one has ended, every view is empty, all are members."""
    cluster = nodes.cluster(NAMES, pods=tritons)
    rng = random.Random(seed)
    faults = Faults(cluster, tritons, triton_lab, rng)
    kinds = [faults.kill_pod, faults.drain_pod, faults.stop_pod, faults.slow_pod]
    kinds += [faults.sicken_pod, faults.kill_model, faults.kill_node, faults.terminate_node, faults.stop_node]
    with Traffic(cluster, poisson(50, nodes=3, seed=seed)) as traffic:
        end = time.monotonic() + MINUTES * 60
        while time.monotonic() < end:
            kind = rng.choice(kinds)
            with capsys.disabled():
                print(f"\n    {traffic.begun} requests; now {kind.__name__}", end="", flush=True)
            kind()
            time.sleep(rng.uniform(1, 4))
        quiet = time.monotonic()
        time.sleep(20)
    late = [answer for answer in traffic.failures() if answer.begun > quiet + 10]
    assert late == [], late[:5]
    assert len(traffic.answers) == traffic.begun
    assert len(traffic.failures()) < 0.1 * traffic.begun
    for node in cluster:
        wait.until(f"{node.name} sees none in flight", lambda: node.in_flight() == 0, limit=10)
        wait.until(f"{node.name} sees all alive", lambda: set(node.alive_members()) >= set(NAMES) - {node.name}, limit=10)
        assert resident_mib(node) < 100

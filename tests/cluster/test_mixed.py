"""Thousands of requests of every kind through three nodes in front of three Tritons, while pods and nodes are killed, stopped,
continued and restarted in a seeded order.

Whatever happens: every ticket comes back and every remainder expires; no request is executed twice; none is answered later
than a second after its deadline; and every error that a caller sees is explained by a fault that was injected, at that time,
on the node that was asked or a pod behind it.
"""
import collections
import random
import signal
import time
from dataclasses import dataclass

import numpy as np
import pytest
import tritonclient.grpc as triton
from harness import wait
from harness.kserve import array, payload
from harness.mixed import Mixed
from harness.nodes import loopback
from tritonclient.utils import InferenceServerException

NAMES = ["a", "b", "c"]
RATE = 70  # per second; the three pods are about a quarter busy with it, so that an error is a fault's and no overload's
# How long after a fault is mended its traces may last: a pod that is back is asked again within 2 s.
AFTER = 2.5


@dataclass
class Fault:
    """What was done to whom. `until` is when it was mended; the victim works again."""

    kind: str
    victim: str
    since: float
    until: float = float("inf")

    def explains(self, done):
        """Whether it may be why this request failed: it was felt while the request was under way, where that was."""
        meanwhile = self.since <= done.ended and done.begun <= self.until + AFTER
        if self.kind.endswith("node"):
            return meanwhile and done.node == self.victim
        if self.kind == "restarted pod":
            # It finishes what it has, and the rest goes to others: but for sequences.
            return meanwhile and done.kind == "sequence"
        # An error that names pods must name this one.
        named = [pod for pod in ("pod0", "pod1", "pod2") if pod in done.text]
        return meanwhile and (not named or self.victim in named)


class Faults:
    """One fault after the other, with a rest between them, until there are no more requests."""

    def __init__(self, cluster, tritons, made_by, seed):
        self.cluster, self.tritons, self.lab, self.rng = cluster, tritons, made_by, random.Random(seed)
        self.done = []
        self.kinds = [self.kill_pod, self.restart_pod, self.stop_pod, self.kill_node, self.restart_node, self.stop_node]

    def run(self, while_true):
        """Every kind in turn, in an order that the seed shuffles."""
        while while_true():
            for kind in self.rng.sample(self.kinds, len(self.kinds)):
                if while_true():
                    kind()
                    self.rest(self.rng.uniform(1.0, 3.0), while_true)

    @staticmethod
    def rest(seconds, while_true):
        end = time.monotonic() + seconds
        while while_true() and time.monotonic() < end:
            time.sleep(0.05)

    def begin(self, kind, victim):
        self.done.append(Fault(kind, victim.name, time.monotonic()))
        return self.done[-1]

    def kill_pod(self):
        pod = self.rng.choice(self.tritons)
        fault = self.begin("killed pod", pod)
        pod.kill()
        self.lab.restart(pod)
        fault.until = time.monotonic()

    def restart_pod(self):
        """SIGTERM. No request may fail of it, but a sequence that was there cannot go on."""
        pod = self.rng.choice(self.tritons)
        fault = self.begin("restarted pod", pod)
        self.lab.restart(pod)
        fault.until = time.monotonic()

    def stop_pod(self):
        pod = self.rng.choice(self.tritons)
        fault = self.begin("stopped pod", pod)
        pod.stop()
        time.sleep(self.rng.uniform(0.3, 1.5))
        pod.cont()
        if not works(pod):  # 2.51 now and then dies when it is continued: its model's process, or all of it
            pod.kill()
            self.lab.restart(pod)
        fault.until = time.monotonic()

    def kill_node(self):
        node = self.rng.choice(self.cluster)
        fault = self.begin("killed node", node)
        node.kill()
        time.sleep(self.rng.uniform(0, 1))
        node.start()
        fault.until = time.monotonic()

    def restart_node(self):
        node = self.rng.choice(self.cluster)
        fault = self.begin("restarted node", node)
        node.term()
        assert node.wait() == 0
        node.start()
        fault.until = time.monotonic()

    def stop_node(self):
        node = self.rng.choice(self.cluster)
        fault = self.begin("stopped node", node)
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.3, 2))
        node.process.send_signal(signal.SIGCONT)
        fault.until = time.monotonic()


def works(pod):
    """Whether all its models answer, after a moment."""
    with triton.InferenceServerClient(loopback(pod.grpc)) as client:
        try:
            for model in ("sim_gpu", "sim_ledger"):
                client.infer(model, payload(100), client_timeout=5)
            one = array("INPUT", np.ones((1, 1), np.int32), "INT32")
            client.infer("sim_sequence", one, sequence_id=1, sequence_start=True, sequence_end=True, client_timeout=5)
            return True
        except InferenceServerException:
            return False


def executions(tritons, made_by):
    """How often each request id was executed, over all lives of all pods."""
    counts = collections.Counter()
    for pod in tritons:
        path = made_by.ledger(pod)
        counts.update(line.split()[0] for line in path.read_text().splitlines() if line)
    return counts


def unexplained(done, faults):
    """Errors that no fault accounts for."""
    if done.status == "OK" or done.cancelled:
        return False
    if done.status == "WRONG":
        return True
    if done.kind == "hopeless":  # it cannot be served in its time; saying so early is as good as late
        return done.status not in ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED") and not any(f.explains(done) for f in faults)
    return not any(fault.explains(done) for fault in faults)


def judge(mixed, faults, cluster, tritons, made_by):
    for node in cluster:
        view = lambda node=node: node.view().values()
        wait.until(f"{node.name} has no ticket left", lambda: node.own_in_flight() == 0, limit=5)
        wait.until(f"{node.name} has no remainder left", lambda: sum(pod["own_remainders"] for pod in view()) == 0, limit=10)
        wait.until(f"{node.name} sees none in flight", lambda: node.in_flight() == 0, limit=10)
    assert len(mixed.done) == mixed.begun and mixed.left_out == 0
    counts = executions(tritons, made_by)
    twice = [request for request, count in counts.items() if count > 1]
    assert twice == [], f"executed more than once: {twice[:10]}"
    lost = [request for done in mixed.done for request in done.executed if counts[request] != 1]
    assert lost == [], f"answered, but never executed: {lost[:10]}"
    assert len({done.id for done in mixed.done}) == len(mixed.done)
    late = [done for done in mixed.done if done.late > 1 + mixed.loop_late]
    assert late == [], late[:5]
    left = [done for done in mixed.done if unexplained(done, faults)]
    near = [fault for fault in faults if any(abs(done.ended - fault.until) < 10 for done in left)]
    told = "\n".join(map(str, [*left[:10], "faults within 10 s:", *near]))
    assert left == [], f"{len(left)} errors without a fault:\n{told}"


def tell(capsys, mixed, faults):
    by = collections.Counter(f"{done.kind}: {done.status}" for done in mixed.done)
    ends = ", ".join(f"{end} {count}" for end, count in sorted(by.items()))
    shaken = sum(fault.until - fault.since for fault in faults)
    with capsys.disabled():
        print(f"\n    {mixed.begun} requests, {len(faults)} faults over {shaken:.0f} s; {ends}")


@pytest.fixture
def cluster(nodes, few_tritons, few_lab):
    for pod in few_tritons:
        few_lab.ledger(pod).write_text("")  # what another test left there
    return nodes.cluster(NAMES, pods=few_tritons)


def play(cluster, tritons, made_by, capsys, count, seed):
    faults = Faults(cluster, tritons, made_by, seed)
    with Mixed(cluster, count, RATE, seed) as mixed:
        time.sleep(0.5)
        faults.run(mixed.under_way)
    tell(capsys, mixed, faults.done)
    judge(mixed, faults.done, cluster, tritons, made_by)


def test_thousands_of_requests_under_faults(cluster, few_tritons, few_lab, capsys):
    """A short run of it: 3,000 requests, every kind of fault at least once."""
    play(cluster, few_tritons, few_lab, capsys, 3000, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3])
def test_fifty_thousand_requests_under_faults(cluster, few_tritons, few_lab, capsys, seed):
    """The long one."""
    play(cluster, few_tritons, few_lab, capsys, 50_000 // 2, seed)

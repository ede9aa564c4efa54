"""Three nodes, four Tritons, requests all the time: and then something breaks.

Rates leave the pods about half idle, so that an unlucky queue is never mistaken for a fault's effect.
"""
import signal
import time

import grpc
import pytest
import tritonclient.grpc as triton
from harness import wait
from harness.kserve import NO_POD, SMALL, failure, payload
from harness.traffic import TRAFFIC, LongRequest, Traffic, poisson

NAMES = ["a", "b", "c"]
RATE = 60  # of about 140 per second that four pods can do with this mix


@pytest.fixture
def cluster(nodes, tritons):
    return nodes.cluster(NAMES, pods=tritons)


def total_in_flight_on(nodes, pod):
    return sum(node.view()[pod.name]["own_in_flight"] for node in nodes)


def describe(answers):
    return [f"{answer.node}: {answer.error}" for answer in answers[:5]]


# ---- nodes ----


def test_a_killed_node_is_forgotten_and_nobody_else_notices(cluster, capsys):
    """kill -9. What it had in flight must not stay in anybody's view: a ghost load would push requests elsewhere for ever.
    And the other nodes' requests go on as if nothing had been."""
    dead, *others = cluster
    with Traffic(others, poisson(RATE, nodes=2)) as traffic:
        for _ in range(3):
            LongRequest(dead, 1500)
        for node in others:
            wait.until(f"{node.name} knows of {dead.name}'s three", lambda: node.holds_of(dead.name) == 3)
        killed = time.monotonic()
        dead.kill()
        for node in others:
            wait.until(f"{node.name} holds nothing of {dead.name}", lambda: node.holds_of(dead.name) == 0, limit=4)
        took = time.monotonic() - killed
        for node in others:
            wait.until(f"{node.name} lists it alive no more", lambda: dead.name not in node.alive_members(), limit=10)
        time.sleep(1)
    assert traffic.failures() == []
    with capsys.disabled():
        print(f"\n    a killed node's load was gone from every view after {took:.2f} s")


def test_a_killed_node_comes_back_as_itself(cluster):
    """The same name and ports, a new epoch: its peers count its new load, not the old one."""
    reborn, *others = cluster
    LongRequest(reborn, 1000)
    wait.until("its load is seen", lambda: others[0].holds_of(reborn.name) == 1)
    reborn.kill()
    reborn.start()
    for node in others:
        wait.until(f"{node.name} lists it alive", lambda: reborn.name in node.alive_members(), limit=10)
    time.sleep(1)  # the pod still serves what the dead node left there
    asked = LongRequest(reborn, 1000)
    for node in others:
        wait.until(f"{node.name} sees its one request", lambda: node.holds_of(reborn.name) == 1, limit=1)
    asked.answered()
    for node in others:
        wait.until(f"{node.name} sees it end", lambda: node.holds_of(reborn.name) == 0, limit=1)


def test_a_terminated_node_finishes_its_requests_and_says_goodbye(cluster):
    """SIGTERM, as every rolling update sends it: no new requests, every old one answered, exit code 0, and peers need no
    failure detector to know."""
    leaver, *others = cluster
    with Traffic(cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1.5)
        asked = LongRequest(leaver, 1500)
        time.sleep(0.4)  # its connection is made and its pod is at it
        told = time.monotonic()
        leaver.term()
        wait.until("it takes no new requests", lambda: refuses(leaver), limit=1)
        assert asked.under_way(), f"it is still finishing one: {asked.error or asked.pod}"
        assert leaver.status("/health/ready") != 200
        asked.answered()
        assert leaver.wait(5) == 0
        ended = time.monotonic()
        for node in others:
            wait.until(f"{node.name} holds nothing of it", lambda: node.holds_of(leaver.name) == 0, limit=0.5)
            wait.until(f"{node.name} lists it no more", lambda: leaver.name not in node.alive_members(), limit=0.5)
        time.sleep(0.5)
    assert ended - told < 5
    assert describe(traffic.failures(*others)) == []
    # A request of the last few milliseconds may cross the goodbye on its way; gRPC retries those itself, most times.
    before = [answer for answer in traffic.failures(leaver) if answer.begun < told - 0.05]
    assert describe(before) == []
    after = {answer.error.split(":")[0] for answer in traffic.failures(leaver)}
    assert after <= {"StatusCode.UNAVAILABLE"}


def refuses(node):
    """Whether a new connection is turned away."""
    with grpc.insecure_channel(node.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.3)
        except grpc.FutureTimeoutError:
            return True
    return False


def test_a_stopped_node_is_forgotten_and_welcomed_back(cluster):
    """SIGSTOP and SIGCONT: a long pause of a machine. Its load fades while it is silent and returns when it is back."""
    paused, *others = cluster
    paused.process.send_signal(signal.SIGSTOP)
    for node in others:
        wait.until(f"{node.name} does not list it alive", lambda: paused.name not in node.alive_members(), limit=10)
    paused.process.send_signal(signal.SIGCONT)
    for node in cluster:
        rest = set(NAMES) - {node.name}
        wait.until(f"{node.name} sees all alive again", lambda: set(node.alive_members()) >= rest, limit=15)
    asked = LongRequest(paused, 600)
    for node in others:
        wait.until(f"{node.name} sees its load again", lambda: node.holds_of(paused.name) == 1, limit=1)
    asked.answered()


# ---- pods ----


def test_a_killed_pod_costs_only_what_it_was_serving(cluster, tritons, triton_lab, capsys):
    """kill -9 a Triton: what it was serving is lost, as nobody can know whether it ran; nothing else may fail. When it is
    back it serves again."""
    with Traffic(cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1.5)
        asked = [LongRequest(node, 800) for node in (*cluster, *cluster)]
        time.sleep(0.2)
        begun = traffic.begun
        victim = max(tritons, key=lambda pod: total_in_flight_on(cluster, pod))
        seen = total_in_flight_on(cluster, victim)
        assert seen > 0
        victim.kill()
        dead = time.monotonic()
        # Whatever came until every node had heard of it may have been sent there.
        time.sleep(0.05)
        could_be_lost = seen + traffic.begun - begun
        wait.until("nothing is in flight there", lambda: total_in_flight_on(cluster, victim) == 0, limit=2)
        # A node may knock now and then to see whether it is back, and is refused at once; nothing stays there.
        busy = wait.sampled(lambda: total_in_flight_on(cluster, victim) > 0, span=2)
        assert busy < 0.1, f"something was in flight on a dead pod for {busy:.0%} of the time"
        triton_lab.restart(victim)
        back = time.monotonic()
        wait.until("it is used again", lambda: victim.name in traffic.pods_since(back), limit=10)
        used = time.monotonic() - back
    failures = traffic.failures()
    lost = len(failures) + sum(request.failed() for request in asked)
    assert lost <= could_be_lost, describe(failures)
    assert describe([answer for answer in failures if answer.begun > dead]) == []
    with capsys.disabled():
        print(f"\n    a killed pod lost {lost} of at most {could_be_lost}; used again {used:.2f} s after its return")


@pytest.mark.parametrize("wire", TRAFFIC)
def test_a_draining_pod_loses_nothing(cluster, tritons, triton_lab, wire):
    """SIGTERM to a Triton: it finishes what it has and then, for two seconds, calls every model unknown. No caller may see
    that NOT_FOUND: the other pods know the model."""
    victim = tritons[2]
    with TRAFFIC[wire](cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1)
        victim.term()
        victim.wait_dead()
        time.sleep(1)
        triton_lab.restart(victim)
        back = time.monotonic()
        wait.until("it is used again", lambda: victim.name in traffic.pods_since(back), limit=10)
    assert describe(traffic.failures()) == []


def test_a_hanging_pod_is_left_alone(cluster, tritons, triton_lab, capsys):
    """SIGSTOP: connections stay open and nothing answers. Requests pile up there only until the nodes see it, and after
    SIGCONT all of them are answered: none was lost. Unless the Triton dies of it: 2.51's Python backend now and then does
    (signal 11, a lock_exception in its log: the model's process first, the server with it or not at all). Then only what it
    held when it was noticed may be lost, and it must be used again once it is back."""
    victim = tritons[3]
    died = lambda: not victim.alive() or any("Stub process" in answer.error for answer in traffic.failures())
    with Traffic(cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1)
        try:
            victim.stop()
            stopped = time.monotonic()
            time.sleep(4)
            sent = traffic.begun
            held = total_in_flight_on(cluster, victim)
        finally:
            victim.cont()
        serves = lambda: victim.name in traffic.pods_since(stopped)
        wait.until("it serves again, or has died", lambda: serves() or died(), limit=10)
        survived = not died()
        if not survived:
            triton_lab.restart(victim)
            back = time.monotonic()
            wait.until("it serves again", lambda: victim.name in traffic.pods_since(back), limit=10)
    lost = traffic.failures()
    if survived:
        assert describe(lost) == []
    else:
        with capsys.disabled():
            print(f"\n    the Triton died when it was continued; {len(lost)} requests were lost, it held {held}")
        # A dying model process answers with its own name or with nothing; the server that dies is named by the node.
        words = (victim.name, "Stub process", NO_POD)
        assert describe([answer for answer in lost if not any(word in answer.error for word in words)]) == []
        assert describe([answer for answer in lost if answer.begun > back]) == []
    # Least of all: with one pod of four dead to the world, blind picks would have put a quarter of 240 there.
    assert held <= 20, f"{held} requests were sent to a pod that answers nothing, of {sent}"


def test_a_sick_pod_is_ejected_and_readmitted(cluster, tritons, triton_lab, capsys):
    """A pod that fails at once, with nothing in flight, and calls itself ready: to a pick that only looks at load, the best
    pod of all, and a black hole for everything. After a few failures every node leaves it alone; healed, it is readmitted."""
    victim = tritons[0]
    with Traffic(cluster, poisson(RATE, nodes=3)) as traffic:
        time.sleep(1)
        triton_lab.sicken(victim)
        for node in cluster:
            wait.until(f"{node.name} ejects it", lambda: node.view()[victim.name]["ejected"], limit=5)
        ejected = time.monotonic()
        time.sleep(4)
        triton_lab.slow(victim, 1)
        healed = time.monotonic()
        wait.until("it is used again", lambda: victim.name in traffic.pods_since(healed), limit=30)
        readmitted = time.monotonic() - healed
    failures = traffic.failures()
    late = [answer for answer in failures if answer.begun > ejected]
    with capsys.disabled():
        print(
            f"\n    a sick pod failed {len(failures)} of {traffic.begun} requests, {len(late)} of them after its ejection;"
            f" used again {readmitted:.1f} s after it was healed"
        )
    assert len(failures) < 40, describe(failures)
    assert len(late) <= 9, describe(late)  # each of three nodes may try it again now and then


def test_a_pod_without_its_model_process_is_avoided(cluster, tritons, triton_lab):
    """The server lives and calls itself ready; each request fails after a second. That second alone keeps most away; what
    is bounded here is the damage, and that a new life of the pod counts as one."""
    victim = tritons[1]
    with Traffic(cluster, poisson(RATE, nodes=3)) as traffic:
        victim.kill_model("sim_gpu")
        time.sleep(5)
        victim.kill()  # it would not end by itself: it waits for the dead process
        triton_lab.restart(victim)
        back = time.monotonic()
        wait.until("it is used again", lambda: victim.name in traffic.pods_since(back), limit=20)
    failures = traffic.failures()
    assert len(failures) < 0.05 * traffic.begun, describe(failures)


# ---- who may join ----


def log_line(node, *words):
    return lambda: node.log_lines_with(*words)


def test_a_node_with_another_secret_is_refused(nodes, tritons):
    """The secret is the only door. The stranger sees nothing, and both sides say in one line what is wrong."""
    home = nodes.start("home", pods=tritons)
    stranger = nodes.start("stranger", pods=tritons, join=[home], secret=nodes.secret("other-secret"))
    wait.until("the stranger says why", log_line(stranger, "secret"), limit=10)
    wait.until("the node that refuses says why", log_line(home, "secret"), limit=10)
    wait.holds("they stay apart", lambda: "stranger" not in home.alive_members() and "home" not in stranger.alive_members(), 2)


def test_a_node_of_another_cluster_is_refused(nodes, tritons):
    """Two clusters that share a secret, say staging and production after a copied config, must not become one."""
    home = nodes.start("home", "--cluster", "blue", pods=tritons)
    stranger = nodes.start("stranger", "--cluster", "green", pods=tritons, join=[home])
    wait.until("the stranger says why", log_line(stranger, "cluster", "blue"), limit=10)
    wait.until("the node that refuses says why", log_line(home, "cluster", "green"), limit=10)
    wait.holds("they stay apart", lambda: "stranger" not in home.alive_members() and "home" not in stranger.alive_members(), 2)


def test_a_pod_that_refuses_is_told_from_a_node_that_fails(cluster):
    """An unknown model is the caller's mistake: no pod is ejected for it, however often it is asked."""
    with triton.InferenceServerClient(cluster[0].grpc) as client:
        for _ in range(50):
            assert failure(lambda: client.infer("nope", payload(SMALL)))[0] == "StatusCode.NOT_FOUND"
        assert not any(pod["ejected"] for pod in cluster[0].view().values())
        client.infer("sim_gpu", payload(SMALL))

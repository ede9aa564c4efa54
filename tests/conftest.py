"""Fixtures of all Python suites: four real Tritons, node processes that never outlive their test."""
import re

import lab
import pytest
from harness import nodes as node_processes
from harness import wait
from harness.wire import Spot

MODELS = ["sim_gpu", "sim_batch", "sim_padded", "sim_stream", "sim_fail", "sim_queue", "sim_zero", "sim_echo"]
# What the stock clients' surface is tried on: NVIDIA's example models, and a few of ours.
STOCK_MODELS = ["simple", "simple_int8", "simple_string", "simple_identity", "simple_sequence", "simple_dyna_sequence"]
STOCK_MODELS += ["simple_string_dyna_sequence", "repeat_int32", "sim_types", "sim_sequence", "sim_stream", "sim_echo", "sim_gpu"]
FEW_MODELS = ["sim_gpu", "sim_ledger", "sim_sequence", "sim_stream"]
RUN = node_processes.TARGET / "triton-tests"
FEW_RUN = node_processes.TARGET / "triton-few"
STOCK_RUN = node_processes.TARGET / "triton-stock"
LOGS = node_processes.TARGET / "test-logs"


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_collection_modifyitems(config, items):
    """Without --long the long tests are left out of the selection, in the open: pytest counts them as deselected."""
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def triton_lab():
    """The lab itself, for tests that kill and restart pods."""
    made = lab.Lab(run=RUN)
    made.down()  # what a killed run may have left
    yield made
    made.down()


@pytest.fixture(scope="session")
def started_tritons(triton_lab):
    return triton_lab.up(4, MODELS, base=lab.free_base(4, first=20000), real_time=10, tied=True)


@pytest.fixture
def tritons(triton_lab, started_tritons):
    """Four real Tritons with all simulated models, healthy at the start of every test."""
    return mended(triton_lab, started_tritons)


def mended(made, pods):
    """What the test before may have left ended or slow."""
    for pod in pods:
        if not pod.ready():
            made.restart(pod)
        made.slow(pod, 1)
    return pods


def folder_for(request):
    return LOGS / re.sub(r"[^\w.-]+", "-", request.node.nodeid)


@pytest.fixture
def nodes(request):
    """Node processes of one test."""
    made = node_processes.Nodes(folder_for(request))
    request.node.nodes_in_use = made
    yield made
    made.end()


@pytest.fixture(scope="module")
def fronts(request, started_tritons):
    """Two nodes in front of the four Tritons, for the tests of one module that only ask them."""
    made = node_processes.Nodes(folder_for(request))
    try:
        yield made.cluster(["front-a", "front-b"], pods=started_tritons)
    finally:
        made.end()


class Target:
    """Where a client is pointed: at a pod itself, or at a node. The tests must not be able to tell."""

    def __init__(self, name, grpc, http, node=None):
        self.name, self.grpc, self.http, self.node = name, grpc, http, node

    def settles_to_zero(self, limit=2.0):
        """Through a node: every ticket comes back. A pod has no such number to ask for."""
        if self.node:
            wait.until("own in flight returns to zero", lambda: self.node.own_in_flight() == 0, limit)


def direct_target(pod):
    return Target("direct", node_processes.loopback(pod.grpc), node_processes.loopback(pod.http))


@pytest.fixture
def direct(tritons):
    """A pod asked directly: what the right answer is."""
    return direct_target(tritons[0])


@pytest.fixture(params=["direct", "node"])
def target(request, tritons):
    """Every test that takes this runs twice: against a Triton, and against a node in front of four."""
    if request.param == "direct":
        return direct_target(tritons[0])
    node = request.getfixturevalue("fronts")[0]
    return Target("node", node.grpc, node.http, node)


# ---- a small fleet, for what restarts all of it ----


@pytest.fixture(scope="session")
def few_lab():
    made = lab.Lab(run=FEW_RUN)
    made.down()
    yield made
    made.down()


@pytest.fixture(scope="session")
def started_few(few_lab):
    return few_lab.up(3, FEW_MODELS, base=lab.free_base(3, first=22000), real_time=10, tied=True)


@pytest.fixture
def few_tritons(few_lab, started_few):
    """Three real Tritons with few models, which are quick to restart; healthy at the start of every test."""
    return mended(few_lab, started_few)


# ---- the stock clients' surface ----


@pytest.fixture(scope="session")
def stock_tritons():
    """Three Tritons with the models that NVIDIA's example clients ask for, compressing what they answer over gRPC."""
    made = lab.Lab(run=STOCK_RUN, models=[lab.STOCK, lab.MODELS])
    made.down()
    flags = ["--grpc-infer-response-compression-level=low", "--log-verbose=0"]
    try:
        yield made.up(3, STOCK_MODELS, base=lab.free_base(3, first=21000), flags=flags, tied=True)
    finally:
        made.down()


@pytest.fixture(scope="session")
def stock_front(stock_tritons):
    """A node in front of the three."""
    made = node_processes.Nodes(LOGS / "stock-front")
    try:
        yield made.start("stock-front", pods=stock_tritons)
    finally:
        made.end()


SPOTS = ["grpc-direct", "grpc-node", "http-direct", "http-node"]


def spot(request, tritons):
    wire, where = request.param.split("-")
    alone = Spot(wire, direct_target(tritons[0]))
    if where == "direct":
        return Spot(wire, direct_target(tritons[0]), alone)
    node = request.getfixturevalue("stock_front")
    return Spot(wire, Target("node", node.grpc, node.http, node), alone)


@pytest.fixture(params=SPOTS)
def stock(request, stock_tritons):
    """Every test that takes this runs over both protocols, against a Triton and against a node in front of three."""
    return spot(request, stock_tritons)


@pytest.fixture(params=[name for name in SPOTS if name.startswith("grpc")])
def stock_grpc(request, stock_tritons):
    """The same for what only gRPC has."""
    return spot(request, stock_tritons)


@pytest.fixture(params=[name for name in SPOTS if name.startswith("http")])
def stock_http(request, stock_tritons):
    """The same for what only HTTP has."""
    return spot(request, stock_tritons)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of its nodes' logs."""
    report = yield
    if report.failed:
        used = getattr(item, "nodes_in_use", None)
        for name, text in used.logs() if used else []:
            report.sections.append((f"log of node {name}", text))
    return report

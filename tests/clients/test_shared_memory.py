"""System shared memory: tensors that go past the wire, in both directions.

It works where client, node and pods are on one machine. A node registers a region with all of its pods (docs/triton.md), so
that the request which names the region may go to any of them.
"""
import base64
import itertools

import numpy as np
import pytest
import tritonclient.utils.shared_memory as memory
from harness.wire import ints, plain, seen
from tritonclient.utils import serialize_byte_tensor

BYTES = 16 * 4
HANDLE = base64.b64encode(bytes(64))
_names = itertools.count()


@pytest.fixture
def region(stock):
    """Two tensors' worth of shared memory, registered by nobody yet, by names that are new each time."""
    name = f"plimsoll-test-{next(_names)}"
    made = memory.create_shared_memory_region(name, f"/{name}", 4 * BYTES)
    try:
        yield name, made
    finally:
        with stock.client() as client:
            client.unregister_system_shared_memory()
        memory.destroy_shared_memory_region(made)


def register(client, name):
    client.register_system_shared_memory(name, f"/{name}", 4 * BYTES)


def names(client):
    status = plain(client.get_system_shared_memory_status())
    return sorted(status.get("regions", {}) if isinstance(status, dict) else [entry["name"] for entry in status])


def test_inputs_and_outputs_in_shared_memory(stock, region):
    """Both inputs are read from it and both outputs written to it, at their offsets. Nine times, so that every pod is asked."""
    name, made = region
    with stock.client() as client:
        register(client, name)
        inputs = [stock.module.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in range(2)]
        outputs = [stock.output(f"OUTPUT{i}") for i in range(2)]
        for i, tensor in enumerate((*inputs, *outputs)):
            tensor.set_shared_memory(name, BYTES, offset=i * BYTES)
        for turn in range(9):
            first, second = ints(*range(turn, turn + 16)).astype(np.int32), ints(turn).astype(np.int32)
            memory.set_shared_memory_region(made, [first, second])
            answer = client.infer("simple", inputs, outputs=outputs)
            assert answer.get_output("OUTPUT0") is not None
            for i, expected in enumerate((first + second, first - second)):
                got = memory.get_contents_as_numpy(made, np.int32, [1, 16], offset=(2 + i) * BYTES)
                assert np.array_equal(got, expected)


def test_strings_in_shared_memory(stock, region):
    """BYTES tensors in their serialized form."""
    name, made = region
    words = np.array([[b"a", b"bc", b"d\x00e"]], np.object_)
    serialized = serialize_byte_tensor(words)
    memory.set_shared_memory_region(made, [serialized])
    size = len(serialized.item())
    given = stock.module.InferInput("INPUT0", [1, 3], "BYTES")
    given.set_shared_memory(name, size)
    with stock.client() as client:
        register(client, name)
        answer = client.infer("simple_identity", [given])
    assert answer.as_numpy("OUTPUT0").tolist() == words.tolist()


def test_register_and_unregister(stock, region):
    """The status lists what is registered, one by name or all; what is unregistered is gone."""
    name, _ = region
    with stock.client() as client:
        assert names(client) == []
        register(client, name)
        assert names(client) == [name]
        one = plain(client.get_system_shared_memory_status(name))
        assert name in str(one) and str(4 * BYTES) in str(one)
        client.unregister_system_shared_memory(name)
        assert names(client) == []
        register(client, name)
        client.unregister_system_shared_memory()
        assert names(client) == []


FAILURES = {
    "a region twice": lambda client, name: (register(client, name), register(client, name)),
    "a key that is not there": lambda client, name: client.register_system_shared_memory(name, "/plimsoll-not-there", BYTES),
    "a region beyond its end": lambda client, name: client.register_system_shared_memory(name, f"/{name}", 9 * BYTES),
    "the status of an unknown region": lambda client, name: client.get_system_shared_memory_status("nope"),
    "the end of an unknown region": lambda client, name: client.unregister_system_shared_memory("nope"),
    "CUDA regions where there is no GPU": lambda client, name: client.register_cuda_shared_memory(name, HANDLE, 0, BYTES),
    "the status of CUDA regions": lambda client, name: client.get_cuda_shared_memory_status(),
    "the end of all CUDA regions": lambda client, name: client.unregister_cuda_shared_memory(),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_goes_wrong_is_said_in_tritons_words(stock, region, case):
    """The same call to a Triton alone and here, each from a fresh start."""
    name, _ = region

    def outcome(spot):
        with spot.client() as client:
            client.unregister_system_shared_memory()
            try:
                return seen(lambda: FAILURES[case](client, name))
            finally:
                client.unregister_system_shared_memory()

    expected = outcome(stock.alone)
    assert outcome(stock) == expected


def test_an_unregistered_region_is_refused(stock, region):
    """In a request: the text names the region."""
    name, _ = region
    given = stock.module.InferInput("INPUT0", [1, 3], "BYTES")
    given.set_shared_memory(name, 10)

    def ask(spot):
        with spot.client() as client:
            return seen(lambda: client.infer("simple_identity", [given]))

    refused = ask(stock)
    assert refused[0] == "failed" and name in refused[2]
    assert refused == ask(stock.alone)

"""The stock clients of both protocols by one handle, and what a caller sees of a call as plain data that can be compared."""
import json
import queue
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

MODULES = {"grpc": (grpc_client, grpc_aio), "http": (http_client, http_aio)}


@dataclass
class Spot:
    """Where a stock client is pointed, and over which protocol. `alone` is one Triton over the same protocol: what is right."""

    wire: str
    target: object
    alone: object = None

    @property
    def module(self):
        return MODULES[self.wire][0]

    @property
    def through_node(self):
        return self.target.node is not None

    @property
    def address(self):
        return getattr(self.target, self.wire)

    def client(self, **options):
        return self.module.InferenceServerClient(self.address, **options)

    def aio(self, **options):
        return MODULES[self.wire][1].InferenceServerClient(self.address, **options)

    def input(self, name, data, datatype, **options):
        tensor = self.module.InferInput(name, list(data.shape), datatype)
        tensor.set_data_from_numpy(data, **options)
        return tensor

    def output(self, name, **options):
        return self.module.InferRequestedOutput(name, **options)

    def number(self, value, name="INPUT"):
        """The input of a sequence model: one row of one number."""
        return self.input(name, np.full((1, 1), value, np.int32), "INT32")


def ints(*values):
    """One row of sixteen, as the `simple...` models take it: the values, then the last one again."""
    return np.array([[*values, *[values[-1]] * (16 - len(values))]])


class Stream:
    """A gRPC client's one stream, with its answers in a queue."""

    def __init__(self, client, **options):
        self.client, self.answers = client, queue.Queue()
        client.start_stream(lambda result, error: self.answers.put((result, error)), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_stream()

    def send(self, model, inputs, **options):
        self.client.async_stream_infer(model, inputs, **options)

    def next(self):
        return self.answers.get(timeout=10)

    def good(self, count=1):
        """The next answers, which must be good ones."""
        got = [self.next() for _ in range(count)]
        assert [error for _, error in got if error] == []
        return [result for result, _ in got]


def seen(call):
    """All that a caller sees of one call: how it failed, or what it gave, less what tells one pod from another."""
    try:
        return "ok", plain(call())
    except InferenceServerException as error:
        return "failed", error.status(), error.message()


def plain(answer):
    """An answer of any method, over either protocol, as data that compares."""
    if hasattr(answer, "get_response"):
        return plain_result(answer)
    if hasattr(answer, "DESCRIPTOR"):
        return json_format.MessageToDict(answer, preserving_proto_field_name=True)
    return answer


def plain_result(result):
    response = result.get_response()
    head = response if isinstance(response, dict) else json_format.MessageToDict(response, preserving_proto_field_name=True)
    head = json.loads(json.dumps(head))
    head.pop("raw_output_contents", None)
    outputs = {}
    for output in head.pop("outputs", []):
        name = output["name"]
        value = result.as_numpy(name)
        # Who answered and how long it slept differ by nature; that they are there, and their types, must not.
        data = None if name in ("POD", "SERVICE_US") or value is None else value.tolist()
        outputs[name] = (output["datatype"], [int(d) for d in output["shape"]], data)
    return head, outputs

"""The same call to a Triton alone and to a node in front of three must have the same outcome: status, text and payload.

What differs on purpose is in the table of docs/triton.md. Other suites look at what is right; this one at what is said when
something is wrong, and at the corners of what is right.
"""
import json

import grpc
import numpy as np
import pytest
from harness.kserve import payload
from harness.plain import exchange
from harness.wire import ints, seen
from tritonclient.grpc import service_pb2 as messages

ONES = ints(1).astype(np.int32)


def simple(spot, client, first=ONES, second=ONES, datatype="INT32", names=("INPUT0", "INPUT1"), model="simple", **options):
    tensors = [spot.input(name, data, datatype) for name, data in zip(names, (first, second))]
    return client.infer(model, tensors, **options)


def wide(rows, columns=16, dtype=np.int32):
    return np.ones((rows, columns), dtype)


# Over both protocols, by the stock client.
CALLS = {
    "a version": lambda s, c: simple(s, c, model_version="1"),
    "an unknown version": lambda s, c: simple(s, c, model_version="7"),
    "a version that is no number": lambda s, c: simple(s, c, model_version="wrong_specification"),
    "a version below zero": lambda s, c: simple(s, c, model_version="-3"),
    "no model name": lambda s, c: simple(s, c, model=""),
    "a model name with odd letters": lambda s, c: simple(s, c, model="größer als/alles?"),
    "a model name of 3000 letters": lambda s, c: simple(s, c, model="x" * 3000),
    "a missing input": lambda s, c: c.infer("simple", [s.input("INPUT0", ONES, "INT32")]),
    "an input twice": lambda s, c: simple(s, c, names=("INPUT0", "INPUT0")),
    "an unknown input": lambda s, c: simple(s, c, names=("INPUT0", "INPUT9")),
    "no inputs at all": lambda s, c: c.infer("simple", []),
    "an unknown output": lambda s, c: simple(s, c, outputs=[s.output("OUTPUT9")]),
    "another type": lambda s, c: simple(s, c, wide(1, dtype=np.int64), wide(1, dtype=np.int64), "INT64"),
    "too few columns": lambda s, c: simple(s, c, wide(1, 15), wide(1, 15)),
    "different batches": lambda s, c: simple(s, c, wide(1), wide(2)),
    "no batch": lambda s, c: simple(s, c, wide(0), wide(0)),
    "another rank": lambda s, c: simple(s, c, np.ones(16, np.int32), np.ones(16, np.int32)),
    "strings where numbers are spelled": lambda s, c: simple(
        s, c, np.array([[b"x"] * 16], np.object_), np.array([[b"1"] * 16], np.object_), "BYTES", model="simple_string"
    ),
    "a decoupled model in a plain call": lambda s, c: c.infer("sim_stream", payload(100, s.module)),
    "the readiness of a version": lambda s, c: c.is_model_ready("simple", "1"),
    "the readiness of an unknown version": lambda s, c: c.is_model_ready("simple", "7"),
    "the readiness of an unknown model": lambda s, c: c.is_model_ready("nope"),
    "the readiness of a version that is no number": lambda s, c: c.is_model_ready("simple", "x"),
    "the metadata of a model": lambda s, c: c.get_model_metadata("simple"),
    "the metadata of a version": lambda s, c: c.get_model_metadata("simple", "1"),
    "the metadata of an unknown version": lambda s, c: c.get_model_metadata("simple", "7"),
    "the metadata of an unknown model": lambda s, c: c.get_model_metadata("nope"),
    "the configuration of a model": lambda s, c: c.get_model_config("simple_dyna_sequence"),
    "the configuration of an unknown version": lambda s, c: c.get_model_config("simple", "7"),
    "the configuration of an unknown model": lambda s, c: c.get_model_config("nope"),
    "the statistics of an unknown version": lambda s, c: c.get_inference_statistics("simple", "7"),
    "liveness": lambda s, c: c.is_server_live(),
    "readiness": lambda s, c: c.is_server_ready(),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_has_the_same_outcome(stock, case):
    """By the stock client, over both protocols."""
    with stock.client() as client, stock.alone.client() as alone:
        expected = seen(lambda: CALLS[case](stock.alone, alone))
        assert seen(lambda: CALLS[case](stock, client)) == expected
    stock.target.settles_to_zero()


def raw(**changes):
    """A good request for `simple` as a message, with something changed about it."""
    request = messages.ModelInferRequest(model_name="simple", id="raw", raw_input_contents=[ONES.tobytes()] * 2)
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
    for key, value in changes.items():
        if key == "contents":
            del request.raw_input_contents[:]
            request.raw_input_contents.extend(value)
        elif key == "datatype":
            request.inputs[0].datatype = value
        elif key == "shape":
            del request.inputs[0].shape[:]
            request.inputs[0].shape.extend(value)
        else:
            key, field = key.split("__")
            setattr(request.parameters[key], field, value)
    return request.SerializeToString()


# What only a hand-made message can say.
MESSAGES = {
    "good": raw(),
    "too few raw contents": raw(contents=[ONES.tobytes()]),
    "too many raw contents": raw(contents=[ONES.tobytes()] * 3),
    "raw contents that are too short": raw(contents=[ONES.tobytes()[:-1], ONES.tobytes()]),
    "raw contents that are too long": raw(contents=[ONES.tobytes() + b"\x00", ONES.tobytes()]),
    "empty raw contents": raw(contents=[b"", ONES.tobytes()]),
    "no contents": raw(contents=[]),
    "a type that is none": raw(datatype="INT33"),
    "no type": raw(datatype=""),
    "a shape below zero": raw(shape=[-1, 16]),
    "a shape beyond all bounds": raw(shape=[2**40, 2**40]),
    "a priority as text": raw(priority__string_param="high"),
    "a timeout as text": raw(timeout__string_param="soon"),
    "a sequence id of another type": raw(sequence_id__bool_param=True),
    "a sequence flag of another type": raw(sequence_start__int64_param=1),
    "a sequence id for a model without sequences": raw(sequence_id__int64_param=5),
    "an unknown shared memory region": messages.ModelInferRequest(
        model_name="simple",
        inputs=[
            {
                "name": "INPUT0",
                "datatype": "INT32",
                "shape": [1, 16],
                "parameters": {
                    "shared_memory_region": messages.InferParameter(string_param="nowhere"),
                    "shared_memory_byte_size": messages.InferParameter(int64_param=64),
                },
            }
        ],
    ).SerializeToString(),
    "an empty message": b"",
    "only a name": messages.ModelInferRequest(model_name="simple").SerializeToString(),
    "fields that nobody knows": raw() + b"\xa2\x06\x03abc",
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_message_has_the_same_outcome(stock_grpc, case):
    """Bytes on a channel: nothing of a client between them and the node."""

    def ask(spot):
        with grpc.insecure_channel(spot.address) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            try:
                return infer(MESSAGES[case], timeout=5)
            except grpc.RpcError as error:
                return error.code(), error.details()

    expected = ask(stock_grpc.alone)
    assert ask(stock_grpc) == expected
    stock_grpc.target.settles_to_zero()


def body(**changes):
    tensors = [{"name": name, "shape": [1, 16], "datatype": "INT32", "data": [1] * 16} for name in ("INPUT0", "INPUT1")]
    return json.dumps({"id": "plain", "inputs": tensors} | changes).encode()


INFER = "/v2/models/simple/infer"
BINARY = {"Inference-Header-Content-Length": "10"}
# Path, body, headers and method of plain HTTP.
EXCHANGES = {
    "good": (INFER, body(), {}, "POST"),
    "a version": ("/v2/models/simple/versions/1/infer", body(), {}, "POST"),
    "an unknown version": ("/v2/models/simple/versions/7/infer", body(), {}, "POST"),
    "a version that is no number": ("/v2/models/simple/versions/x/infer", body(), {}, "POST"),
    "an unknown model": ("/v2/models/nope/infer", body(), {}, "POST"),
    "an encoded model name": ("/v2/models/si%6Dple/infer", body(), {}, "POST"),
    "a query": (INFER + "?a=b", body(), {}, "POST"),
    "no body": (INFER, b"", {}, "POST"),
    "a body that is no JSON": (INFER, b"{" * 50, {}, "POST"),
    "a body that is a list": (INFER, b"[]", {}, "POST"),
    "no inputs": (INFER, b"{}", {}, "POST"),
    "inputs that are no list": (INFER, body(inputs=7), {}, "POST"),
    "too little data": (INFER, body(inputs=[{"name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "data": [1]}]), {}, "POST"),
    "parameters that are no object": (INFER, body(parameters=[1]), {}, "POST"),
    "a binary head that is longer than the body": (INFER, b"{}", BINARY, "POST"),
    "a binary head of no length": (INFER, body(), {"Inference-Header-Content-Length": "x"}, "POST"),
    "a binary head below zero": (INFER, body(), {"Inference-Header-Content-Length": "-1"}, "POST"),
    "a body that is not as compressed as it says": (INFER, body(), {"Content-Encoding": "gzip"}, "POST"),
    "a compression that nobody knows": (INFER, body(), {"Content-Encoding": "sonnet"}, "POST"),
    "an answer in a compression that nobody knows": (INFER, body(), {"Accept-Encoding": "sonnet"}, "POST"),
    "infer by GET": (INFER, None, {}, "GET"),
    "infer by PUT": (INFER, body(), {}, "PUT"),
    "health by POST": ("/v2/health/live", b"", {}, "POST"),
    "live": ("/v2/health/live", None, {}, "GET"),
    "ready": ("/v2/health/ready", None, {}, "GET"),
    "a model that is ready": ("/v2/models/simple/ready", None, {}, "GET"),
    "a model that is not ready": ("/v2/models/nope/ready", None, {}, "GET"),
    "a version that is not ready": ("/v2/models/simple/versions/7/ready", None, {}, "GET"),
    "the metadata of a model": ("/v2/models/simple", None, {}, "GET"),
    "the metadata of an unknown model": ("/v2/models/nope", None, {}, "GET"),
    "the configuration of a model": ("/v2/models/simple/config", None, {}, "GET"),
    "a path that is not there": ("/v2/nothing/here", None, {}, "GET"),
    "no path": ("/", None, {}, "GET"),
    "a path of another protocol": ("/v1/models/simple:predict", b"{}", {}, "POST"),
    "an index as Triton wants it": ("/v2/repository/index", b"{}", {}, "POST"),
    "a repository action that nobody knows": ("/v2/repository/models/simple/paint", b"{}", {}, "POST"),
}


@pytest.mark.parametrize("case", EXCHANGES)
def test_an_exchange_has_the_same_outcome(stock_http, case):
    """Status, content type and body, over a connection of its own."""
    path, sent, headers, method = EXCHANGES[case]

    def ask(spot):
        status, answer, text = exchange(spot.address, path, sent, headers, method)
        return status, answer.get("Content-Type"), answer.get("Content-Encoding"), text

    expected = ask(stock_http.alone)
    assert ask(stock_http) == expected
    stock_http.target.settles_to_zero()

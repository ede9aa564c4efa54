"""Tensors of every type, in every form in which a stock client can send them, must come back bit for bit."""
import queue

import grpc
import ml_dtypes
import numpy as np
import pytest
from harness.wire import ints, seen
from tritonclient.grpc import service_pb2 as messages
from tritonclient.utils import deserialize_bytes_tensor


def extremes(dtype):
    about = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    return np.array([[about.min, about.max, 0, 1]], dtype)


WORDS = np.array([[b"", b"a\x00b", "größer".encode(), b"x" * 70_000]], np.object_)
VALUES = {
    "BOOL": np.array([[True, False, True]]),
    **{f"INT{bits}": extremes(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": extremes(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "FP16": np.array([[1.5, -0.0, np.inf, np.nan]], np.float16),
    "FP32": np.array([[1.5, -0.0, np.inf, np.nan, 1e-45]], np.float32),
    "FP64": np.array([[np.pi, -0.0, -np.inf, np.nan, 5e-324]], np.float64),
    "BF16": np.array([[1.5, -2.0, np.inf]], ml_dtypes.bfloat16),
    "BYTES": WORDS,
}

# Where a type's values stand in a message that has them spelled out.
CONTENTS = {
    "BOOL": "bool_contents",
    **{name: "int_contents" for name in ("INT8", "INT16", "INT32")},
    "INT64": "int64_contents",
    **{name: "uint_contents" for name in ("UINT8", "UINT16", "UINT32")},
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def same(ours, theirs):
    """To the last bit, so that a NaN equals itself and -0.0 does not equal 0.0."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tolist() == theirs.tolist() if ours.dtype == np.object_ else ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("datatype", VALUES)
def test_every_type_comes_back_bit_for_bit(stock, datatype):
    """The client's default form: raw bytes over gRPC, the binary extension over HTTP."""
    with stock.client() as client:
        answer = client.infer("sim_types", [stock.input(f"IN_{datatype}", VALUES[datatype], datatype)])
    same(answer.as_numpy(f"OUT_{datatype}"), VALUES[datatype])


def test_all_types_in_one_request(stock):
    """Raw contents carry no names: they must stay in the order of the inputs. A string in the middle moves all the rest."""
    inputs = [stock.input(f"IN_{datatype}", data, datatype) for datatype, data in VALUES.items()]
    with stock.client() as client:
        answer = client.infer("sim_types", inputs, outputs=[stock.output(f"OUT_{datatype}") for datatype in VALUES])
    for datatype, data in VALUES.items():
        same(answer.as_numpy(f"OUT_{datatype}"), data)


def test_empty_tensors(stock):
    """No elements is a valid shape, and no bytes is not the same as none given."""
    inputs = [
        stock.input("IN_INT32", np.zeros((1, 0), np.int32), "INT32"),
        stock.input("IN_BYTES", np.zeros((1, 0), np.object_), "BYTES"),
    ]
    with stock.client() as client:
        answer = client.infer("sim_types", inputs)
    assert answer.as_numpy("OUT_INT32").shape == (1, 0)
    assert answer.as_numpy("OUT_BYTES").shape == (1, 0)


@pytest.mark.parametrize("datatype", CONTENTS)
def test_explicit_contents(stock_grpc, datatype):
    """What other languages' generated clients send: values spelled out in typed fields, not as raw bytes."""
    data = VALUES[datatype]
    request = messages.ModelInferRequest(model_name="sim_types", id="explicit")
    tensor = request.inputs.add(name=f"IN_{datatype}", datatype=datatype, shape=list(data.shape))
    getattr(tensor.contents, CONTENTS[datatype]).extend(data.reshape(-1).tolist())
    with stock_grpc.client() as client:
        answer = client._client_stub.ModelInfer(request, timeout=10)
    assert answer.id == "explicit"
    raw = answer.raw_output_contents[0]
    got = deserialize_bytes_tensor(raw) if datatype == "BYTES" else np.frombuffer(raw, data.dtype)
    same(got.reshape(data.shape), data)


def test_explicit_and_raw_contents_do_not_mix(stock_grpc):
    """Triton refuses such a request; whoever passes it on has no say in it."""
    request = messages.ModelInferRequest(model_name="sim_types")
    request.inputs.add(name="IN_INT32", datatype="INT32", shape=[1, 1]).contents.int_contents.append(7)
    request.inputs.add(name="IN_INT64", datatype="INT64", shape=[1, 1])
    request.raw_input_contents.append(bytes(8))

    def ask(spot):
        with spot.client() as client:
            try:
                return client._client_stub.ModelInfer(request, timeout=10)
            except grpc.RpcError as error:
                return error.code(), error.details()

    assert ask(stock_grpc) == ask(stock_grpc.alone)
    assert ask(stock_grpc)[0].name == "INVALID_ARGUMENT"


@pytest.mark.parametrize("datatype", [name for name in VALUES if name not in ("FP16", "BF16")])
def test_tensors_in_json(stock_http, datatype):
    """Without the binary extension, in both directions. JSON knows no NaN and no half floats."""
    data = np.nan_to_num(VALUES[datatype], posinf=2, neginf=-2) if datatype.startswith("FP") else VALUES[datatype]
    if datatype == "BYTES":
        data = np.array([["", "größer", 'a "quoted" \\ word\n']], np.object_)
    tensor = stock_http.input(f"IN_{datatype}", data, datatype, binary_data=False)
    with stock_http.client() as client:
        answer = client.infer("sim_types", [tensor], outputs=[stock_http.output(f"OUT_{datatype}", binary_data=False)])
    got = answer.get_response()["outputs"][0]["data"]
    assert got == data.reshape(-1).tolist()


def test_binary_and_json_tensors_in_one_request(stock_http):
    """The binary ones follow the JSON head, each as long as it says there."""
    inputs = [
        stock_http.input("IN_INT32", VALUES["INT32"], "INT32", binary_data=False),
        stock_http.input("IN_FP64", VALUES["FP64"], "FP64", binary_data=True),
        stock_http.input("IN_INT8", VALUES["INT8"], "INT8", binary_data=False),
        stock_http.input("IN_BYTES", VALUES["BYTES"], "BYTES", binary_data=True),
    ]
    outputs = [stock_http.output("OUT_INT32", binary_data=True), stock_http.output("OUT_INT8", binary_data=False)]
    outputs += [stock_http.output("OUT_FP64"), stock_http.output("OUT_BYTES")]
    with stock_http.client() as client:
        answer = client.infer("sim_types", inputs, outputs=outputs)
    for datatype in ("INT32", "FP64", "BYTES"):
        same(answer.as_numpy(f"OUT_{datatype}"), VALUES[datatype])
    assert answer.as_numpy("OUT_INT8").tolist() == VALUES["INT8"].tolist()


# ---- the models of NVIDIA's examples ----


@pytest.mark.parametrize("model, datatype, dtype", [("simple", "INT32", np.int32), ("simple_int8", "INT8", np.int8)])
def test_sums_and_differences(stock, model, datatype, dtype):
    """Two inputs and two outputs that must not be mistaken for each other."""
    first, second = ints(*range(16)).astype(dtype), ints(1).astype(dtype)
    inputs = [stock.input("INPUT0", first, datatype), stock.input("INPUT1", second, datatype)]
    with stock.client() as client:
        answer = client.infer(model, inputs)
        only = client.infer(model, inputs, outputs=[stock.output("OUTPUT1")])
    same(answer.as_numpy("OUTPUT0"), first + second)
    same(answer.as_numpy("OUTPUT1"), first - second)
    same(only.as_numpy("OUTPUT1"), first - second)
    assert only.as_numpy("OUTPUT0") is None


def test_numbers_as_text(stock):
    """BYTES tensors in a model that computes with them."""
    first, second = (np.array([[str(n).encode() for n in row]], np.object_) for row in (range(16), [1] * 16))
    with stock.client() as client:
        answer = client.infer("simple_string", [stock.input("INPUT0", first, "BYTES"), stock.input("INPUT1", second, "BYTES")])
    assert [int(word) for word in answer.as_numpy("OUTPUT0")[0]] == [n + 1 for n in range(16)]
    assert [int(word) for word in answer.as_numpy("OUTPUT1")[0]] == [n - 1 for n in range(16)]


@pytest.mark.parametrize("words", [WORDS, np.array([[b"\x00\x01\x02\x03"] * 16], np.bytes_)], ids=["objects", "fixed width"])
def test_strings_come_back(stock, words):
    """Zero bytes, no bytes, many bytes; and numpy's strings of fixed width."""
    with stock.client() as client:
        answer = client.infer("simple_identity", [stock.input("INPUT0", words, "BYTES")])
    assert answer.as_numpy("OUTPUT0").shape == words.shape
    assert answer.as_numpy("OUTPUT0")[0].tolist() == words[0].tolist()


def test_a_batch_is_a_batch(stock):
    """Rows stay rows, up to the model's largest batch; one more is refused in the words of a Triton."""
    rows = np.arange(8 * 16, dtype=np.int32).reshape(8, 16)
    nine = np.zeros((9, 16), np.int32)

    def ask(spot, data):
        with spot.client() as client:
            return client.infer("simple", [spot.input("INPUT0", data, "INT32"), spot.input("INPUT1", data, "INT32")])

    same(ask(stock, rows).as_numpy("OUTPUT0"), rows * 2)
    refused = seen(lambda: ask(stock, nine))
    assert refused[0] == "failed" and refused == seen(lambda: ask(stock.alone, nine))


def test_the_classification_extension(stock):
    """class_count turns an output into its largest values with their places: Triton's own work, asked by a parameter."""
    data = np.array([[5, 1, 9, *[0] * 13]], np.int32)
    inputs = [stock.input("INPUT0", data, "INT32"), stock.input("INPUT1", np.zeros_like(data), "INT32")]
    with stock.client() as client:
        answer = client.infer("simple", inputs, outputs=[stock.output("OUTPUT0", class_count=2)])
    tops = [word.decode().split(":") for word in answer.as_numpy("OUTPUT0").reshape(-1)]
    assert [(float(value), int(place)) for value, place in tops] == [(9, 2), (5, 0)]


# ---- the same objects again and again ----


def test_inputs_outputs_and_clients_are_used_again(stock):
    """One client, one pair of inputs, new data in them each time: nothing of an earlier request may stick."""
    first, second = stock.module.InferInput("INPUT0", [1, 16], "INT32"), stock.module.InferInput("INPUT1", [1, 16], "INT32")
    outputs = [stock.output("OUTPUT0"), stock.output("OUTPUT1")]
    with stock.client() as client:
        for turn in range(12):
            ours, other = ints(*range(turn, turn + 16)).astype(np.int32), ints(turn).astype(np.int32)
            first.set_data_from_numpy(ours)
            second.set_data_from_numpy(other)
            answer = client.infer("simple", [first, second], outputs=outputs, request_id=str(turn))
            same(answer.as_numpy("OUTPUT0"), ours + other)
            same(answer.as_numpy("OUTPUT1"), ours - other)


def test_one_input_in_many_requests_at_once(stock):
    """The same input objects in thirty requests that are all under way: they are read, never written."""
    data = ints(*range(16)).astype(np.int32)
    inputs = [stock.input("INPUT0", data, "INT32"), stock.input("INPUT1", data, "INT32")]
    if stock.wire == "http":
        with stock.client(concurrency=8) as client:
            calls = [client.async_infer("simple", inputs) for _ in range(30)]
            answers = [call.get_result(timeout=10) for call in calls]
    else:
        with stock.client() as client:
            got = queue.Queue()
            for _ in range(30):
                client.async_infer("simple", inputs, lambda result, error: got.put(error or result))
            answers = [got.get(timeout=10) for _ in range(30)]
    for answer in answers:
        same(answer.as_numpy("OUTPUT0"), data * 2)

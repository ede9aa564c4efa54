"""The stock tritonclient over gRPC with only the address changed.

Every test runs against a Triton itself (`direct`) and against a node in front of four (`node`): the first shows that the
test tells the truth about Triton, the second that a node cannot be told apart from one.
"""
import asyncio
import json
import queue
import threading
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from harness.kserve import BIG, SMALL, array, failure, mode, payload, pod_of, tokens
from harness.nodes import loopback
from harness.wire import Stream
from tritonclient.grpc import service_pb2 as messages
from tritonclient.utils import InferenceServerException

SERVICE = "/inference.GRPCInferenceService/"
MIB = 1024 * 1024


@pytest.fixture
def client(target):
    with triton.InferenceServerClient(target.grpc) as made:
        yield made


@pytest.fixture
def direct_client(direct):
    with triton.InferenceServerClient(direct.grpc) as made:
        yield made


def aio(target, story):
    """Runs an async test body with an aio client."""

    async def run():
        async with triton_aio.InferenceServerClient(target.grpc) as client:
            return await asyncio.wait_for(story(client), 60)

    return asyncio.run(run())


# ---- one request, one answer ----


def test_a_request_is_answered(client, tritons):
    """The plainest call there is. The answer says what served it, and how long, so that it came from a real pod."""
    answer = client.infer("sim_gpu", payload(SMALL), request_id="a-1")
    assert answer.get_response().id == "a-1"
    assert answer.get_response().model_name == "sim_gpu"
    assert answer.as_numpy("SERVICE_US")[0] >= 5000
    assert pod_of(answer) in {pod.name for pod in tritons}


def test_a_callback_gets_its_answer(client):
    """async_infer answers on another thread: forty at once, each exactly once, none lost."""
    answers = queue.Queue()
    for i in range(40):
        client.async_infer("sim_zero", payload(SMALL), lambda result, error: answers.put((result, error)), request_id=str(i))
    got = [answers.get(timeout=10) for _ in range(40)]
    assert [error for _, error in got if error] == []
    assert sorted(int(result.get_response().id) for result, _ in got) == list(range(40))


def test_an_asyncio_client_has_many_in_flight(target):
    """A hundred at once over one connection: a front that serves a connection's streams one by one would take seconds."""

    async def story(client):
        calls = [client.infer("sim_zero", payload(SMALL, triton_aio), request_id=str(i)) for i in range(100)]
        answers = await asyncio.gather(*calls)
        assert [int(answer.get_response().id) for answer in answers] == list(range(100))

    aio(target, story)
    target.settles_to_zero()


def test_one_client_and_its_inputs_are_used_again_and_again(client, target):
    """One connection must not pin its requests to one pod: fifty calls in a row meet more than one behind a node."""
    inputs = payload(SMALL)
    pods = set()
    for _ in range(10):
        burst = queue.Queue()
        for _ in range(5):
            client.async_infer("sim_gpu", inputs, lambda result, error: burst.put((result, error)))
        for _ in range(5):
            result, error = burst.get(timeout=10)
            assert error is None
            pods.add(pod_of(result))
    assert len(pods) > 1 if target.node else pods == {"pod0"}


def test_only_the_outputs_asked_for_come_back(client):
    """Requested outputs are part of the request that passes through."""
    answer = client.infer("sim_gpu", payload(SMALL), outputs=[triton.InferRequestedOutput("POD")])
    assert [output.name for output in answer.get_response().outputs] == ["POD"]


def test_batches_keep_their_shape(client):
    """A model with a batch dimension and dynamic batching answers with one row per row."""
    rows = array("PAYLOAD", np.zeros((3, SMALL), np.uint8), "UINT8")
    assert client.infer("sim_batch", rows).as_numpy("BATCH").shape == (3, 1)


def test_eight_mebibytes_go_there_and_back_unchanged(client):
    """Tensors above gRPC's 4 MiB default are everyday here; a limit or a re-encoding on the way would show."""
    data = np.random.default_rng(7).integers(0, 256, 8 * MIB, dtype=np.uint8)
    answer = client.infer("sim_echo", array("PAYLOAD", data, "UINT8"))
    assert np.array_equal(answer.as_numpy("ECHO"), data)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_understood(client, algorithm):
    """The frames are compressed by the client; whoever passes them on must keep flag and encoding together."""
    data = np.tile(np.arange(250, dtype=np.uint8), 4000)
    answer = client.infer("sim_echo", array("PAYLOAD", data, "UINT8"), compression_algorithm=algorithm)
    assert np.array_equal(answer.as_numpy("ECHO"), data)


def test_parameters_and_headers_reach_the_pod(client):
    """Triton turns x-... headers into parameters here, and sim_echo says back which ones it saw."""
    answer = client.infer(
        "sim_echo", payload(SMALL), headers={"x-tenant": "blue", "x-many": "1"}, parameters={"colour": "red", "count": 3}
    )
    seen = json.loads(answer.as_numpy("PARAMETERS")[0])
    assert {key: seen[key] for key in ("colour", "count", "x-tenant")} == {"colour": "red", "count": 3, "x-tenant": "blue"}


def test_a_parameter_steers_the_model(client):
    """`service_ms` overrides the service time: the parameter passed through with type and value."""
    answer = client.infer("sim_gpu", payload(SMALL), parameters={"service_ms": 30})
    assert 30_000 <= answer.as_numpy("SERVICE_US")[0] < 60_000


def test_metadata_comes_back_as_from_triton(target, direct):
    """Initial and trailing metadata of an answer: a node adds the name of the pod that gave it, and nothing else."""

    def keys(address):
        with grpc.insecure_channel(address) as channel:
            infer = channel.unary_unary(SERVICE + "ModelInfer", response_deserializer=messages.ModelInferResponse.FromString)
            answer, call = infer.with_call(raw_request("sim_zero"), timeout=10)
            assert answer.model_name == "sim_zero"
            return sorted(k for k, _ in call.initial_metadata()), sorted(k for k, _ in call.trailing_metadata())

    initial, trailing = keys(direct.grpc)
    assert keys(target.grpc) == (sorted([*initial, "plimsoll-pod"] if target.node else initial), trailing)


def raw_request(model, size=SMALL, **parameters):
    """A ModelInferRequest as bytes, for channels without the tritonclient around them."""
    request = messages.ModelInferRequest(model_name=model, raw_input_contents=[bytes(size)])
    request.inputs.add(name="PAYLOAD", datatype="UINT8", shape=[size])
    for key, value in parameters.items():
        request.parameters[key].int64_param = value
    return request.SerializeToString()


# ---- streams ----


def test_a_stream_answers_every_request(client):
    """ModelStreamInfer on an ordinary model: one answer per request, each with its id."""
    with Stream(client) as stream:
        for i in range(8):
            client.async_stream_infer("sim_gpu", payload(SMALL), request_id=str(i))
        got = [stream.next() for _ in range(8)]
    assert [error for _, error in got if error] == []
    assert sorted(int(result.get_response().id) for result, _ in got) == list(range(8))


def test_a_decoupled_model_streams_its_tokens_in_order(client, target):
    """Many answers to one request, then the empty final one: as a language model speaks."""
    with Stream(client) as stream:
        client.async_stream_infer("sim_stream", tokens(6, 5), request_id="t", enable_empty_final_response=True)
        got = [stream.next() for _ in range(7)]
    assert [error for _, error in got if error] == []
    assert [result.as_numpy("INDEX")[0] for result, _ in got[:6]] == list(range(6))
    assert len({pod_of(result) for result, _ in got[:6]}) == 1
    assert got[6][0].get_response().parameters["triton_final_response"].bool_param
    target.settles_to_zero()


def test_tokens_arrive_as_they_are_made(client):
    """A front that collects a stream before it passes it on would deliver all at the end."""
    with Stream(client) as stream:
        start = time.monotonic()
        client.async_stream_infer("sim_stream", tokens(5, 200))
        _, error = stream.next()
        first = time.monotonic() - start
        assert error is None
        for _ in range(4):
            assert stream.next()[1] is None
        last = time.monotonic() - start
    assert first < 0.6 * last, f"first token after {first:.2f} s, last after {last:.2f} s"


def test_an_error_inside_a_stream_leaves_the_stream_open(client, direct_client):
    """Triton answers a bad request on a stream with a message, not with the end of the stream."""
    with Stream(direct_client) as stream:
        direct_client.async_stream_infer("nope", payload(SMALL))
        expected = stream.next()[1].message()
    with Stream(client) as stream:
        client.async_stream_infer("nope", payload(SMALL))
        result, error = stream.next()
        assert result is None and error.message() == expected
        client.async_stream_infer("sim_gpu", payload(SMALL), request_id="after")
        result, error = stream.next()
        assert error is None and result.get_response().id == "after"


def test_an_asyncio_stream(target):
    """The aio client's stream_infer takes a generator of requests and gives one of answers."""

    async def story(client):
        async def requests():
            for i in range(5):
                yield {"model_name": "sim_gpu", "inputs": payload(SMALL, triton_aio), "request_id": str(i)}
            yield {"model_name": "sim_stream", "inputs": tokens(3, 5, triton_aio), "request_id": "tokens"}

        ids = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            ids.append(result.get_response().id)
        assert sorted(ids) == ["0", "1", "2", "3", "4", "tokens", "tokens", "tokens"]

    aio(target, story)
    target.settles_to_zero()


# ---- health and descriptions ----


def test_health(client):
    """What a readiness probe asks through the client."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("sim_gpu")
    assert not client.is_model_ready("nope")


@pytest.mark.parametrize("service", [b"", b"inference.GRPCInferenceService"], ids=["server", "service"])
def test_standard_grpc_health(target, service):
    """grpc.health.v1, as Kubernetes and service meshes ask it. Written by hand: field 1 is a string, SERVING is 1."""
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    with grpc.insecure_channel(target.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(request, timeout=5) == b"\x08\x01"


def test_server_metadata(client, direct_client):
    """Version and extensions are Triton's; the name is the one field that may tell the answering pod."""
    ours, theirs = client.get_server_metadata(), direct_client.get_server_metadata()
    assert (ours.version, list(ours.extensions)) == (theirs.version, list(theirs.extensions))
    assert ours.name


@pytest.mark.parametrize("model", ["sim_gpu", "sim_batch", "sim_stream"])
def test_model_metadata_and_config(client, direct_client, model):
    """Clients build their inputs from these, so they must be Triton's to the last field."""
    assert client.get_model_metadata(model) == direct_client.get_model_metadata(model)
    assert client.get_model_config(model) == direct_client.get_model_config(model)


def test_statistics(client):
    """The statistics of a model that served at least one request."""
    client.infer("sim_gpu", payload(SMALL))
    stats = client.get_inference_statistics("sim_gpu").model_stats
    assert [model.name for model in stats] == ["sim_gpu"]


def test_repository_index(client, direct_client):
    """Which models there are, in whatever order."""

    def index(asked):
        return sorted((model.name, model.version, model.state) for model in asked.get_model_repository_index().models)

    assert index(client) == index(direct_client)


def test_settings(client, direct_client):
    """The lesser known methods pass through like the others."""
    assert client.get_log_settings() == direct_client.get_log_settings()
    assert client.get_trace_settings() == direct_client.get_trace_settings()


# ---- errors ----

FAILURES = {
    "unknown model": ("NOT_FOUND", lambda c: c.infer("nope", payload(SMALL))),
    "unknown version": ("NOT_FOUND", lambda c: c.infer("sim_gpu", payload(SMALL), model_version="7")),
    "unknown model's config": ("NOT_FOUND", lambda c: c.get_model_config("nope")),
    "unknown model's metadata": ("NOT_FOUND", lambda c: c.get_model_metadata("nope")),
    "wrong input name": ("INVALID_ARGUMENT", lambda c: c.infer("sim_gpu", array("X", np.zeros(9, np.uint8), "UINT8"))),
    "wrong type": ("INVALID_ARGUMENT", lambda c: c.infer("sim_gpu", array("PAYLOAD", np.zeros(9, np.int32), "INT32"))),
    "wrong rank": ("INVALID_ARGUMENT", lambda c: c.infer("sim_gpu", array("PAYLOAD", np.zeros((2, 9), np.uint8), "UINT8"))),
    "decoupled model": ("UNIMPLEMENTED", lambda c: c.infer("sim_stream", payload(SMALL))),
    "exception in the model": ("INTERNAL", lambda c: c.infer("sim_fail", mode("raise"))),
    "TritonError unknown": ("UNKNOWN", lambda c: c.infer("sim_fail", mode("unknown"))),
    "TritonError internal": ("INTERNAL", lambda c: c.infer("sim_fail", mode("internal"))),
    "TritonError not_found": ("NOT_FOUND", lambda c: c.infer("sim_fail", mode("not_found"))),
    "TritonError invalid_arg": ("INVALID_ARGUMENT", lambda c: c.infer("sim_fail", mode("invalid_arg"))),
    "TritonError unavailable": ("UNAVAILABLE", lambda c: c.infer("sim_fail", mode("unavailable"))),
    "TritonError unsupported": ("UNIMPLEMENTED", lambda c: c.infer("sim_fail", mode("unsupported"))),
    "TritonError already_exists": ("ALREADY_EXISTS", lambda c: c.infer("sim_fail", mode("already_exists"))),
    "TritonError cancelled": ("CANCELLED", lambda c: c.infer("sim_fail", mode("cancelled"))),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_error_keeps_its_status_and_text(client, direct_client, target, case):
    """Callers branch on the status and operators read the text: both must be Triton's own, letter for letter."""
    status, call = FAILURES[case]
    expected = failure(lambda: call(direct_client))
    assert expected[0] == f"StatusCode.{status}"
    assert failure(lambda: call(client)) == expected
    target.settles_to_zero()


def test_an_unknown_method_is_unimplemented(target):
    """A client newer than the server asks for what there is not."""
    with grpc.insecure_channel(target.grpc) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(SERVICE + "NotYetInvented")(b"", timeout=5)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_message_are_refused(target):
    """A broken request is the caller's fault: an error status on this call, and the connection goes on."""
    with grpc.insecure_channel(target.grpc) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        with pytest.raises(grpc.RpcError) as error:
            infer(b"\x0a\xff\xff\xff\xff\x0fno message", timeout=5)
        assert error.value.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK)
        assert messages.ModelInferResponse.FromString(infer(raw_request("sim_zero"), timeout=5)).model_name == "sim_zero"


def test_full_queues_are_told_in_tritons_words(target):
    """More than all queues hold: some are served, and those that are refused are refused as Triton does it."""

    async def story(client):
        calls = [client.infer("sim_queue", payload(BIG, triton_aio, batch=True)) for _ in range(40)]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = aio(target, story)
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    assert 0 < len(errors) < 40
    assert {error.status() for error in errors} == {"StatusCode.UNAVAILABLE"}
    # The queue was full on arrival, or a place in it came too late: 4 x 120 ms against a limit of 500 ms.
    texts = {error.message().removeprefix("[request id: <id_unknown>] ") for error in errors}
    assert texts <= {"Exceeds maximum queue size", "Request timeout expired"}, texts
    target.settles_to_zero()


# ---- giving up ----


def test_a_deadline_is_kept(client, target):
    """client_timeout travels as grpc-timeout; the answer comes when it is over, not when the pod is done."""
    start = time.monotonic()
    status, text = failure(lambda: client.infer("sim_gpu", payload(SMALL), parameters={"service_ms": 1000}, client_timeout=0.2))
    # The client and whoever is asked keep the same deadline; who is first to say so is chance, and so are the capitals.
    assert (status, text.lower()) == ("StatusCode.DEADLINE_EXCEEDED", "deadline exceeded")
    assert time.monotonic() - start < 0.8
    target.settles_to_zero()
    time.sleep(1.0)  # the pod serves the abandoned request all the same: leave the next test an idle one


def test_a_cancelled_call_returns_its_ticket(client, target):
    """Cancelling the call object of async_infer ends the request at once; the count must not stay behind."""
    done = threading.Event()
    errors = []

    def callback(result, error):
        errors.append(error)
        done.set()

    call = client.async_infer("sim_gpu", payload(SMALL), callback, parameters={"service_ms": 800})
    time.sleep(0.2)
    if target.node:
        assert target.node.own_in_flight() == 1
    call.cancel()
    assert done.wait(5)
    assert errors[0].status() == "StatusCode.CANCELLED"
    target.settles_to_zero(0.5)
    time.sleep(0.7)


def test_a_cancelled_task_returns_its_ticket(target):
    """The asyncio way: the task that awaits the answer is cancelled."""

    async def story(client):
        task = asyncio.create_task(
            client.infer("sim_gpu", payload(SMALL, triton_aio), parameters={"service_ms": 800})
        )
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or isinstance(task.exception(), InferenceServerException)
        await asyncio.to_thread(target.settles_to_zero, 0.5)
        await asyncio.sleep(0.7)

    aio(target, story)


def test_an_abandoned_stream_returns_its_tickets(client, target):
    """stop_stream(cancel_requests=True) in the middle of an answer."""
    stream = Stream(client)
    client.async_stream_infer("sim_stream", tokens(100, 20))
    assert stream.next()[1] is None
    if target.node:
        assert target.node.own_in_flight() >= 1
    client.stop_stream(cancel_requests=True)
    target.settles_to_zero(1.0)


def test_a_connection_that_breaks_returns_its_tickets(target):
    """A client process that dies in the middle: nobody cancels anything, the connection is just gone."""
    channel = grpc.insecure_channel(target.grpc)
    futures = [
        channel.unary_unary(SERVICE + "ModelInfer").future(raw_request("sim_gpu", service_ms=400), timeout=10) for _ in range(3)
    ]
    time.sleep(0.2)
    channel.close()
    assert all(future.cancelled() or future.exception() for future in futures)
    target.settles_to_zero(1.0)
    time.sleep(1.2)


# ---- addresses ----


def test_a_client_with_several_addresses(target, tritons, request):
    """grpc-core sends such a target's whole list as :authority, which is no valid URI authority; strict servers choke."""
    second = loopback(tritons[1].grpc) if target.name == "direct" else request.getfixturevalue("fronts")[1].grpc
    several = f"ipv4:{target.grpc},{second}"
    with triton.InferenceServerClient(several) as client:
        assert client.is_server_ready()
        assert client.infer("sim_gpu", payload(SMALL)).as_numpy("SERVICE_US")[0] >= 5000
    with grpc.insecure_channel(several, [("grpc.lb_policy_name", "round_robin")]) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer", response_deserializer=messages.ModelInferResponse.FromString)
        for _ in range(4):
            assert infer(raw_request("sim_zero"), timeout=5).model_name == "sim_zero"


def test_a_name_as_address(target):
    """`localhost` instead of numbers: the authority is a name."""
    with triton.InferenceServerClient(target.grpc.replace("127.0.0.1", "localhost")) as client:
        assert client.is_server_live()
        assert pod_of(client.infer("sim_gpu", payload(SMALL)))

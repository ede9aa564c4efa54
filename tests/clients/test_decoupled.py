"""Decoupled models: any number of answers to one request, over gRPC streams and HTTP's server-sent events."""
import asyncio
import http.client
import json
import time

import numpy as np
import pytest
from harness.kserve import payload, pod_of, tokens
from harness.plain import events, exchange, post
from harness.wire import Stream


def repeat(spot, values, delay_ms=2, wait_ms=0):
    """The inputs of repeat_int32."""
    values = np.array(values, np.int32)
    return [
        spot.input("IN", values, "INT32"),
        spot.input("DELAY", np.full(len(values), delay_ms, np.uint32), "UINT32"),
        spot.input("WAIT", np.array([wait_ms], np.uint32), "UINT32"),
    ]


def number(answer, name="OUT"):
    return int(answer.as_numpy(name)[0])


def final(answer):
    parameter = answer.get_response().parameters.get("triton_final_response")
    return parameter is not None and parameter.bool_param


def test_a_request_is_answered_many_times(stock_grpc):
    """NVIDIA's example: ten values, ten answers, in order, each with the request's id."""
    with stock_grpc.client() as client, Stream(client) as stream:
        stream.send("repeat_int32", repeat(stock_grpc, range(100, 110)), request_id="r")
        answers = stream.good(10)
    assert [number(answer) for answer in answers] == list(range(100, 110))
    assert {answer.get_response().id for answer in answers} == {"r"}
    stock_grpc.target.settles_to_zero()


@pytest.mark.parametrize("asked", [True, False])
def test_the_empty_final_response(stock_grpc, asked):
    """Only those who ask for it get a last message without outputs that says it is the last; only it says so."""
    with stock_grpc.client() as client, Stream(client) as stream:
        stream.send("repeat_int32", repeat(stock_grpc, [1, 2]), enable_empty_final_response=asked, request_id="first")
        answers = stream.good(3 if asked else 2)
        # The next request's answer comes at once: nothing stood between.
        stream.send("repeat_int32", repeat(stock_grpc, [3]), request_id="second")
        assert stream.good()[0].get_response().id == "second"
    assert [final(answer) for answer in answers] == ([False, False, True] if asked else [False, False])
    assert [len(answer.get_response().outputs) for answer in answers][2:] == ([0] if asked else [])


def test_no_values_is_an_end_and_nothing_else(stock_grpc):
    """A request without a single answer ends with the empty one alone."""
    with stock_grpc.client() as client, Stream(client) as stream:
        stream.send("repeat_int32", repeat(stock_grpc, []), enable_empty_final_response=True, request_id="none")
        answer = stream.good()[0]
    assert final(answer) and len(answer.get_response().outputs) == 0
    stock_grpc.target.settles_to_zero()


def test_ordinary_models_answer_in_a_stream_with_their_one_as_the_final(stock_grpc):
    """With the flag asked for, the only answer is the final one."""
    with stock_grpc.client() as client, Stream(client) as stream:
        stream.send("sim_gpu", payload(100), enable_empty_final_response=True)
        assert final(stream.good()[0])


def test_several_requests_share_a_stream(stock_grpc):
    """Their answers interleave; the ids keep them apart, and each one's are in order."""
    with stock_grpc.client() as client, Stream(client) as stream:
        for request in range(3):
            values = range(100 * request, 100 * request + 6)
            stream.send("repeat_int32", repeat(stock_grpc, values, delay_ms=10), request_id=str(request))
        answers = stream.good(18)
    for request in range(3):
        mine = [number(answer) for answer in answers if answer.get_response().id == str(request)]
        assert mine == list(range(100 * request, 100 * request + 6))


def test_different_models_share_a_stream(stock_grpc):
    """Ordinary, decoupled and failing ones: each is answered by its id and the stream goes on."""
    with stock_grpc.client() as client, Stream(client) as stream:
        stream.send("sim_stream", tokens(3, 5), request_id="tokens")
        stream.send("nope", payload(100), request_id="unknown")
        stream.send("sim_gpu", payload(100), request_id="gpu")
        got = [stream.next() for _ in range(5)]
    assert sorted(result.get_response().id for result, error in got if not error) == ["gpu", "tokens", "tokens", "tokens"]
    assert ["unknown model" in str(error) for _, error in got if error] == [True]


def test_an_asyncio_stream_is_read_as_it_comes(stock_grpc):
    """Requests go out while answers come in: the second is asked only after the first answer was seen."""

    async def story():
        seen = asyncio.Event()

        async def requests():
            yield {"model_name": "repeat_int32", "inputs": repeat(stock_grpc, [1, 2, 3], delay_ms=20), "request_id": "a"}
            await asyncio.wait_for(seen.wait(), 10)
            yield {"model_name": "repeat_int32", "inputs": repeat(stock_grpc, [4]), "request_id": "b"}

        got = []
        async with stock_grpc.aio() as client:
            async for answer, error in client.stream_infer(requests()):
                assert error is None
                got.append((answer.get_response().id, number(answer)))
                seen.set()
        assert sorted(got) == [("a", 1), ("a", 2), ("a", 3), ("b", 4)]

    asyncio.run(asyncio.wait_for(story(), 60))
    stock_grpc.target.settles_to_zero()


def test_a_long_stream_stays_on_its_pod(stock_grpc):
    """Two hundred answers to one request, then a second request in the same stream."""
    with stock_grpc.client() as client, Stream(client) as stream:
        stream.send("sim_stream", tokens(200, 1))
        answers = stream.good(200)
        stream.send("sim_stream", tokens(2, 1))
        answers += stream.good(2)
    assert len({pod_of(answer) for answer in answers}) == 1
    assert [number(answer, "INDEX") for answer in answers] == [*range(200), 0, 1]


# ---- generate ----


def prompt(count=4, gap_ms=5, **more):
    return {"PAYLOAD": [0] * 100, "TOKENS": count, "GAP_MS": gap_ms, **more}


def test_generate(stock_http):
    """One question, one answer, tensors as plain JSON fields."""
    status, headers, answer = post(stock_http.address, "/v2/models/sim_gpu/generate", {"PAYLOAD": [0] * 100, "id": "g1"})
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert answer["SERVICE_US"] >= 5000 and answer["id"] == "g1" and answer["model_name"] == "sim_gpu"


def test_generate_a_version(stock_http):
    """The path may name the version."""
    assert post(stock_http.address, "/v2/models/sim_gpu/versions/1/generate", {"PAYLOAD": [0] * 100})[0] == 200


def test_parameters_of_generate(stock_http):
    """What is no input becomes a parameter of the request."""
    _, _, answer = post(stock_http.address, "/v2/models/sim_echo/generate", {"PAYLOAD": [1, 2], "colour": "red", "count": 3})
    assert {key: json.loads(answer["PARAMETERS"])[key] for key in ("colour", "count")} == {"colour": "red", "count": 3}


def test_generate_stream(stock_http):
    """An event per token, and nothing buffered on the way: the first comes long before the last."""


    connection = http.client.HTTPConnection(stock_http.address, timeout=10)
    begun = time.monotonic()
    connection.request("POST", "/v2/models/sim_stream/generate_stream", json.dumps(prompt(5, 200)))
    answer = connection.getresponse()
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
    line = answer.readline()
    first = time.monotonic() - begun
    rest = answer.read()
    last = time.monotonic() - begun
    connection.close()
    assert [event["INDEX"] for event in events(line + rest)] == [0, 1, 2, 3, 4]
    assert first < 0.6 * last, f"first after {first:.2f} s, last after {last:.2f} s"
    stock_http.target.settles_to_zero()


def test_generate_stream_of_an_ordinary_model(stock_http):
    """One event."""
    asked = json.dumps({"PAYLOAD": [0] * 100}).encode()
    status, _, body = exchange(stock_http.address, "/v2/models/sim_gpu/generate_stream", asked)
    assert status == 200 and len(events(body)) == 1


BAD = {
    "generate of a decoupled model with many answers": ("/v2/models/sim_stream/generate", prompt()),
    "an unknown model": ("/v2/models/nope/generate", prompt()),
    "an unknown model as a stream": ("/v2/models/nope/generate_stream", prompt()),
    "an unknown version": ("/v2/models/sim_gpu/versions/7/generate", {"PAYLOAD": [0]}),
    "a missing input": ("/v2/models/sim_gpu/generate", {"colour": "red"}),
    "a missing input of a stream": ("/v2/models/sim_stream/generate_stream", {"colour": "red"}),
    "a value of another type": ("/v2/models/sim_gpu/generate", {"PAYLOAD": ["x"]}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_generate_is_said_by_triton(stock_http, case):
    """Status, type and text."""
    path, body = BAD[case]
    ours, theirs = (exchange(spot.address, path, json.dumps(body).encode()) for spot in (stock_http, stock_http.alone))
    assert (ours[0], ours[1]["Content-Type"], ours[2]) == (theirs[0], theirs[1]["Content-Type"], theirs[2])
    assert b"error" in theirs[2]
    stock_http.target.settles_to_zero()

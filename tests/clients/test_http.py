"""The stock tritonclient over HTTP/REST, and plain HTTP: against a Triton, and through a node in front of four."""
import asyncio
import gzip
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from harness.kserve import SMALL, array, failure, mode, payload, pod_of

MIB = 1024 * 1024


@pytest.fixture
def client(target):
    with triton.InferenceServerClient(target.http) as made:
        yield made


@pytest.fixture
def direct_client(direct):
    with triton.InferenceServerClient(direct.http) as made:
        yield made


def exchange(target, path, body=None, headers=None):
    """Status, headers and body of one plain HTTP exchange, errors included."""
    request = urllib.request.Request(f"http://{target.http}{path}", data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def as_json(size=SMALL):
    """A KServe v2 request without binary tensors, as curl sends it."""
    return json.dumps({"inputs": [{"name": "PAYLOAD", "shape": [size], "datatype": "UINT8", "data": [0] * size}]}).encode()


def test_a_request_is_answered(client, target, tritons):
    """Binary tensors behind a JSON header, the client's default."""
    answer = client.infer("sim_gpu", payload(SMALL, triton), request_id="a-1")
    assert answer.get_response()["id"] == "a-1"
    assert answer.as_numpy("SERVICE_US")[0] >= 5000
    assert pod_of(answer) in {pod.name for pod in tritons}
    target.settles_to_zero()


def test_a_request_in_json(target):
    """No tritonclient at all: what a person sends by hand."""
    status, _, body = exchange(target, "/v2/models/sim_gpu/infer", as_json())
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    assert status == 200 and outputs["SERVICE_US"][0] >= 5000


def test_the_generate_endpoint(target):
    """Triton's own short form; PAYLOAD and answers as plain JSON fields."""
    status, _, body = exchange(target, "/v2/models/sim_gpu/generate", json.dumps({"PAYLOAD": [0] * SMALL}).encode())
    assert status == 200 and json.loads(body)["SERVICE_US"] >= 5000


def test_generated_tokens_come_as_server_sent_events(target):
    """generate_stream keeps its content type and sends one event per token."""
    asked = json.dumps({"PAYLOAD": [0] * SMALL, "TOKENS": 4, "GAP_MS": 5}).encode()
    status, headers, body = exchange(target, "/v2/models/sim_stream/generate_stream", asked)
    events = [json.loads(line.removeprefix("data:")) for line in body.decode().splitlines() if line.startswith("data:")]
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream")
    assert [event["INDEX"] for event in events] == [0, 1, 2, 3]


def test_an_asyncio_client_has_many_in_flight(target):
    """Thirty at once over the client's connection pool."""

    async def story():
        async with triton_aio.InferenceServerClient(target.http) as client:
            return await asyncio.gather(*[client.infer("sim_zero", payload(SMALL, triton)) for _ in range(30)])

    assert len(asyncio.run(story())) == 30
    target.settles_to_zero()


def test_eight_mebibytes_go_there_and_back_unchanged(client):
    """Content length, chunking and the binary header must all survive."""
    data = np.random.default_rng(8).integers(0, 256, 8 * MIB, dtype=np.uint8)
    answer = client.infer("sim_echo", array("PAYLOAD", data, "UINT8", triton))
    assert np.array_equal(answer.as_numpy("ECHO"), data)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(client, algorithm):
    """Content-Encoding on the way in, Accept-Encoding on the way out."""
    data = np.tile(np.arange(250, dtype=np.uint8), 4000)
    answer = client.infer(
        "sim_echo",
        array("PAYLOAD", data, "UINT8", triton),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert np.array_equal(answer.as_numpy("ECHO"), data)


def test_a_compressed_answer_says_so(target):
    """The encoding header belongs to the body: passing one on without the other breaks every client."""
    status, headers, body = exchange(target, "/v2/models/sim_echo/infer", as_json(4000), {"Accept-Encoding": "gzip"})
    assert status == 200
    text = gzip.decompress(body) if headers["Content-Encoding"] == "gzip" else body
    assert len(json.loads(text)["outputs"][0]["data"]) == 4000


def test_headers_and_parameters_reach_the_pod(client):
    """x-... headers become parameters in these Tritons, which sim_echo says back."""
    answer = client.infer(
        "sim_echo", payload(SMALL, triton), headers={"x-tenant": "blue"}, parameters={"colour": "red", "count": 3}
    )
    seen = json.loads(answer.as_numpy("PARAMETERS")[0])
    assert {key: seen[key] for key in ("colour", "count", "x-tenant")} == {"colour": "red", "count": 3, "x-tenant": "blue"}


def test_health(client):
    """The endpoints of a Kubernetes probe, through the client."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("sim_gpu")
    assert not client.is_model_ready("nope")


def test_descriptions(client, direct_client):
    """Metadata and configuration, which clients build their inputs from."""
    ours, theirs = client.get_server_metadata(), direct_client.get_server_metadata()
    assert (ours["version"], ours["extensions"]) == (theirs["version"], theirs["extensions"])
    for model in ("sim_gpu", "sim_batch", "sim_stream"):
        assert client.get_model_metadata(model) == direct_client.get_model_metadata(model)
        assert client.get_model_config(model) == direct_client.get_model_config(model)
    assert client.get_inference_statistics("sim_gpu")["model_stats"][0]["name"] == "sim_gpu"


FAILURES = {
    "unknown model": ("404", lambda c: c.infer("nope", payload(SMALL, triton))),
    "unknown version": ("404", lambda c: c.infer("sim_gpu", payload(SMALL, triton), model_version="7")),
    "wrong type": ("400", lambda c: c.infer("sim_gpu", array("PAYLOAD", np.zeros(9, np.int32), "INT32", triton))),
    "exception in the model": ("500", lambda c: c.infer("sim_fail", mode("raise", triton))),
    "TritonError not_found": ("404", lambda c: c.infer("sim_fail", mode("not_found", triton))),
    "TritonError unavailable": ("503", lambda c: c.infer("sim_fail", mode("unavailable", triton))),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_error_keeps_its_status_and_text(client, direct_client, target, case):
    """Status code and text are Triton's own."""
    status, call = FAILURES[case]
    expected = failure(lambda: call(direct_client))
    assert expected[0] == status
    assert failure(lambda: call(client)) == expected
    target.settles_to_zero()


def test_a_path_that_is_not_there(target, direct):
    """What Triton does not know, a node does not know either."""
    assert exchange(target, "/v2/nothing/here")[0] == exchange(direct, "/v2/nothing/here")[0]


def test_json_that_is_none(target, direct):
    """A broken body is answered with Triton's words, and the next request is served."""
    broken = ("/v2/models/sim_gpu/infer", b'{"inputs": [')
    assert exchange(target, *broken)[0::2] == exchange(direct, *broken)[0::2]
    assert exchange(target, "/v2/models/sim_gpu/infer", as_json())[0] == 200

"""What callers set on clients and calls: keep-alive, channel arguments, headers, compression, time-outs; and giving up."""
import asyncio
import base64
import json
import queue
import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.auth as grpc_auth
import tritonclient.http.auth as http_auth
from harness.kserve import array, payload, tokens
from harness.wire import Stream, ints, seen
from tritonclient.utils import InferenceServerException

SLOW_MS = 900


def sums(spot, client, **options):
    """One request that any Triton answers at once, and its answer checked."""
    data = ints(*range(16)).astype(np.int32)
    answer = client.infer("simple", [spot.input("INPUT0", data, "INT32"), spot.input("INPUT1", data, "INT32")], **options)
    assert answer.as_numpy("OUTPUT0").tolist() == (data * 2).tolist()
    return answer


def echoed(spot, client, size=100, **options):
    """The parameters, forwarded headers among them, that a request had when it reached its pod."""
    answer = client.infer("sim_echo", payload(size, spot.module), **options)
    return json.loads(answer.as_numpy("PARAMETERS")[0])


def slow(spot, client, **options):
    return client.infer("sim_gpu", payload(100, spot.module), parameters={"service_ms": SLOW_MS}, **options)


# ---- of a client ----


def test_keep_alive_options(stock_grpc):
    """Pings every 200 ms on an idle connection: whatever the pods think of those, a node's callers must not be cut off."""
    options = grpc_client.KeepAliveOptions(
        keepalive_time_ms=200, keepalive_timeout_ms=2000, keepalive_permit_without_calls=True, http2_max_pings_without_data=0
    )
    with stock_grpc.client(keepalive_options=options) as client:
        sums(stock_grpc, client)
        if stock_grpc.through_node:  # a Triton sends such a client away after a while (too_many_pings)
            time.sleep(1.5)
        sums(stock_grpc, client)


def test_pings_during_a_long_request(stock_grpc):
    """A caller that pings while it waits: the answer comes on the same connection. A Triton allows two such pings."""
    options = grpc_client.KeepAliveOptions(keepalive_time_ms=400, keepalive_timeout_ms=2000)
    with stock_grpc.client(keepalive_options=options) as client:
        assert slow(stock_grpc, client).as_numpy("SERVICE_US")[0] >= SLOW_MS * 1000


def test_channel_arguments(stock_grpc):
    """Channel arguments of gRPC's own, over the client's defaults: small limits hold where they are said to."""
    arguments = [("grpc.max_receive_message_length", 50_000), ("grpc.lb_policy_name", "pick_first")]
    with stock_grpc.client(channel_args=arguments) as client:
        sums(stock_grpc, client)
        large = array("PAYLOAD", np.zeros(60_000, np.uint8), "UINT8")
        outcome = seen(lambda: client.infer("sim_echo", large))
    assert outcome[:2] == ("failed", "StatusCode.RESOURCE_EXHAUSTED"), outcome
    stock_grpc.target.settles_to_zero()


def test_gzip_for_a_whole_channel(stock_grpc):
    """Compression as the channel's default, not per call: every message of it is compressed, health questions too."""
    with stock_grpc.client(channel_args=[("grpc.default_compression_algorithm", 2)]) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("simple")
        assert client.get_model_metadata("simple").name == "simple"
        sums(stock_grpc, client)


def test_a_verbose_client(stock, capsys):
    """It prints what it does, answers' heads too; nothing of them may be missing that it reads."""
    with stock.client(verbose=True) as client:
        sums(stock, client)
    assert "simple" in capsys.readouterr().out


def test_http_clients_reuse_their_connections(stock_http):
    """Keep-alive: a pool of one connection serves many requests, errors between them."""
    with stock_http.client(concurrency=1) as client:
        for _ in range(10):
            sums(stock_http, client)
            assert not client.is_model_ready("nope")


def test_a_client_is_used_from_many_threads(stock_grpc):
    """grpc.Channel is made for that: eight threads, one client."""
    problems = []
    with stock_grpc.client() as client:

        def work(number):
            try:
                for turn in range(10):
                    sums(stock_grpc, client, request_id=f"{number}-{turn}")
            except Exception as error:  # shown by the assertion below
                problems.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


# ---- of a call ----


def test_headers(stock):
    """Own headers reach the pod; those of a node's own language stay with it."""
    with stock.client() as client:
        assert echoed(stock, client, headers={"x-tenant": "blue", "x-empty": ""})["x-tenant"] == "blue"
        assert client.is_server_live(headers={"test": "1", "dummy": "2"})
        assert client.get_model_metadata("simple", headers={"test": "1", "dummy": "2"})


def test_a_plugin_adds_its_header(stock):
    """Basic authentication as the stock plugin has it, for a proxy in front: it is passed on, and in nobody's way."""
    with stock.client() as client:
        client.register_plugin((grpc_auth if stock.wire == "grpc" else http_auth).BasicAuth("me", "secret"))
        sums(stock, client)


@pytest.mark.parametrize("value", [True, 7, "text", ""], ids=["bool", "int", "string", "empty"])
def test_parameters_keep_their_type(stock, value):
    """A parameter is a bool, an integer or a string, and the model sees which."""
    with stock.client() as client:
        seen_there = echoed(stock, client, parameters={"mine": value})["mine"]
    assert (type(seen_there), seen_there) == (type(value), value)


@pytest.mark.parametrize("key", ["sequence_id", "priority", "sequence_start", "sequence_end"])
def test_reserved_parameters_are_refused_by_the_client(stock, key):
    """So that nothing of ours may use those names either."""
    with stock.client() as client:
        assert seen(lambda: echoed(stock, client, parameters={key: 1}))[0] == "failed"


def test_priority_and_timeout(stock):
    """Triton's own request parameters: taken where the model has no queue of that kind, as a Triton alone takes them."""
    with stock.client() as client, stock.alone.client() as alone:
        for options in ({"priority": 1}, {"timeout": 5_000_000}):
            ours, theirs = (seen(lambda: sums(spot, asked, **options)) for spot, asked in ((stock, client), (stock.alone, alone)))
            assert ours == theirs


def test_a_request_id_comes_back(stock):
    """Any text: long, or with characters beyond ASCII."""
    with stock.client() as client:
        for request_id in ("a", "größer", "x" * 2000):
            assert plain_id(sums(stock, client, request_id=request_id)) == request_id


def plain_id(answer):
    response = answer.get_response()
    return response["id"] if isinstance(response, dict) else response.id


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(stock, algorithm):
    """Both ways; strings among the tensors, so that lengths matter."""
    words = np.array([[b"word" * 1000, b""]], np.object_)
    options = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    with stock.client() as client:
        options = {"compression_algorithm": algorithm} if stock.wire == "grpc" else options
        answer = client.infer("simple_identity", [stock.input("INPUT0", words, "BYTES")], **options)
        assert answer.as_numpy("OUTPUT0").tolist() == words.tolist()


def test_a_compressed_stream(stock_grpc):
    """The algorithm is the stream's: each message of it is compressed by itself."""
    with stock_grpc.client() as client, Stream(client, compression_algorithm="gzip") as stream:
        inputs = [stock_grpc.input("INPUT0", np.array([[b"y" * 5000]], np.object_), "BYTES")]
        for turn in range(4):
            stream.send("simple_identity", inputs, request_id=str(turn))
        assert [answer.get_response().id for answer in stream.good(4)] == ["0", "1", "2", "3"]


# ---- time-outs ----


def test_a_time_out_of_a_call(stock_grpc):
    """client_timeout: the caller hears at its time, in the words of gRPC, and nothing stays in flight."""
    with stock_grpc.client() as client:
        begun = time.monotonic()
        outcome = seen(lambda: slow(stock_grpc, client, client_timeout=0.2))
        assert outcome[1] == "StatusCode.DEADLINE_EXCEEDED"
        assert time.monotonic() - begun < 0.2 + 1
        stock_grpc.target.settles_to_zero()
        time.sleep(SLOW_MS / 1e3)  # the pod serves it all the same
        sums(stock_grpc, client, client_timeout=5)


def test_a_time_out_of_a_stream(stock_grpc):
    """stream_timeout bounds the stream as a whole: answers until then, one error at the end."""
    with stock_grpc.client() as client, Stream(client, stream_timeout=0.6) as stream:
        stream.send("sim_stream", tokens(200, 20))
        stream.good(3)
        while (error := stream.next()[1]) is None:
            pass
        assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
    stock_grpc.target.settles_to_zero()


def test_a_time_out_of_a_connection(stock_http):
    """network_timeout: an HTTP caller stops reading and closes its connection."""
    with stock_http.client(network_timeout=0.3) as client:
        with pytest.raises(Exception) as failed:
            slow(stock_http, client)
        assert "timed out" in str(failed.value).lower()
    stock_http.target.settles_to_zero()
    time.sleep(SLOW_MS / 1e3)


def test_an_asyncio_time_out(stock_grpc):
    """The same for the aio client, four at once, each at its own time. A node that has learned how long such requests take may
    say at once that it cannot be done (docs/triton.md)."""
    late = {"StatusCode.DEADLINE_EXCEEDED"} | ({"StatusCode.RESOURCE_EXHAUSTED"} if stock_grpc.through_node else set())

    async def story():
        async with stock_grpc.aio() as client:
            begun = time.monotonic()

            async def one(seconds):
                with pytest.raises(InferenceServerException) as failed:
                    inputs, parameters = payload(100, stock_grpc.module), {"service_ms": 400}
                    await client.infer("sim_gpu", inputs, parameters=parameters, client_timeout=seconds)
                assert failed.value.status() in late
                return time.monotonic() - begun - seconds

            over = await asyncio.gather(*(one(0.1 + 0.05 * i) for i in range(4)))
        assert max(over) < 1

    asyncio.run(asyncio.wait_for(story(), 60))
    stock_grpc.target.settles_to_zero()
    time.sleep(1.6)


# ---- giving up ----


def test_a_callback_call_is_cancelled(stock_grpc):
    """The object that async_infer returns can cancel; the callback hears CANCELLED, once."""
    got = queue.Queue()
    with stock_grpc.client() as client:
        call = client.async_infer(
            "sim_gpu", payload(100), lambda result, error: got.put(error), parameters={"service_ms": SLOW_MS}
        )
        time.sleep(0.2)
        call.cancel()
        assert got.get(timeout=5).status() == "StatusCode.CANCELLED"
        stock_grpc.target.settles_to_zero(1)
        time.sleep(SLOW_MS / 1e3)
        assert got.empty()
        sums(stock_grpc, client)


def test_a_stream_is_cancelled(stock_grpc):
    """stop_stream(cancel_requests=True) in the middle of an answer, and the client goes on with a new one."""
    with stock_grpc.client() as client:
        stream = Stream(client)
        stream.send("sim_stream", tokens(300, 20))
        stream.good(2)
        client.stop_stream(cancel_requests=True)
        stock_grpc.target.settles_to_zero(1)
        with Stream(client) as again:
            again.send("sim_stream", tokens(2, 5))
            again.good(2)


def test_an_asyncio_stream_is_cancelled(stock_grpc):
    """The iterator that stream_infer returns has a cancel of its own."""

    async def story():
        async def requests():
            yield {"model_name": "sim_stream", "inputs": tokens(300, 20)}
            await asyncio.sleep(30)

        async with stock_grpc.aio() as client:
            answers = client.stream_infer(requests())
            first = await anext(answers)
            assert first[1] is None
            assert answers.cancel()
            with pytest.raises(asyncio.CancelledError):
                async for _ in answers:
                    pass
        await asyncio.to_thread(stock_grpc.target.settles_to_zero, 1)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_an_http_connection_is_dropped(stock_http):
    """An HTTP caller has no other way to cancel than to go."""
    host, port = stock_http.address.split(":")
    body = json.dumps({"PAYLOAD": [0] * 100, "TOKENS": 300, "GAP_MS": 20}).encode()
    head = f"POST /v2/models/sim_stream/generate_stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        got = b""
        while b"data:" not in got:
            got += connection.recv(4096)
    stock_http.target.settles_to_zero(1)


# ---- what has no client around it ----


def test_a_base64_header(stock_grpc):
    """Binary metadata (`...-bin`) is base64 on the wire: it must not be touched."""
    with grpc.insecure_channel(stock_grpc.address) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=5, metadata=[("trace-bin", bytes(range(256)))]) == b"\x08\x01"
    with stock_grpc.client() as client:
        sums(stock_grpc, client, headers={"authorization": "Basic " + base64.b64encode(b"me:secret").decode()})

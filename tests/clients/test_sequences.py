"""Sequences: requests with one correlation id belong to one pod, which keeps what came before them.

`sim_sequence` answers with the sum so far: a request that went to another pod is refused there, or has a wrong sum.
"""
import asyncio
import itertools
import queue
import uuid

import grpc
import pytest
from harness.kserve import pod_of
from harness.plain import post
from harness.wire import Stream, seen
from tritonclient.grpc import service_pb2 as messages

VALUES = [11, 7, 5, 3, 2, 0, 1]
SUMS = list(itertools.accumulate(VALUES))

_fresh = itertools.count(1000)


def fresh():
    """An id that no other sequence of this run has."""
    return next(_fresh)


def large():
    """The largest that the stock client can send over gRPC, and a few below: beyond 2**53 a float would round them."""
    return 2**63 - fresh()


# Both kinds of id there are.
IDS = {"integer": fresh, "large integer": large, "string": lambda: str(uuid.uuid4())}


def options(sequence, turn, values=VALUES):
    return {"sequence_id": sequence, "sequence_start": turn == 0, "sequence_end": turn == len(values) - 1}


def total(answer):
    return int(answer.as_numpy("OUTPUT").reshape(-1)[0])


@pytest.mark.parametrize("kind", IDS)
def test_a_sequence_adds_up(stock, kind):
    """One sequence, one request after the other. All of it on one pod."""
    sequence = IDS[kind]()
    with stock.client() as client:
        answers = [
            client.infer("sim_sequence", [stock.number(value)], **options(sequence, turn)) for turn, value in enumerate(VALUES)
        ]
    assert [total(answer) for answer in answers] == SUMS
    assert len({pod_of(answer) for answer in answers}) == 1
    stock.target.settles_to_zero()


def test_sequences_do_not_mix(stock):
    """Twelve at a time, their requests interleaved, integer and string ids in turn. Behind a node they are not all on one pod."""
    sequences = [fresh() if i % 2 else str(uuid.uuid4()) for i in range(12)]
    pods = {sequence: set() for sequence in sequences}
    with stock.client() as client:
        for turn, value in enumerate(VALUES):
            for i, sequence in enumerate(sequences):
                answer = client.infer("sim_sequence", [stock.number(value * i)], **options(sequence, turn))
                assert total(answer) == SUMS[turn] * i
                pods[sequence].add(pod_of(answer))
    assert all(len(seen_on) == 1 for seen_on in pods.values()), pods
    assert not stock.through_node or len(set.union(*pods.values())) > 1


def test_an_integer_is_not_a_string(stock):
    """7 and "7" are two sequences to Triton: they may be under way at the same time."""
    with stock.client() as client:
        for turn, value in enumerate(VALUES):
            number = client.infer("sim_sequence", [stock.number(value)], **options(7, turn))
            string = client.infer("sim_sequence", [stock.number(-value)], **options("7", turn))
            assert (total(number), total(string)) == (SUMS[turn], -SUMS[turn])


def test_an_id_may_be_used_again_after_its_end(stock):
    """The end flag ends it for everybody: a new start with the same id begins at nothing, on whatever pod."""
    sequence = fresh()
    with stock.client() as client:
        for _ in range(6):
            answers = [client.infer("sim_sequence", [stock.number(v)], **options(sequence, t)) for t, v in enumerate(VALUES)]
            assert [total(answer) for answer in answers] == SUMS


def test_a_start_in_the_middle_begins_anew(stock):
    """Triton takes a second START as the end of what was before; the id stays with its pod or goes to another, but adds up."""
    sequence = str(uuid.uuid4())
    with stock.client() as client:
        first = client.infer("sim_sequence", [stock.number(5)], sequence_id=sequence, sequence_start=True)
        again = client.infer("sim_sequence", [stock.number(6)], sequence_id=sequence, sequence_start=True)
        last = client.infer("sim_sequence", [stock.number(7)], sequence_id=sequence, sequence_end=True)
    assert [total(answer) for answer in (first, again, last)] == [5, 6, 13]


def test_one_request_may_be_start_and_end(stock):
    """The shortest sequence there is."""
    with stock.client() as client:
        answer = client.infer("sim_sequence", [stock.number(9)], sequence_id=fresh(), sequence_start=True, sequence_end=True)
    assert total(answer) == 9


@pytest.mark.parametrize("kind", IDS)
def test_controls_arrive(stock, kind):
    """START shows as one more, END as the correlation id more: flags and id reach the model as tensors."""
    model = "simple_string_dyna_sequence" if kind == "string" else "simple_dyna_sequence"
    sequence = {"integer": 1234, "large integer": 2**31 - 10, "string": "1234"}[kind]
    with stock.client() as client:
        got = []
        for turn, value in enumerate((1, 2, 3)):
            got.append(total(client.infer(model, [stock.number(value)], **options(sequence, turn, (1, 2, 3)))))
    assert got == ([1, 3, 6 + 1234] if kind == "string" else [2, 2, 3 + sequence])


def test_a_sequence_without_a_start_is_refused_in_tritons_words(stock):
    """Also what a request gets whose pod is gone."""

    def ask(spot):
        with spot.client() as client:
            return seen(lambda: client.infer("sim_sequence", [spot.number(1)], sequence_id=999_999, request_id="lost"))

    refused = ask(stock)
    assert refused[0] == "failed" and "must specify the START flag" in refused[2]
    assert refused == ask(stock.alone)


def test_a_request_of_no_sequence_is_refused_in_tritons_words(stock):
    """Id 0 is no sequence, which a sequence model does not serve."""

    def ask(spot):
        with spot.client() as client:
            return seen(lambda: client.infer("sim_sequence", [spot.number(1)]))

    refused = ask(stock)
    assert refused[0] == "failed" and refused == ask(stock.alone)


@pytest.mark.parametrize("field", ["int64_param", "uint64_param", "string_param"])
def test_an_id_in_any_field(stock_grpc, field):
    """Generated clients of other languages have three fields for an id. Which of them a Triton takes is for it to say."""

    def ask(spot, sequence):
        answers = []
        with spot.client() as client:
            for turn, value in enumerate(VALUES):
                request = messages.ModelInferRequest(model_name="sim_sequence", id=f"turn {turn}")
                request.inputs.add(name="INPUT", datatype="INT32", shape=[1, 1]).contents.int_contents.append(value)
                setattr(request.parameters["sequence_id"], field, sequence)
                request.parameters["sequence_start"].bool_param = turn == 0
                request.parameters["sequence_end"].bool_param = turn == len(VALUES) - 1
                try:
                    answer = client._client_stub.ModelInfer(request, timeout=10)
                    answers.append(int.from_bytes(answer.raw_output_contents[0], "little"))
                except grpc.RpcError as error:
                    answers.append((error.code(), error.details()))
        return answers

    sequence = str(fresh()) if field == "string_param" else fresh()
    answers = ask(stock_grpc, sequence)
    assert answers == ask(stock_grpc.alone, sequence)
    assert field == "uint64_param" or answers == SUMS


def test_a_sequence_of_callbacks(stock_grpc):
    """async_infer, each after the answer to the one before, as a sequence asks of its client."""
    sequence, got = fresh(), queue.Queue()
    with stock_grpc.client() as client:
        for turn, value in enumerate(VALUES):
            inputs = [stock_grpc.number(value)]
            client.async_infer("sim_sequence", inputs, lambda result, error: got.put(error or result), **options(sequence, turn))
            assert total(got.get(timeout=10)) == SUMS[turn]


@pytest.mark.parametrize("kind", IDS)
def test_a_sequence_with_asyncio(stock, kind):
    """The aio clients of both protocols, four sequences at a time."""

    async def story():
        async with stock.aio() as client:

            async def one(sequence):
                for turn, value in enumerate(VALUES):
                    answer = await client.infer("sim_sequence", [stock.number(value)], **options(sequence, turn))
                    assert total(answer) == SUMS[turn]

            await asyncio.gather(*(one(IDS[kind]()) for _ in range(4)))

    asyncio.run(asyncio.wait_for(story(), 60))


@pytest.mark.parametrize("kind", IDS)
def test_a_sequence_in_a_stream(stock_grpc, kind):
    """All sent at once into one stream: they stay in order, since a stream goes to one pod."""
    sequence = IDS[kind]()
    with stock_grpc.client() as client, Stream(client) as stream:
        for turn, value in enumerate(VALUES):
            stream.send("sim_sequence", [stock_grpc.number(value)], request_id=str(turn), **options(sequence, turn))
        answers = stream.good(len(VALUES))
    assert [answer.get_response().id for answer in answers] == [str(turn) for turn in range(len(VALUES))]
    assert [total(answer) for answer in answers] == SUMS


def test_three_sequences_in_one_stream(stock_grpc):
    """What NVIDIA's example does: two integer ids and a string, one after the other into one stream."""
    sequences = [fresh(), fresh(), str(uuid.uuid4())]
    got = {str(sequence): [] for sequence in sequences}
    with stock_grpc.client() as client, Stream(client) as stream:
        for sequence in sequences:
            for turn, value in enumerate(VALUES):
                told = options(sequence, turn) | {"request_id": f"{sequence}_{turn}"}
                stream.send("sim_sequence", [stock_grpc.number(value)], **told)
        for answer in stream.good(len(sequences) * len(VALUES)):
            got[answer.get_response().id.split("_")[0]].append(total(answer))
    assert got == {str(sequence): SUMS for sequence in sequences}


def test_one_sequence_in_two_streams(stock_grpc):
    """A client that lost its stream goes on in another: the sequence is still where it began."""
    sequence = str(uuid.uuid4())
    totals = []
    with stock_grpc.client() as client:
        for turn, value in enumerate(VALUES):
            with Stream(client) as stream:
                stream.send("sim_sequence", [stock_grpc.number(value)], **options(sequence, turn))
                totals.append(total(stream.good()[0]))
    assert totals == SUMS


def test_a_sequence_begun_by_a_call_goes_on_in_a_stream(stock_grpc):
    """Both ways of asking lead to the same pod."""
    sequence = fresh()
    with stock_grpc.client() as client:
        begun = client.infer("sim_sequence", [stock_grpc.number(1)], sequence_id=sequence, sequence_start=True)
        with Stream(client) as stream:
            stream.send("sim_sequence", [stock_grpc.number(2)], sequence_id=sequence)
            middle = stream.good()[0]
        ended = client.infer("sim_sequence", [stock_grpc.number(3)], sequence_id=sequence, sequence_end=True)
    assert [total(answer) for answer in (begun, middle, ended)] == [1, 3, 6]


def test_a_sequence_begun_later_in_a_stream_goes_on_in_a_call(stock_grpc):
    """A stream goes to one pod, so a sequence that begins as its second, third, ... is where the first one is. It goes on there
    when the client turns from the stream to single calls."""
    sequences = [str(uuid.uuid4()) for _ in range(6)]
    with stock_grpc.client() as client:
        with Stream(client) as stream:
            for sequence in sequences:
                stream.send("sim_sequence", [stock_grpc.number(1)], sequence_id=sequence, sequence_start=True)
            stream.good(len(sequences))
        for sequence in sequences:
            answer = client.infer("sim_sequence", [stock_grpc.number(2)], sequence_id=sequence, sequence_end=True)
            assert total(answer) == 3


def test_a_sequence_in_an_asyncio_stream(stock_grpc):
    """stream_infer with a generator of requests: two sequences, interleaved."""

    async def story():
        sequences = [fresh(), str(uuid.uuid4())]

        async def requests():
            for turn, value in enumerate(VALUES):
                for sequence in sequences:
                    yield {
                        "model_name": "sim_sequence",
                        "inputs": [stock_grpc.number(value)],
                        "request_id": f"{sequence}_{turn}",
                        **options(sequence, turn),
                    }

        got = {str(sequence): [] for sequence in sequences}
        async with stock_grpc.aio() as client:
            async for answer, error in client.stream_infer(requests()):
                assert error is None
                got[answer.get_response().id.split("_")[0]].append(total(answer))
        assert got == {str(sequence): SUMS for sequence in sequences}

    asyncio.run(asyncio.wait_for(story(), 60))


def test_the_parameters_may_be_written_by_hand(stock_http):
    """Plain JSON, as curl sends it: sequence_id, sequence_start and sequence_end are parameters of the request."""
    for sequence in (fresh(), str(uuid.uuid4())):
        sums = []
        for turn, value in enumerate(VALUES):
            body = {
                "parameters": options(sequence, turn),
                "inputs": [{"name": "INPUT", "shape": [1, 1], "datatype": "INT32", "data": [value]}],
            }
            status, _, answer = post(stock_http.address, "/v2/models/sim_sequence/infer", body)
            assert status == 200, answer
            sums.append(next(output["data"][0] for output in answer["outputs"] if output["name"] == "OUTPUT"))
        assert sums == SUMS

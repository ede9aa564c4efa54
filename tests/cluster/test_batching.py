"""Pods that batch: the model that plays one does what it says, and nodes know from the pods how they run it."""
import asyncio
import json

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from harness import wait
from harness.kserve import BIG, SMALL, payload
from harness.nodes import loopback


def ask_together(address, sizes):
    """Asks for all at once; the size of the batch and the milliseconds of service that each was told, in order."""

    async def ask():
        async with triton_aio.InferenceServerClient(address) as client:
            calls = [client.infer("sim_padded", payload(size, triton_aio, batch=True)) for size in sizes]
            answers = await asyncio.gather(*calls)
        return [(int(a.as_numpy("BATCH")[0, 0]), int(a.as_numpy("SERVICE_US")[0, 0]) / 1e3) for a in answers]

    return asyncio.run(ask())


def batches(address):
    """Executions by batch size, since the pod started."""
    with triton.InferenceServerClient(address) as client:
        stats = client.get_inference_statistics("sim_padded").model_stats[0]
    return {batch.batch_size: batch.compute_infer.count for batch in stats.batch_stats}


def test_a_padded_batch_takes_as_long_as_its_longest_row(tritons):
    """What is measured on sim_padded stands on this: it must really batch, up to eight, at the price that it says."""
    address = loopback(tritons[0].grpc)
    before = batches(address)
    answers = ask_together(address, [BIG] + [SMALL] * 24)
    after = batches(address)
    executed = {size: count - before.get(size, 0) for size, count in after.items() if count > before.get(size, 0)}
    assert sum(size * count for size, count in executed.items()) == 25
    assert max(executed) == 8, executed
    # Everything else waits while the first ones run, so that full batches follow.
    assert sum(executed.values()) <= 8, executed
    for size, served_ms in answers:
        # 120 ms or 5 ms, and 15 % for each other row; the sleep may overrun, never fall short.
        least = 5 * (1 + 0.15 * (size - 1))
        assert served_ms >= 0.99 * least
    size, served_ms = answers[0]
    assert 0.99 * 120 * (1 + 0.15 * (size - 1)) <= served_ms <= 120 * (1 + 0.15 * (size - 1)) + 30


# What tests/triton/models says of them.
SHAPES = {
    "sim_padded": {"slots": 1, "max_batch": 8, "delay_us": 0},
    "sim_batch": {"slots": 1, "max_batch": 8, "delay_us": 2000},
    "sim_queue": {"slots": 1, "max_batch": 1, "delay_us": 0, "max_queue": 4},
    "sim_gpu": {"slots": 1, "max_batch": 1, "delay_us": 0},
}


def test_a_node_reads_from_a_triton_how_it_runs_a_model(nodes, tritons):
    """Nobody writes down how a pod batches: the first request for a model has its Triton asked, once and no more."""
    node = nodes.node("reader", pods=tritons[:1])
    node.environment["RUST_LOG"] = "info,plimsoll::forward=debug"
    node.start()
    with triton.InferenceServerClient(node.grpc) as client:
        for _ in range(3):
            for model, shape in SHAPES.items():
                client.infer(model, payload(SMALL, batch=model != "sim_gpu"))

    def read():
        lines = [json.loads(line) for line in node.log_lines_with("read the model's configuration")]
        return {line.pop("model"): line for line in lines} if len(lines) == len(SHAPES) else None

    for model, fields in wait.until("all four were read", read).items():
        assert {key: fields[key] for key in SHAPES[model]} == SHAPES[model], (model, fields)
        assert fields["pod"] == tritons[0].name
        assert ("max_queue" in fields) == ("max_queue" in SHAPES[model])

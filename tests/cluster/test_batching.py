"""Pods that batch: the model that plays one does what it says, and nodes know from the pods how they run it."""
import asyncio

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
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

"""Requests that keep coming while a test does something to the cluster."""
import asyncio
import itertools
import random
import statistics
import threading
import time
from dataclasses import dataclass

import aiohttp
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http.aio as http_aio
from harness.kserve import BIG, SMALL, payload, pod_of, size_for
from tritonclient.utils import InferenceServerException


@dataclass
class Answer:
    """How one request ended. Times are time.monotonic(); `pod` is None if it failed."""

    node: str
    size: int
    begun: float
    ended: float
    pod: str | None = None
    error: str | None = None

    @property
    def took_ms(self):
        return (self.ended - self.begun) * 1e3


@dataclass
class Arrival:
    """One request of a plan: when, to which of the nodes, how big."""

    at: float
    node: int
    size: int


def poisson(rate, nodes, big=0.2, seed=1):
    """An endless open-loop plan: what comes does not wait for what is under way. A share of `big` takes 120 ms, not 5."""
    rng, at = random.Random(seed), 0.0
    while True:
        at += rng.expovariate(rate)
        yield Arrival(at, rng.randrange(nodes), BIG if rng.random() < big else SMALL)


class Traffic:
    """Plays a plan against addresses on an event loop and a thread of its own, from entering to leaving the context."""

    module = triton_aio

    def __init__(self, nodes, plan, model="sim_gpu", channel=None):
        self.nodes, self.plan, self.model, self.channel = list(nodes), plan, model, channel
        self.answers, self.begun = [], 0
        self.lateness_ms = 0.0
        self._leave = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")
        self._crash = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """No new requests; returns when the last one has its answer."""
        self._leave.set()
        self.finish()

    def finish(self):
        """Waits for the end of a finite plan and of all its answers."""
        self._thread.join()
        if self._crash:
            raise self._crash

    async def _run(self):
        try:
            clients = [self._client(node) for node in self.nodes]
            inputs = {size: payload(size, self.module) for size in (SMALL, BIG)}
            start, calls = time.monotonic(), set()
            for arrival in self.plan:
                due = start + arrival.at
                while (left := due - time.monotonic()) > 0 and not self._leave.is_set():
                    await asyncio.sleep(min(left, 0.05))
                if self._leave.is_set():
                    break
                self.lateness_ms = max(self.lateness_ms, (time.monotonic() - due) * 1e3)
                self.begun += 1
                call = asyncio.create_task(self._one(clients[arrival.node], arrival, inputs[arrival.size], due))
                calls.add(call)
                call.add_done_callback(calls.discard)
            await asyncio.gather(*calls)
            for client in clients:
                await client.close()
        except BaseException as error:  # shown in the test's thread, by finish()
            self._crash = error

    async def _one(self, client, arrival, inputs, due):
        answer = Answer(self.nodes[arrival.node].name, arrival.size, begun=due, ended=0.0)
        try:
            answer.pod = pod_of(await self._infer(client, inputs))
        except InferenceServerException as error:
            answer.error = f"{error.status()}: {error.message()}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:  # HTTP's clients let these through
            answer.error = repr(error)
        answer.ended = time.monotonic()
        self.answers.append(answer)

    def _client(self, node):
        return triton_aio.InferenceServerClient(node.grpc, channel_args=self.channel)

    def _infer(self, client, inputs):
        return client.infer(self.model, inputs, client_timeout=30)

    # ---- what came of it ----

    def of(self, *nodes):
        names = {node.name for node in nodes}
        return [answer for answer in self.answers if answer.node in names]

    def failures(self, *nodes):
        return [answer for answer in (self.of(*nodes) if nodes else self.answers) if answer.error]

    def pods_since(self, moment):
        """Which pods answered requests that began after a moment."""
        return {answer.pod for answer in list(self.answers) if answer.begun > moment and answer.pod}

    def mean_ms(self):
        return statistics.fmean(answer.took_ms for answer in self.answers)

    def quantile_ms(self, share, size=None):
        took = sorted(answer.took_ms for answer in self.answers if size in (None, answer.size))
        return took[min(int(share * len(took)), len(took) - 1)]


class HttpTraffic(Traffic):
    """The same over HTTP."""

    module = http_aio

    def _client(self, node):
        return http_aio.InferenceServerClient(node.http, conn_limit=100, conn_timeout=30)

    def _infer(self, client, inputs):
        return client.infer(self.model, inputs)


TRAFFIC = {"grpc": Traffic, "http": HttpTraffic}


class LongRequest:
    """One request that keeps a pod busy for a known time, asked from a thread of its own."""

    def __init__(self, node, milliseconds):
        self.node, self.milliseconds = node, milliseconds
        self.pod, self.error = None, None
        self._thread = threading.Thread(target=self._ask, name="long request", daemon=True)
        self._thread.start()

    def _ask(self):
        try:
            with triton.InferenceServerClient(self.node.grpc) as client:
                self.pod = pod_of(client.infer("sim_gpu", payload(size_for(self.milliseconds))))
        except InferenceServerException as error:
            self.error = f"{error.status()}: {error.message()}"

    def under_way(self):
        return self._thread.is_alive()

    def failed(self, limit=10.0):
        """Waits for the end, and says whether it was a bad one."""
        self._thread.join(limit)
        return self.under_way() or self.error is not None

    def answered(self, limit=10.0):
        """Waits for the answer, which must be a good one, and returns the pod that gave it."""
        self._thread.join(limit)
        assert not self.under_way() and self.error is None, f"a request to {self.node.name}: {self.error or 'no answer'}"
        return self.pod


def first(count, plan):
    """The beginning of a plan, so that it ends by itself."""
    return itertools.islice(plan, count)

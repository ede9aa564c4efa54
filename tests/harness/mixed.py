"""Requests of every kind, over gRPC and HTTP, in a seeded order, each with a deadline, some of them cancelled: what a long run of faults is tried on.

Every request has an id of its own, which the models write down when they execute it (sim_ledger, sim_sequence, sim_stream).
"""
import asyncio
import itertools
import json
import random
import threading
import time
from dataclasses import dataclass, field

import aiohttp
import grpc
import numpy as np
import tritonclient.grpc.aio as triton
import tritonclient.http.aio as triton_http
from harness.kserve import payload, tokens
from tritonclient.utils import InferenceServerException

# A node that comes back is to be used soon, not after gRPC's usual second and more.
QUICK = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
# Above this many under way a new request is not begun but counted: the client must not become the fault that it looks for.
MOST_UNDER_WAY = 400


class Clients:
    """One node's, over both protocols."""

    def __init__(self, node):
        self.grpc = triton.InferenceServerClient(node.grpc, channel_args=QUICK)
        self.http = triton_http.InferenceServerClient(node.http, conn_limit=MOST_UNDER_WAY)
        self.plain = aiohttp.ClientSession(f"http://{node.http}")

    async def close(self):
        await self.grpc.close()
        await self.http.close()
        await self.plain.close()


@dataclass
class Done:
    """How one request ended. A sequence or stream that ended early has the requests that it came to."""

    id: str
    kind: str
    node: str
    begun: float
    deadline: float
    ended: float = 0.0
    status: str = "OK"
    text: str = ""
    cancelled: bool = False
    turn_begun: float = 0.0  # of a sequence's last request
    executed: list = field(default_factory=list)  # the ids that were answered well

    @property
    def late(self):
        """How long after its deadline the caller had its answer, s; negative if before."""
        return self.ended - max(self.begun, self.turn_begun) - self.deadline


KINDS = ["infer", "stream", "sequence", "hopeless", "http", "events"]
WEIGHTS = [45, 10, 15, 3, 20, 7]


class Mixed:
    """Plays `count` requests at `rate` per second on a thread and event loop of its own, from entering to the end of the last."""

    def __init__(self, nodes, count, rate, seed):
        self.nodes, self.count, self.rate, self.seed = nodes, count, rate, seed
        self.done, self.begun, self.left_out, self.loop_late = [], 0, 0, 0.0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="mixed requests")
        self._crash = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        if self._crash:
            raise self._crash

    def under_way(self):
        return self._thread.is_alive()

    # ---- the run ----

    async def _run(self):
        try:
            clients = [Clients(node) for node in self.nodes]
            rng, calls, due = random.Random(self.seed), set(), time.monotonic()
            for number in range(self.count):
                due += rng.expovariate(self.rate)
                choice = self._choose(rng, number)
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self.loop_late = max(self.loop_late, time.monotonic() - due)
                if len(calls) >= MOST_UNDER_WAY:
                    self.left_out += 1
                    continue
                self.begun += 1
                call = asyncio.create_task(self._one(clients, choice))
                calls.add(call)
                call.add_done_callback(calls.discard)
            await asyncio.gather(*calls)
            for client in clients:
                await client.close()
        except BaseException as error:  # shown in the test's thread
            self._crash = error

    def _choose(self, rng, number):
        """All chance of a request, drawn in one place, so that what happens to one moves no other."""
        return {
            "id": f"s{self.seed}-{number}",
            "node": rng.randrange(len(self.nodes)),
            "kind": rng.choices(KINDS, WEIGHTS)[0],
            "size": rng.choice([10, 100, 1000, 5000]),
            "turns": rng.randint(2, 6),
            "deadline": rng.uniform(2, 4),
            "cancel": rng.uniform(0, 0.08) if rng.random() < 0.08 else None,
        }

    async def _one(self, clients, choice):
        kind, node = choice["kind"], choice["node"]
        done = Done(choice["id"], kind, self.nodes[node].name, time.monotonic(), choice["deadline"])
        work = asyncio.create_task(getattr(self, f"_{kind}")(clients[node], choice, done))
        if choice["cancel"] is not None:
            asyncio.get_running_loop().call_later(choice["cancel"], work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            done.status, done.cancelled = "CANCELLED", choice["cancel"] is not None
        except InferenceServerException as error:
            done.status, done.text = str(error.status()).removeprefix("StatusCode."), str(error.message())
            done.cancelled = choice["cancel"] is not None and done.status == "CANCELLED"
        except TimeoutError:
            done.status, done.text = "DEADLINE_EXCEEDED", "its client gave it up"
        except aiohttp.ClientError as error:
            done.status, done.text = "UNAVAILABLE", repr(error)
        except grpc.RpcError as error:  # as the stock aio client tells of a stream that could not begin
            done.status, done.text = error.code().name, error.details()
        except Exception as error:  # a wrong answer, which no fault explains
            done.status, done.text = "WRONG", repr(error)
        done.ended = time.monotonic()
        self.done.append(done)

    # ---- the kinds ----

    async def _infer(self, client, choice, done):
        answer = await client.grpc.infer(
            "sim_ledger", payload(choice["size"], triton), request_id=done.id, client_timeout=done.deadline
        )
        done.executed.append(answer.get_response().id)

    async def _hopeless(self, client, choice, done):
        """A deadline that cannot be met: 200 ms of work in 60."""
        done.deadline = 0.06
        parameters = {"service_ms": 200}
        await client.grpc.infer(
            "sim_ledger", payload(100, triton), request_id=done.id, parameters=parameters, client_timeout=done.deadline
        )

    async def _stream(self, client, choice, done):
        async def requests():
            yield {"model_name": "sim_stream", "inputs": tokens(choice["turns"], 5, triton), "request_id": done.id}

        answers = 0
        async for answer, error in client.grpc.stream_infer(requests(), stream_timeout=done.deadline):
            if error:
                raise error
            assert answer.as_numpy("INDEX")[0] == answers, f"{done.id}: an answer was lost or came twice"
            answers += 1
        assert answers == choice["turns"], f"{done.id}: {answers} answers to {choice['turns']}"
        done.executed.append(done.id)

    async def _sequence(self, client, choice, done):
        """A sequence adds up or fails; it never has a wrong sum. Its deadline is that of each request in it."""
        key = done.id if choice["turns"] % 2 else 10**6 * (self.seed + 1) + int(done.id.split("-")[1])
        for turn, total in enumerate(itertools.accumulate(range(1, choice["turns"] + 1))):
            inputs = [triton.InferInput("INPUT", [1, 1], "INT32")]
            inputs[0].set_data_from_numpy(np.full((1, 1), turn + 1, np.int32))
            done.turn_begun = time.monotonic()
            answer = await client.grpc.infer(
                "sim_sequence",
                inputs,
                request_id=f"{done.id}.{turn}",
                sequence_id=key,
                sequence_start=turn == 0,
                sequence_end=turn == choice["turns"] - 1,
                client_timeout=done.deadline,
            )
            assert answer.as_numpy("OUTPUT").item() == total, f"{done.id}: a wrong sum in turn {turn}"
            done.executed.append(answer.get_response().id)

    async def _http(self, client, choice, done):
        """Over HTTP a deadline is the client's alone: it closes the connection."""
        inputs = payload(choice["size"], triton_http)
        async with asyncio.timeout(done.deadline):
            answer = await client.http.infer("sim_ledger", inputs, request_id=done.id)
        done.executed.append(answer.get_response()["id"])

    async def _events(self, client, choice, done):
        """Tokens as server-sent events. An error in the middle is an event, too."""
        asked = {"id": done.id, "PAYLOAD": [0] * 100, "TOKENS": choice["turns"], "GAP_MS": 5}
        async with (
            asyncio.timeout(done.deadline),
            client.plain.post("/v2/models/sim_stream/generate_stream", json=asked) as answer,
        ):
            body = await answer.text()
        events = [json.loads(line.removeprefix("data:")) for line in body.splitlines() if line.startswith("data:")]
        told = body if answer.status != 200 else next((event["error"] for event in events if "error" in event), None)
        if told is not None:
            raise InferenceServerException(told, status=str(answer.status))
        assert [event["INDEX"] for event in events] == list(range(choice["turns"])), f"{done.id}: {body}"
        done.executed.append(done.id)

"""What the simulated models share: the name of the pod, its speed of the moment, and the law from payload bytes to
service time. A service time is slept, so that many pods fit on two cores and the numbers still mean something.

lab.py links this file beside the python backend, where models can import it; POD_NAME and POD_HEALTH come from it too.
"""
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils

POD = os.environ.get("POD_NAME", "pod").encode()


def parameters(args):
    """The string parameters of config.pbtxt as a plain dict."""
    config = json.loads(args["model_config"])
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


def tensor(name, value, dtype, shape=(1,)):
    """An output tensor of the given shape, filled with one value."""
    return pb_utils.Tensor(name, np.full(shape, value, dtype=dtype))


def pod_tensor(shape=(1,)):
    """The output POD: which server answered."""
    return tensor("POD", POD, np.object_, shape)


def control(request, name):
    """A sequence control of a request that is served alone: START, END or CORRID, as a number."""
    return int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0])


class Sums:
    """The sum of every sequence under way, by its correlation id, integer or string."""

    def __init__(self):
        self.totals = {}

    def add(self, request):
        """The sum so far; a START begins at nothing, an END forgets."""
        key, value = request.correlation_id(), pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        before = 0 if control(request, "START") else self.totals[key]
        self.totals[key] = before + int(value.reshape(-1)[0])
        return self.totals.pop(key) if control(request, "END") else self.totals[key]


class Ledger:
    """What a model executed: a line for each request with its id and the time, in $POD_LEDGER.

    A line is one short append, which the kernel keeps whole and keeps at all when the process is killed.
    """

    def __init__(self, args):
        path = os.environ.get("POD_LEDGER", "")
        self.file = open(path, "ab", buffering=0) if path else None
        self.model = args["model_name"]

    def write(self, request):
        if self.file and request.request_id():
            self.file.write(f"{request.request_id()} {self.model} {time.monotonic():.6f}\n".encode())


class Health:
    """How the pod is just now: the file $POD_HEALTH says how many times slower than normal it is, or `sick`.

    The file is read again only when its modification time moves: one stat() per request.
    """

    def __init__(self):
        self.path = os.environ.get("POD_HEALTH", "")
        self.seen, self.word = None, "1"

    def slowness(self):
        """The factor on service times. A sick pod raises at once, like a GPU after an illegal memory access."""
        try:
            stamp = os.stat(self.path).st_mtime_ns
            if stamp != self.seen:
                with open(self.path) as file:
                    self.seen, self.word = stamp, file.read().strip()
        except FileNotFoundError:
            self.seen, self.word = None, "1"
        if self.word == "sick":
            raise RuntimeError("the simulated GPU is sick")
        return float(self.word)


class Law:
    """The service time of a payload: linear from (min_bytes, min_ms) through (max_bytes, max_ms), never below min_ms."""

    def __init__(self, args):
        given = parameters(args)
        self.min_ms, self.max_ms = float(given["min_ms"]), float(given["max_ms"])
        self.min_bytes, self.max_bytes = float(given["min_bytes"]), float(given["max_bytes"])
        self.health = Health()

    def milliseconds(self, payload_bytes):
        share = max((payload_bytes - self.min_bytes) / (self.max_bytes - self.min_bytes), 0.0)
        return self.min_ms + share * (self.max_ms - self.min_ms)

    def serve(self, milliseconds):
        """Sleeps the service time at the pod's present speed; returns the microseconds it really took."""
        slowness, start = self.health.slowness(), time.monotonic()
        time.sleep(milliseconds * slowness / 1e3)
        return int((time.monotonic() - start) * 1e6)


class OneByOne:
    """A model with one instance that serves its requests one after the other.

    The request parameter `service_ms` replaces the time that the law gives. `shape` is that of the outputs: (1, 1)
    where the model has a batch dimension.
    """

    shape = (1,)

    def initialize(self, args):
        self.law = Law(args)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        payload = pb_utils.get_input_tensor_by_name(request, "PAYLOAD").as_numpy()
        given = json.loads(request.parameters() or "{}")
        took_us = self.law.serve(float(given.get("service_ms", self.law.milliseconds(payload.size))))
        return pb_utils.InferenceResponse(
            [tensor("SERVICE_US", took_us, np.int64, self.shape), pod_tensor(self.shape)]
        )


class SumAndDifference:
    """OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1, row by row, in the type of the inputs."""

    @staticmethod
    def read(array):
        return array

    @staticmethod
    def write(array):
        return array

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        first, second = (
            self.read(pb_utils.get_input_tensor_by_name(request, name).as_numpy()) for name in ("INPUT0", "INPUT1")
        )
        outputs = {"OUTPUT0": first + second, "OUTPUT1": first - second}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, self.write(out)) for name, out in outputs.items()])


class Padded:
    """A model that runs a batch as one: its rows wait for the longest one, and every further row adds a little.

    time = longest row * (1 + row_share * (rows - 1)). A row takes what its payload's length says, or the request
    parameter `service_ms` instead. The output BATCH says how many rows were served together.
    """

    def initialize(self, args):
        self.law = Law(args)
        self.row_share = float(parameters(args)["row_share"])

    def execute(self, requests):
        shapes = [pb_utils.get_input_tensor_by_name(r, "PAYLOAD").as_numpy().shape for r in requests]
        rows = sum(count for count, _ in shapes)
        longest_ms = max(self.milliseconds(r, length) for r, (_, length) in zip(requests, shapes))
        took_us = self.law.serve(longest_ms * (1 + self.row_share * (rows - 1)))
        return [self.answer((count, 1), took_us, rows) for count, _ in shapes]

    def milliseconds(self, request, length):
        given = json.loads(request.parameters() or "{}")
        return float(given.get("service_ms", self.law.milliseconds(length)))

    @staticmethod
    def answer(shape, took_us, rows):
        return pb_utils.InferenceResponse(
            [tensor("SERVICE_US", took_us, np.int64, shape), tensor("BATCH", rows, np.int32, shape), pod_tensor(shape)]
        )

"""Small words for Triton's clients: inputs of the simulated models, what an answer says, how a call failed."""
import numpy as np
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

# By sim_gpu's law: 5 ms and 120 ms.
SMALL, BIG = 100, 5000


def size_for(milliseconds):
    """The payload that takes sim_gpu so long, by the same law. What costs much looks big, as it does in life."""
    return round(SMALL + (milliseconds - 5) / (120 - 5) * (BIG - SMALL))


def payload(size, module=grpc_client, batch=False):
    """The inputs of a sim_... model: `size` bytes, with a leading 1 where the model has a batch dimension."""
    data = (np.arange(size, dtype=np.uint32) % 251).astype(np.uint8)
    return array("PAYLOAD", data.reshape(1, size) if batch else data, "UINT8", module)


def array(name, data, dtype, module=grpc_client):
    tensor = module.InferInput(name, list(data.shape), dtype)
    tensor.set_data_from_numpy(data)
    return [tensor]


def mode(word, module=grpc_client):
    """The input of sim_fail."""
    return array("MODE", np.array([word.encode()], dtype=np.object_), "BYTES", module)


def tokens(count, gap_ms, module=grpc_client):
    """The inputs of sim_stream."""
    return [
        *payload(SMALL, module),
        *array("TOKENS", np.array([count], np.int32), "INT32", module),
        *array("GAP_MS", np.array([gap_ms], np.float32), "FP32", module),
    ]


# What an answer without that output is told as: a model's process that dies in the middle of a request gives one.
NO_POD = "the answer does not say which pod gave it"


def pod_of(result):
    """Which pod answered."""
    pod = result.as_numpy("POD")
    if pod is None:
        raise InferenceServerException(NO_POD)
    return pod.reshape(-1)[0].decode()


def failure(call):
    """Status and text of a call that must fail."""
    try:
        answer = call()
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError(f"the call succeeded: {answer}")

"""Fails on demand. MODE is one of

ok; raise (an exception in the model); no_response; exit and segv (the stub process dies: Triton then answers INTERNAL for
ever while it still calls the model ready); hang:<ms>; or a TritonError code: unknown, internal, not_found, invalid_arg,
unavailable, unsupported, already_exists, cancelled.
"""
import ctypes
import os
import time

import triton_python_backend_utils as pb_utils
from sim import pod_tensor

CODES = {"unknown", "internal", "not_found", "invalid_arg", "unavailable", "unsupported", "already_exists", "cancelled"}


class TritonPythonModel:
    def execute(self, requests):
        modes = [pb_utils.get_input_tensor_by_name(r, "MODE").as_numpy()[0].decode() for r in requests]
        if "no_response" in modes:
            return []
        return [self.answer(mode) for mode in modes]

    @staticmethod
    def answer(mode):
        if mode == "raise":
            raise ValueError("sim_fail: raised on demand")
        if mode == "exit":
            os._exit(3)
        if mode == "segv":
            ctypes.string_at(0)
        if mode.startswith("hang:"):
            time.sleep(float(mode.removeprefix("hang:")) / 1e3)
        if mode in CODES:
            error = pb_utils.TritonError(f"sim_fail: {mode} on demand", getattr(pb_utils.TritonError, mode.upper()))
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        return pb_utils.InferenceResponse([pod_tensor()])

"""A padded dynamic batch: all its rows wait for the longest one, and every further row adds a little.

time = law(longest row) * (1 + row_share * (rows - 1)). The output BATCH says how many rows were served together.
"""
import numpy as np
import triton_python_backend_utils as pb_utils
from sim import Law, parameters, pod_tensor, tensor


class TritonPythonModel:
    def initialize(self, args):
        self.law = Law(args)
        self.row_share = float(parameters(args)["row_share"])

    def execute(self, requests):
        shapes = [pb_utils.get_input_tensor_by_name(r, "PAYLOAD").as_numpy().shape for r in requests]
        rows = sum(count for count, _ in shapes)
        longest = max(length for _, length in shapes)
        took_us = self.law.serve(self.law.milliseconds(longest) * (1 + self.row_share * (rows - 1)))
        return [self.answer((count, 1), took_us, rows) for count, _ in shapes]

    @staticmethod
    def answer(shape, took_us, rows):
        return pb_utils.InferenceResponse(
            [tensor("SERVICE_US", took_us, np.int64, shape), tensor("BATCH", rows, np.int32, shape), pod_tensor(shape)]
        )

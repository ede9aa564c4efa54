"""The sum of a sequence so far, and at its end the number that its string id spells more."""
import numpy as np
import triton_python_backend_utils as pb_utils
from sim import Sums, control


class TritonPythonModel:
    def initialize(self, args):
        self.sums = Sums()

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        total = self.sums.add(request)
        if control(request, "END"):
            total += int(request.correlation_id())
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", np.full((1, 1), total, np.int32))])

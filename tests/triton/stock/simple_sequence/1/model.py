"""The value that was sent, and one more at the start of a sequence: so a client sees whether START arrived."""
import numpy as np
import triton_python_backend_utils as pb_utils
from sim import control


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    @staticmethod
    def answer(request):
        value = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy() + np.int32(control(request, "START"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", value)])

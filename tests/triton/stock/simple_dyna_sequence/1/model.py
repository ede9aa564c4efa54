"""The value that was sent, one more at the start of a sequence, and its correlation id more at the end."""
import numpy as np
import triton_python_backend_utils as pb_utils
from sim import control


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    @staticmethod
    def answer(request):
        more = control(request, "START") + control(request, "CORRID") * control(request, "END")
        value = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy() + np.int32(more)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", value)])

"""Says back what reached the pod: the payload byte for byte, and the request's parameters as JSON.

Started with --grpc-header-forward-pattern, Triton adds matching request headers to the parameters: so a test sees which
headers came through.
"""
import numpy as np
import triton_python_backend_utils as pb_utils
from sim import pod_tensor, tensor


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    @staticmethod
    def answer(request):
        payload = pb_utils.get_input_tensor_by_name(request, "PAYLOAD").as_numpy()
        parameters = (request.parameters() or "{}").encode()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("ECHO", payload), tensor("PARAMETERS", parameters, np.object_), pod_tensor()]
        )

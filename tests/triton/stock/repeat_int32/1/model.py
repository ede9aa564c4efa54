"""A decoupled model: each value of IN comes back in an answer of its own, DELAY ms after the one before; the next request
is taken WAIT ms later.
"""
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from sim import tensor


def values(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)


class TritonPythonModel:
    def initialize(self, args):
        self.threads = []

    def execute(self, requests):
        for request in requests:
            work = request.get_response_sender(), values(request, "IN"), values(request, "DELAY")
            # The sender outlives this call: a decoupled model may answer long after execute() returned.
            self.threads = [thread for thread in self.threads if thread.is_alive()]
            self.threads.append(threading.Thread(target=self.repeat, args=work))
            self.threads[-1].start()
            time.sleep(int(values(request, "WAIT")[0]) / 1e3)

    @staticmethod
    def repeat(sender, given, delays_ms):
        for index, (value, delay_ms) in enumerate(zip(given, delays_ms)):
            if sender.is_cancelled():
                break
            time.sleep(int(delay_ms) / 1e3)
            sender.send(pb_utils.InferenceResponse([tensor("OUT", value, np.int32), tensor("IDX", index, np.uint32)]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join(timeout=30)

"""A decoupled model: TOKENS answers (5 unless told), GAP_MS apart (10 unless told), like a language model's tokens."""
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from sim import Ledger, parameters, pod_tensor, tensor


def scalar(request, name, default):
    given = pb_utils.get_input_tensor_by_name(request, name)
    return default if given is None else given.as_numpy()[0]


class TritonPythonModel:
    def initialize(self, args):
        self.concurrent = parameters(args)["concurrent"] == "1"
        self.threads, self.ledger = set(), Ledger(args)

    def execute(self, requests):
        for request in requests:
            self.ledger.write(request)
            # The sender outlives this call: a decoupled model may answer long after execute() returned.
            work = (request.get_response_sender(), int(scalar(request, "TOKENS", 5)), float(scalar(request, "GAP_MS", 10)))
            if self.concurrent:
                thread = threading.Thread(target=self.serve, args=work, daemon=True)
                self.threads.add(thread)
                thread.start()
            else:
                self.serve(*work)

    def serve(self, sender, tokens, gap_ms):
        for index in range(tokens):
            if sender.is_cancelled():
                break
            time.sleep(gap_ms / 1e3)
            sender.send(pb_utils.InferenceResponse([tensor("INDEX", index, np.int32), pod_tensor()]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        self.threads.discard(threading.current_thread())

    def finalize(self):
        end = time.monotonic() + 30
        for thread in list(self.threads):
            thread.join(max(0.0, end - time.monotonic()))

"""sim_zero, except that it takes its time to load."""
import time

from sim import OneByOne, parameters


class TritonPythonModel(OneByOne):
    def initialize(self, args):
        time.sleep(float(parameters(args)["load_ms"]) / 1e3)
        super().initialize(args)

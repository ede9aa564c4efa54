"""sim_gpu with a service time of zero: what is left is the cost of the path to the pod."""
from sim import OneByOne


class TritonPythonModel(OneByOne):
    pass

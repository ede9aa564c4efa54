"""sim_gpu behind a bounded queue (see config.pbtxt): beyond four waiting requests Triton refuses with UNAVAILABLE."""
from sim import OneByOne


class TritonPythonModel(OneByOne):
    shape = (1, 1)

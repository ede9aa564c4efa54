"""A GPU that pads: what it runs together takes as long as its longest request, and 15 % more for each other one."""
from sim import Padded


class TritonPythonModel(Padded):
    pass

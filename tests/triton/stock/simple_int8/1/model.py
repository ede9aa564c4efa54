"""Sum and difference of two tensors of sixteen small integers."""
from sim import SumAndDifference


class TritonPythonModel(SumAndDifference):
    pass

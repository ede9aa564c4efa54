"""Sum and difference of two tensors of sixteen integers."""
from sim import SumAndDifference


class TritonPythonModel(SumAndDifference):
    pass

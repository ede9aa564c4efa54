"""Stands in for a GPU with one slot: 100 bytes take 5 ms, 5,000 bytes take 120 ms, linear between and beyond."""
from sim import OneByOne


class TritonPythonModel(OneByOne):
    pass

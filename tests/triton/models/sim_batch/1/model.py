"""A padded dynamic batch that prefers four or eight rows and waits 2 ms for them (see config.pbtxt)."""
from sim import Padded


class TritonPythonModel(Padded):
    pass

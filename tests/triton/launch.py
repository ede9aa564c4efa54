"""launch.py PRIORITY TIED COMMAND...: becomes the command, after what must be set in the process itself.

PRIORITY above 0 asks for SCHED_RR: a busy machine then does not blur the latencies, and as service times are slept it costs
nobody anything. Where it is not allowed, the command runs without. TIED 1 ends the command when its parent ends.

This is a program of its own because the alternative, Python code between fork and exec, is deadly where the parent has
threads and gRPC: one child in three died there without a word.
"""
import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

priority, tied, command = int(sys.argv[1]), sys.argv[2] == "1", sys.argv[3:]
if tied:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if priority:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
os.execv(command[0], command)

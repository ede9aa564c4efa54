"""What a way's process keeps in memory: for a stream that is open and says nothing, and while a large message passes."""
import subprocess

from install import fleet
from ways import PRIORITY, World, call

PODS = 4
STREAMS = 1000
MESSAGE = 64 << 20
MESSAGES = 3


def measure(args, tools, folder):
    return [one(tools, way, folder) for way in args.ways if takes_memory(way)]


def takes_memory(way):
    """Whether requests pass through a process of its own."""
    return way in ("plimsoll-node", "nginx", "haproxy", "envoy", "pingora")


def one(tools, way, folder):
    """Each in a process of its own: what one of them leaves behind would have room for the other."""
    with World(tools, folder) as world:
        between = warm(tools, world, way)
        resident = between.memory_kb()
        opened = streams(tools, between)
    with World(tools, folder) as world:
        between = warm(tools, world, way)
        between.forget_peak()
        before = between.memory_kb()
        call(tools, infer(between, "--requests", MESSAGES, "--warm-up", 0, "--bytes", MESSAGE))
        rise = between.memory_kb("VmHWM") - before
    return {"way": way, "warm_mib": resident / 1024, "stream_kib": (opened - resident) / STREAMS, "message_peak_mib": rise / 1024}


def warm(tools, world, way):
    """The way, after a thousand requests."""
    between = world.way(way, world.pods(PODS))
    call(tools, infer(between, "--requests", 1000, "--concurrent", 64))
    return between


def infer(between, *how):
    return ["infer", *between.words(), "--of-model", "sim_zero", *how]


def streams(tools, between):
    """Resident KiB while streams are open."""
    command = [tools.programs["peers-caller"], "streams", "--to", between.to[0], "--count", STREAMS]
    process = fleet.started(command, PRIORITY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline().strip() != "open":
            raise fleet.BenchError(f"streams through {between.way.name} did not open: {process.communicate(timeout=10)[1].strip()}")
        return between.memory_kb()
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""The same fleets under a load of another's making: NVIDIA's perf_analyzer, open loop, before each way that takes gRPC.

Its arrivals are its own, and so are its clock and its quantiles: what it says must agree with `queueing`, which is ours.
"""
import concurrent.futures
import csv
import json
import random
import subprocess

import install
from install import fleet
from memory import takes_memory
from ways import PRIORITY, World

PODS = 4
MIX = fleet.MIXED
LOAD = 0.7
WINDOW_S, WINDOWS = 10, 4  # it reports the last three
REQUESTS = 200  # of the mix, again and again


def measure(args, tools, folder):
    rate = round(LOAD * PODS / (MIX.mean_ms() / 1e3))
    seconds = WINDOW_S / 2 if args.quick else WINDOW_S
    with World(tools, folder) as world:
        inputs = mixed(folder / "inputs.json")
        chosen = {way: world.way(way, world.pods(PODS)) for way in args.ways if takes_memory(way)}
        install.say(f"perf_analyzer: {rate} requests/s through {', '.join(chosen)}")
        with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
            runs = {way: pool.submit(one, tools, running, rate, seconds, inputs, folder / f"{way}.csv") for way, running in chosen.items()}
            return [{"way": way, "load": LOAD, "rate": rate, **run.result()} for way, run in runs.items()]


def mixed(path):
    rng = random.Random(1)
    sizes = [MIX.draw(rng)[0] for _ in range(REQUESTS)]
    data = [{"PAYLOAD": {"content": [size % 251] * size, "shape": [size]}} for size in sizes]
    path.write_text(json.dumps({"data": data}))
    return path


def one(tools, running, rate, seconds, inputs, out):
    command = [
        *(tools.programs["perf_analyzer"], "-m", "sim_gpu", "-i", "grpc", "-u", running.to[0].removeprefix("http://")),
        *("--input-data", inputs, "--async", "--request-distribution", "poisson", "--request-rate-range", rate),
        *("-p", int(seconds * 1e3), "-r", WINDOWS, "-s", 999, "-f", out),
    ]
    environment = install.environment() | {"LD_LIBRARY_PATH": install.perf_analyzer_libraries()}
    process = fleet.started(command, PRIORITY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        said, _ = process.communicate(timeout=(seconds * WINDOWS + 60))
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode or not out.exists():
        raise fleet.BenchError(f"perf_analyzer ended with {process.returncode}: {said.strip()[-1000:]}")
    with open(out, newline="") as file:
        (row,) = csv.DictReader(file)
    figures = {f"p{part}_ms": float(row[f"p{part} latency"]) / 1e3 for part in (50, 90, 95, 99)}
    return figures | {"served_per_s": float(row["Inferences/Second"])}

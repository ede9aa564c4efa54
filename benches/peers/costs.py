"""What a way costs a request: latency where nobody else asks, CPU where many do."""
import os
import statistics

from ways import World, call

PODS = 4
CONCURRENT = 64
SMALL, LARGE = 1024, 600 << 10
WARM_UP, WARM_UP_LARGE = 200, 64


def measure(args, tools, folder):
    """Medians over repeats, way by way. Repeats are interleaved: what the machine does otherwise meets all ways."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    one_core = run(args, tools, folder / "one-core", first, first, sequential)
    two_cores = run(args, tools, folder / "two-cores", first, last, sequential)
    small = run(args, tools, folder / "small", first, last, lambda *at: concurrent(args.requests, WARM_UP, SMALL, *at))
    large = run(args, tools, folder / "large", first, last, lambda *at: concurrent(args.large, WARM_UP_LARGE, LARGE, *at))
    rows = []
    for way in args.ways:
        row = {"way": way}
        for key, runs in (("one_core", one_core), ("two_cores", two_cores)):
            row[f"p50_us_{key}"] = statistics.median(one[way]["p50_us"] for one in runs)
            row[f"added_p50_us_{key}"] = statistics.median(one[way]["p50_us"] - one["direct"]["p50_us"] for one in runs)
        for key, runs in (("small", small), ("large", large)):
            row[f"cpu_us_{key}"] = statistics.median(one[way]["between_cpu_us"] for one in runs)
            row[f"added_caller_cpu_us_{key}"] = statistics.median(one[way]["cpu_us"] - one["direct"]["cpu_us"] for one in runs)
            row[f"requests_per_s_{key}"] = statistics.median(one[way]["requests"] / one[way]["seconds"] for one in runs)
        row["every_cpu_us_small"] = [round(one[way]["between_cpu_us"], 2) for one in small]
        row["every_added_p50_us_one_core"] = [round(one[way]["p50_us"] - one["direct"]["p50_us"], 2) for one in one_core]
        rows.append(row)
    return rows


def run(args, tools, folder, own_core, between_core, ask):
    """For each repeat, what the caller said of each way. Callers and pods share a core."""
    with World(tools, folder) as world:
        pods = world.pods(PODS, own_core)
        between = {way: world.way(way, pods, core=between_core) for way in args.ways}
        return [{way: ask(args, tools, between[way], own_core) for way in args.ways} for _ in range(args.repeats)]


def sequential(args, tools, between, core):
    words = ["infer", *between.words(), "--of-model", "sim_zero", "--requests", args.sequential, "--bytes", SMALL]
    return call(tools, [*words, "--warm-up", WARM_UP], core)


def concurrent(requests, warm_up, size, _args, tools, between, core):
    words = ["infer", *between.words(), "--of-model", "sim_zero", "--requests", requests, "--bytes", size]
    used = between.cpu_us()
    said = call(tools, [*words, "--warm-up", warm_up, "--concurrent", CONCURRENT], core)
    return said | {"between_cpu_us": (between.cpu_us() - used) / (requests + warm_up)}

"""How long requests wait for a pod, beside what nobody can do better. All ways at once, each before pods of its own: what the
machine does otherwise meets all of them. Service times are slept, so it costs little.
"""
import concurrent.futures
import csv
import heapq
import statistics

import install
from install import fleet
from ways import World, call

PODS = 4
MIX = fleet.MIXED
LEARN = (0.3, 5.0)  # load, seconds: nodes learn costs; nobody is measured
SETTLE_S = 3.0  # at full load, before it counts
DRAIN_S = 10
# One for each caller, too, where that is a usual way to run it (a sidecar).
BESIDE = ("haproxy", "nginx", "envoy")


def measure(args, tools, folder):
    rows = []
    for callers in (1, 4):
        for load in args.loads:
            runs = [point(args, tools, folder / f"{callers}-callers-load-{load}-seed-{seed}", callers, load, seed) for seed in args.seeds]
            rows += medians(runs, callers, load)
    return rows


def point(args, tools, folder, callers, load, seed):
    """Figures by way, on one trace."""
    install.say(f"queueing: {callers} callers, load {load}, seed {seed}")
    rate = lambda load: load * PODS / (MIX.mean_ms() / 1e3)
    folder.mkdir(parents=True, exist_ok=True)
    counted_from = LEARN[1] + SETTLE_S
    steps = [(rate(LEARN[0]), LEARN[1]), (rate(load), SETTLE_S + args.seconds)]
    trace = fleet.write_trace(folder / "trace.csv", seed, MIX, steps, callers)
    with World(tools, folder) as world:
        between = {}
        for name in (way for way in args.ways if way != "direct"):
            between[name] = world.way(name, world.pods(PODS), callers if name == "plimsoll-node" else 1)
            if callers > 1 and name in BESIDE:
                between[f"{name}, one each"] = world.way(name, world.pods(PODS), callers)
        with concurrent.futures.ThreadPoolExecutor(len(between)) as pool:
            playing = {
                name: pool.submit(play, tools, running, callers, trace, folder / f"{name.replace(', ', '-').replace(' ', '-')}.csv", counted_from)
                for name, running in between.items()
            }
            figures = {name: played.result() for name, played in playing.items()}
    arrivals = [(int(row["at_us"]) / 1e3, int(row["service_us"]) / 1e3) for row in read(trace)]
    for name, oracle in (("central queue", central_queue), ("fewest in flight, exact", fewest_in_flight)):
        waits = [latency for (at, _), latency in zip(arrivals, oracle(arrivals), strict=True) if at >= counted_from * 1e3]
        small = [
            latency
            for (at, service), latency in zip(arrivals, oracle(arrivals), strict=True)
            if at >= counted_from * 1e3 and service < MIX.mean_ms()
        ]
        figures[name] = summary(waits, small) | {"requests": len(waits), "errors": 0}
    return figures


def play(tools, running, callers, trace, out, counted_from):
    words = ["play", *running.words(), "--callers", callers, "--trace", trace, "--out", out, "--drain-s", DRAIN_S]
    said = call(tools, words, limit_s=600)
    played = fleet.Played(said, [row for row in read(out) if int(row["at_us"]) >= counted_from * 1e6])
    return played.figures(MIX.mean_ms() * 1e3)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def summary(latencies, small):
    latencies, small = sorted(latencies), sorted(small)
    return {
        "mean_ms": statistics.fmean(latencies),
        "p50_ms": fleet.quantile(latencies, 0.5),
        "p99_ms": fleet.quantile(latencies, 0.99),
        "small_p99_ms": fleet.quantile(small, 0.99),
    }


def central_queue(arrivals):
    """Latencies where whichever pod is free first takes whoever came first: no balancer that must choose at once does better
    for all, short of knowing what requests take.
    """
    free = [0.0] * PODS
    for at, service in arrivals:
        end = max(at, heapq.heappop(free)) + service
        heapq.heappush(free, end)
        yield end - at


def fewest_in_flight(arrivals):
    """Latencies where each goes to a pod with the fewest requests, by counts without any delay; ties go in turns."""
    ends = [[] for _ in range(PODS)]
    for turn, (at, service) in enumerate(arrivals):
        for pod in ends:
            while pod and pod[0] <= at:
                pod.pop(0)
        pod = ends[min(range(PODS), key=lambda k: (len(ends[k]), (k - turn) % PODS))]
        end = max(at, pod[-1] if pod else 0.0) + service
        pod.append(end)
        yield end - at


def medians(runs, callers, load):
    rows = []
    for way in runs[0]:
        row = {"callers": callers, "load": load, "way": way}
        for key in ("mean_ms", "p50_ms", "p99_ms", "small_p99_ms"):
            row[key] = statistics.median(run[way][key] for run in runs)
            row[f"{key}_ratio"] = statistics.median(run[way][key] / run["central queue"][key] for run in runs)
        row["every_p99_ms_ratio"] = [round(run[way]["p99_ms"] / run["central queue"]["p99_ms"], 3) for run in runs]
        row["errors"] = sum(run[way]["errors"] for run in runs)
        row["late_p99_ms"] = max(run[way].get("late_p99_ms", 0.0) for run in runs)
        rows.append(row)
    return rows

"""Tables of what was measured."""


def print_all(told, out):
    head(told, out)
    if costs := told.get("costs"):
        print_costs(costs, out)
    if queueing := told.get("queueing"):
        print_queueing(queueing, out)
    if perf := told.get("perf"):
        print_perf(perf, out)
    if memory := told.get("memory"):
        print_memory(memory, out)


def head(told, out):
    print(f"{told['date']}, {told['machine']}; SCHED_RR: {'yes' if told['real_time'] else 'no'}", file=out)
    for name, version in told["versions"].items():
        print(f"  {name:<20} {version}", file=out)
    print("settings", file=out)
    for name, said in told["settings"].items():
        print(f"  {name:<20} {said}", file=out)


def print_costs(rows, out):
    print(
        "\na request, 1 KiB (and 600 KiB): latency added to the median, one at a time, all on one core, or what is between on a core"
        "\nof its own; CPU at 64 concurrent of what is between, and what the caller takes more than directly; medians, microseconds",
        file=out,
    )
    titles = ("way", "added p50", "two cores", "CPU", "caller's", "CPU 600K", "caller's", "requests/s")
    print(f"{titles[0]:<20}" + "".join(f"{title:>12}" for title in titles[1:]), file=out)
    for row in rows:
        cells = [row[key] for key in ("added_p50_us_one_core", "added_p50_us_two_cores", "cpu_us_small", "added_caller_cpu_us_small",
                                      "cpu_us_large", "added_caller_cpu_us_large")]
        print(f"{row['way']:<20}" + "".join(f"{cell:>12.1f}" for cell in cells) + f"{row['requests_per_s_small']:>12.0f}", file=out)


def print_queueing(rows, out):
    points = sorted({(row["callers"], row["load"]) for row in rows})
    for callers, load in points:
        chosen = [row for row in rows if (row["callers"], row["load"]) == (callers, load)]
        print(f"\nqueueing: {callers} {'caller' if callers == 1 else 'callers'}, load {load}: ms, and over the central queue", file=out)
        keys = ("mean_ms", "p50_ms", "p99_ms", "small_p99_ms")
        print(f"{'way':<26}" + "".join(f"{key:>14}{'ratio':>7}" for key in keys) + f"{'errors':>8}", file=out)
        for row in sorted(chosen, key=lambda row: row["p99_ms_ratio"]):
            cells = "".join(f"{row[key]:>14.1f}{row[f'{key}_ratio']:>7.2f}" for key in keys)
            print(f"{row['way']:<26}{cells}{row['errors']:>8}", file=out)


def print_perf(rows, out):
    print(f"\nperf_analyzer: load {rows[0]['load']}, {rows[0]['rate']} requests/s, Poisson: ms", file=out)
    keys = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "served_per_s")
    print(f"{'way':<20}" + "".join(f"{key:>14}" for key in keys), file=out)
    for row in sorted(rows, key=lambda row: row["p99_ms"]):
        print(f"{row['way']:<20}" + "".join(f"{row[key]:>14.1f}" for key in keys), file=out)


def print_memory(rows, out):
    print("\nmemory: resident when warm, for each of 1,000 open streams, and how far it rises while 64 MiB pass", file=out)
    print(f"{'way':<20}{'warm MiB':>12}{'stream KiB':>12}{'64 MiB, MiB':>14}", file=out)
    for row in rows:
        print(f"{row['way']:<20}{row['warm_mib']:>12.1f}{row['stream_kib']:>12.1f}{row['message_peak_mib']:>14.1f}", file=out)

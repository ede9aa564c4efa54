"""The point of it all, on real Tritons: the same requests wait less when every node knows what the others have sent."""
import pytest
from harness.traffic import Traffic, first, poisson
from harness.kserve import SMALL

NAMES = ["a", "b", "c"]

# Four pods do about 140 of these per second: 80 % take 5 ms and 20 % take 120 ms, 28 ms in the mean.
RATE = 100


def play(nodes, tritons, policy, count, seed):
    """One policy, fresh nodes, the seed's requests at the seed's times."""
    cluster = nodes.cluster([f"{name}-{policy}-{seed}" for name in NAMES], pods=tritons, policy=policy)
    with Traffic(cluster, first(count, poisson(RATE, nodes=3, seed=seed))) as traffic:
        traffic.finish()
    for node in cluster:
        node.end()
    assert traffic.failures() == []
    return traffic


def compare(nodes, tritons, capsys, count, seed):
    """The ratio of the mean latencies, plimsoll to round robin, with the numbers printed."""
    played = {policy: play(nodes, tritons, policy, count, seed) for policy in ("round_robin", "plimsoll")}
    with capsys.disabled():
        for policy, traffic in played.items():
            small, every = traffic.quantile_ms(0.99, SMALL), traffic.quantile_ms(0.99)
            print(
                f"\n    {policy:12} mean {traffic.mean_ms():6.1f} ms, p99 {every:6.1f} ms, p99 of the small {small:6.1f} ms"
                f", latest start {traffic.lateness_ms:.0f} ms",
                end="",
            )
        print()
    return played["plimsoll"].mean_ms() / played["round_robin"].mean_ms()


def test_the_mean_is_lower_than_round_robins(nodes, tritons, capsys):
    """Ten seconds at 70 % load. Measured over many seeds the ratio of the means is about one half, so 0.9 is far outside
    what chance does; and as both play the same requests, a slow machine slows both."""
    assert compare(nodes, tritons, capsys, count=1000, seed=11) < 0.9


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_mean_is_lower_for_every_seed(nodes, tritons, capsys):
    """Five seeds, a minute each: every single ratio holds, and the mean ratio is below 0.75."""
    ratios = [compare(nodes, tritons, capsys, count=3000, seed=seed) for seed in range(5)]
    assert max(ratios) < 0.9
    assert sum(ratios) / len(ratios) < 0.75

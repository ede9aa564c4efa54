"""Redis 7.0.15's own test suite against the Redis face: every test passes that suite.toml does not name with a reason."""
import pytest
from harness import redis_suite
from harness.nodes import TARGET

PLAN = redis_suite.Plan.read()


@pytest.fixture(scope="module")
def suite():
    """Copies of the suite, one for each kind of server, and what became of each unit; printed as a table at the end."""
    folders, outcomes = {}, {"ours": [], "redis-server": []}

    def run(kind, unit):
        if kind not in folders:
            folders[kind] = redis_suite.prepare(PLAN, kind, TARGET / "redis" / f"suite-{kind}")
        outcomes[kind].append(redis_suite.run(PLAN, kind, unit, folders[kind]))
        return outcomes[kind][-1]

    yield run
    for kind, those in outcomes.items():
        if those:
            print(f"\nRedis's own suite against {kind}\n{redis_suite.table(PLAN, those)}")


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("unit", PLAN.units)
def test_ours_passes_what_redis_tests_of_itself(suite, unit):
    """A caller was written for Redis: what Redis promises in a test, it may rely on."""
    outcome = suite("ours", unit)
    assert not outcome.fails(), "\n".join(outcome.fails())
    assert not redis_suite.stale(PLAN, unit, outcome), "suite.toml leaves out what is not there (any more)"
    # Nothing may be left out unseen: the count of what is passed is the one that redis-server has.
    assert len(outcome.passed) == PLAN.units[unit], f"{len(outcome.passed)} tests passed; of redis-server {PLAN.units[unit]}"


@pytest.mark.long
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("unit", PLAN.units)
def test_redis_itself_passes_as_many_as_the_plan_says(suite, unit):
    """The measure itself: a number that was written down wrongly would let ours fall behind it."""
    outcome = suite("redis-server", unit)
    assert not outcome.fails(), "\n".join(outcome.fails())
    assert len(outcome.passed) == PLAN.units[unit]

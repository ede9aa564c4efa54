"""Waiting for something to become true, with a reason when it does not."""
import time


def until(what, check, limit=5.0, every=0.02):
    """Calls `check` until it returns something true, and returns that; fails with `what` after `limit` seconds."""
    end = time.monotonic() + limit
    while True:
        last = check()
        if last:
            return last
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what} (last answer: {last!r})")
        time.sleep(every)


def holds(what, check, span=1.0, every=0.02):
    """Calls `check` for `span` seconds and fails with `what` as soon as it is false."""
    end = time.monotonic() + span
    while time.monotonic() < end:
        assert check(), what
        time.sleep(every)


def sampled(check, span=1.0, every=0.02):
    """The share of the time, over `span` seconds, for which `check` was true."""
    end, seen = time.monotonic() + span, []
    while time.monotonic() < end:
        seen.append(bool(check()))
        time.sleep(every)
    return sum(seen) / len(seen)

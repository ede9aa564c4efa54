"""Random sequences of commands for two servers at once, and the shortest of a sequence that still tells them apart."""
import time

from harness.redis_grammar import VALUES
from harness.redis_twins import Twin, differences, state
from harness.resp import Wire

STEPS = 400
# Small limits, so that collections often outgrow what Redis keeps in one piece.
SMALL = ["hash-max-listpack-entries", "8", "set-max-intset-entries", "8", "zset-max-listpack-entries", "8"]
# The third client is never in a transaction, so that it knows when a key of its expires.
PROTOCOLS = [2, 3, 2]
EXPIRES = 2


def sequence(maker):
    """Steps: which client says what. Clients 0 and 1 come and go with transactions; 2 lets keys expire."""
    steps, random = [], maker.random
    while len(steps) < STEPS:
        client, chance = random.choice([0, 0, 1]), random.random()
        if chance < 0.03:
            steps += transaction(maker, client)
        elif chance < 0.035:
            steps.append((EXPIRES, [random.choice([b"s1", b"h1", b"z1", b"e1", b"l1"]), random.choice(VALUES)]))
        else:
            steps.append((client, maker.command()))
    return steps


def transaction(maker, client):
    """WATCH, MULTI, some commands with those of the other client between, and an end."""
    random, other = maker.random, 1 - client
    steps = [(client, [b"watch", *maker.grow(("word", "key"))])] if random.random() < 0.6 else []
    if random.random() < 0.3:
        steps.append((random.choice([client, other]), maker.command()))
    steps.append((client, [b"multi"]))
    for _ in range(random.randint(0, 5)):
        steps.append((other if random.random() < 0.1 else client, maker.command()))
    return [*steps, (client, [b"discard" if random.random() < 0.1 else b"exec"])]


class Play:
    """Plays sequences to two servers, each from nothing."""

    def __init__(self, real, ours):
        self.servers = real, ours

    def __call__(self, steps):
        """What was different, in words; None if nothing was."""
        for server in self.servers:
            with Wire(server.port) as wire:
                for words in (["flushall"], ["script", "flush"], ["config", "set", *SMALL]):
                    wire.ask(*words)
        twins = [Twin(*self.servers, protocol) for protocol in PROTOCOLS]
        try:
            for number, (client, words) in enumerate(steps):
                answers = self.let_expire(twins[client], *words) if client == EXPIRES else twins[client].ask(words)
                if answers:
                    return f"step {number}, {told((client, words))}\n  redis-server {answers[0]}\n  ours         {answers[1]}"
        finally:
            for twin in twins:
                twin.close()
        return "\n".join(differences(*map(state, self.servers))) or None

    def let_expire(self, twin, key, value):
        """A key that lives for a millisecond, and is gone on both afterwards."""
        for words in ([b"set", key, value, b"keepttl"], [b"pexpire", key, b"1"]):
            if answers := twin.ask(words):
                return answers
        time.sleep(0.004)
        return twin.ask([b"exists", key])


def shortest(play, steps, seconds=60):
    """Leaves out what can be left out, larger parts first, for as long as the servers still differ; for so many seconds."""
    end, size = time.monotonic() + seconds, len(steps) // 2
    while size and time.monotonic() < end:
        start = 0
        while start < len(steps) and time.monotonic() < end:
            fewer = steps[:start] + steps[start + size :]
            if play(fewer):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def told(step):
    client, words = step
    return f"{'ABC'[client]}> " + " ".join(repr(word)[1:] for word in words)

"""Two servers that are told the same, and what is the same in what they answer.

Answers are compared as they are on the wire, but for what Redis itself leaves open: the order of what it keeps in hash
tables, what it chooses by chance, times that pass between one server and the other, and what is about the server itself.
"""
from harness.redis_scripts import called
from harness.resp import Closed, Wire

# In the order of a hash table.
UNORDERED = {"keys", "smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals", "command|list"}
PAIRS = {"hgetall", "config|get"}
SCANS = {"scan", "hscan", "sscan", "zscan"}
# As many, of whatever is there.
BY_CHANCE = {"srandmember", "hrandfield", "zrandmember", "spop", "randomkey"}
# Milliseconds, or seconds, that pass.
TIMES = {"ttl": 1, "pttl": 2000, "expiretime": 1, "pexpiretime": 2000}
# About this very server: alike in kind.
OWN = {"client|id", "client|info", "client|list", "client|help", "command", "command|count", "command|docs", "command|help", "command|info", "command|list"}
OWN |= {"config|help", "config|get", "dbsize", "hello", "info", "lastsave", "lolwut", "memory|usage", "object|freq", "object|help", "object|idletime"}
OWN |= {"memory|help", "object|refcount", "script|help", "slowlog|get", "slowlog|help", "slowlog|len", "time"}
CONTAINERS = {b"client", b"command", b"config", b"memory", b"object", b"script", b"acl", b"latency", b"slowlog", b"function"}


def name_of(words):
    """As COMMAND LIST has it."""
    first = words[0].lower()
    if first in CONTAINERS and len(words) > 1:
        first += b"|" + words[1].lower()
    return first.decode(errors="replace")


def pairs(answer):
    """Field and value, whichever protocol they came in."""
    kind, content = answer
    if kind == "map":
        return sorted(content)
    if content and content[0][0] == "array":
        return sorted(tuple(pair[1]) for pair in content)
    return sorted(zip(content[::2], content[1::2]))


def seen(words, answer):
    """Of an answer to a command, what must be the same on both."""
    kind, content = answer
    if kind == "error" or kind == "closed":
        return answer
    name = name_of(words)
    if inner := called(words):
        return kind, seen_of_script(inner, answer)
    if name in OWN:
        return kind
    if name in BY_CHANCE:
        return kind, len(content) if isinstance(content, list) else content is None
    if kind in ("array", "set", "map"):
        if name in PAIRS:
            return kind, pairs(answer)
        if name in SCANS:
            return seen_of_scan(words, answer)
        if name in UNORDERED or (name.startswith("sort") and is_by_nothing(words)):
            return kind, sorted(content, key=repr)
    return answer


def is_by_nothing(words):
    return any(word.upper() == b"BY" and b"*" not in pattern for word, pattern in zip(words, words[1:]))


def seen_of_scan(words, answer):
    """All there is, in whatever order, where it was asked for at once."""
    kind, (cursor, found) = answer
    if not {b"1000", b"5000"} & set(words):
        return kind
    if words[0].lower() in (b"scan", b"sscan"):
        return kind, cursor, sorted(found[1])
    return kind, cursor, pairs(found)


def seen_of_script(inner, answer):
    """What a command answered within a script: as it would have answered outside, or within an array, or as text."""
    kind, content = answer
    if kind == "array" and len(content) == 1 and content[0][0] in ("array", "error"):
        return seen_of_script(inner, content[0])
    name = name_of(inner)
    if name in SCANS and kind == "array" and len(content) == 2 and content[1][0] == "array":
        return seen(inner, answer)
    if name in UNORDERED | PAIRS | SCANS or name.startswith("sort"):
        return kind, sorted(content, key=repr) if isinstance(content, list) else content
    if name in OWN | BY_CHANCE:
        return kind
    if name in TIMES:
        return ("near", *answer)
    return answer


def is_near(words, one, other):
    """Two times of which one was asked for a little later."""
    inner = called(words) or words
    span = TIMES.get(name_of(inner))
    if span is None or one[0] != other[0]:
        return False
    while one[0] == "array" and len(one[1]) == len(other[1]) == 1:
        one, other = one[1][0], other[1][0]
    if one[0] != "int" or other[0] != "int":
        return False
    first, second = int(one[1]), int(other[1])
    return first > 0 and second > 0 and abs(first - second) <= span


class Twin:
    """One client of the two servers at once, in one protocol, and what it has queued since its MULTI."""

    def __init__(self, real, ours, protocol):
        self.servers, self.protocol, self.queued, self.wires = (real, ours), protocol, None, []
        self.connect()

    def connect(self):
        self.close()
        self.wires, self.queued = [Wire(server.port) for server in self.servers], None
        if self.protocol == 3:
            for wire in self.wires:
                wire.ask("hello", "3")

    def close(self):
        for wire in self.wires:
            wire.close()

    def ask(self, words):
        """Tells both. Answers None where they answered alike, else the two answers."""
        answers = []
        for wire in self.wires:
            try:
                answers.append(wire.ask(*words))
            except (Closed, TimeoutError) as error:
                answers.append(("closed", type(error).__name__))
        alike = self.alike(words, *answers)
        name = name_of(words)
        if any(kind == "closed" for kind, _ in answers) or name == "quit":
            self.connect()
        self.follow(name, words, answers[0])
        return None if alike else answers

    def follow(self, name, words, answer):
        """Keeps book of transactions, for what EXEC answers."""
        kind, content = answer
        if (kind, content) == ("status", b"QUEUED"):
            self.queued.append(words)
        elif name == "multi" and kind == "status":
            self.queued = []
        elif name in ("exec", "discard", "reset") and not is_about_arity(answer):
            self.queued = None

    def alike(self, words, one, other):
        if self.queued and name_of(words) == "exec" and one[0] == other[0] == "array" and len(one[1]) == len(self.queued) == len(other[1]):
            return all(alike(*each) for each in zip(self.queued, one[1], other[1]))
        return alike(words, one, other)


def is_about_arity(answer):
    """Whether a command was not even tried."""
    return answer[0] == "error" and answer[1].startswith(b"ERR wrong number of arguments")


def alike(words, one, other):
    return seen(words, one) == seen(words, other) or is_near(words, one, other)


# ---- the whole state ----

DATABASES = 3
READ = {
    b"string": ("get",),
    b"list": ("lrange", "0", "-1"),
    b"set": ("smembers",),
    b"hash": ("hgetall",),
    b"zset": ("zrange", "0", "-1", "withscores"),
}


def state(server):
    """Every key of every database in use: its kind, encoding, expiry and content. And how many there are."""
    found = {}
    with Wire(server.port) as wire:
        for db in range(DATABASES):
            wire.ask("select", db)
            for _, key in sorted(wire.ask("keys", "*")[1]):
                found[db, key] = state_of(wire, key)
            # Not before now: Redis counts what is expired until somebody asks for it.
            found[db, b""] = {"size": wire.ask("dbsize")}
    return found


def state_of(wire, key):
    kind = wire.ask("type", key)[1]
    command, *rest = READ.get(kind, ("exists",))
    content = wire.ask(command, key, *rest)
    if kind == b"hash":
        content = pairs(content)
    if kind == b"set":
        content = sorted(content[1])
    return {"kind": kind, "encoding": wire.ask("object", "encoding", key), "expires": wire.ask("pexpiretime", key), "content": content}


def differences(one, other):
    """What differs between two states, in words."""
    told = []
    for key in sorted(one.keys() | other.keys()):
        if key not in one or key not in other:
            told.append(f"{key}: {'only ours' if key not in one else 'only redis-server'} has it: {one.get(key) or other.get(key)}")
            continue
        for part in one[key]:
            first, second = one[key][part], other[key][part]
            if first != second and not (part == "expires" and is_near([b"pexpiretime"], first, second)):
                told.append(f"{key}: {part}: redis-server {first}, ours {second}")
    return told

"""Clients that mean harm or know no better: answered as Redis answers them, and at nobody else's cost.

Most tests run against redis-server, too: what it does is what is right. After each, others are still served at once.
"""
import contextlib
import random
import re
import socket
import time

import pytest
from harness import redises, wait
from harness.resp import Closed, Wire, packed, plain

MIB = 1 << 20
OK = ("status", b"OK")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("hostile")
        yield {kind: stack.enter_context(redises.running(kind, folder)) for kind in redises.KINDS}


@pytest.fixture(params=["ours", "redis-server"])
def server(running, request):
    """Each of the two, and whether it serves others still."""
    yield from looked_after(running[request.param])


@pytest.fixture
def ours(running):
    """Ours alone, for bounds that Redis does not have."""
    yield from looked_after(running["ours"])


def looked_after(server):
    with Wire(server.port) as neighbour:
        neighbour.ask("ping")
        yield server
        start = time.monotonic()
        assert neighbour.ask("set", "neighbour", "1") == OK
        with Wire(server.port) as newcomer:
            assert newcomer.ask("flushall") == OK
        assert time.monotonic() - start < 1, "others had to wait"


@contextlib.contextmanager
def configured(server, **settings):
    """CONFIG SET for as long as the block lasts. The connection is kept out of what is configured: it may end by it."""
    names = {name: name.replace("_", "-") for name in settings}
    with Wire(server.port) as wire:
        before = {name: plain(wire.ask("config", "get", names[name]))[1] for name in settings}
        for name, value in settings.items():
            assert wire.ask("config", "set", names[name], value) == OK
    try:
        yield
    finally:
        with Wire(server.port) as wire:
            if "requirepass" in settings:
                wire.ask("auth", settings["requirepass"])
            for name, value in before.items():
                assert wire.ask("config", "set", names[name], value) == OK


def everything_said(server, data, pieces=1, limit=10.0):
    """Sends these bytes in so many pieces and ends; all that is answered until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=limit) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = b""
        try:
            size = -(-len(data) // pieces)
            for start in range(0, len(data), size):
                raw.sendall(data[start : start + size])
            raw.shutdown(socket.SHUT_WR)
        except OSError:  # closed already
            pass
        with contextlib.suppress(ConnectionResetError):
            while part := raw.recv(1 << 16):
                said += part
        return said


# ---- what comes in ----

TALK = [
    packed("set", "k", b"\r\n$1\r\n\x00\xff"),
    packed("get", "k"),
    b"PING\r\n",
    b'  set "q u\\x6fted"   \'single\'  \r\n',
    b"get quoted\n",
    b"\r\n\n",
    b"*0\r\n*-1\r\n",
    packed("rpush", "l", *range(100)),
    packed("lrange", "l", 0, -1),
    packed("multi"),
    packed("incr", "n"),
    packed("exec"),
    packed("echo", b"x" * 70_000),
    packed("nosuch", "command"),
    packed("get"),
    packed("eval", "return {1, 'two', {3}}", 0),
    packed(""),
]


def test_requests_may_come_in_any_pieces(server):
    """TCP cuts where it likes: every cut must give the answers of the whole."""
    whole, rng = b"".join(TALK), random.Random(6)
    expected = everything_said(server, whole)
    assert expected.count(b"\r\n") > 150
    small = b"".join(part for part in TALK if len(part) < 1000)
    alone = everything_said(server, packed("flushall") + small)
    assert everything_said(server, packed("flushall") + small, pieces=len(small)) == alone
    for _ in range(20):
        everything_said(server, packed("flushall"))
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            cuts = sorted(rng.sample(range(1, len(whole)), 12))
            for start, end in zip([0, *cuts], [*cuts, len(whole)]):
                raw.sendall(whole[start:end])
                time.sleep(rng.choice([0, 0.001]))
            raw.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: raw.recv(1 << 16), b"")) == expected


GARBAGE = [
    b"*3\r\n$3\r\nSET\r\n$x\r\n",
    b"*x\r\n",
    b"*\r\n",
    b"*1\r\n",
    b"*-2\r\n*1\r\n$4\r\nPING\r\n",
    b"*2147483648\r\n",
    b"*99999999999999999999\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$99999999999999999999\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n:4\r\nPING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*1\n$4\nPING\n",
    b"*1\r\n$ 4\r\nPING\r\n",
    b"*+1\r\n$+4\r\nPING\r\n",
    b"$4\r\nPING\r\n",
    b"+PING\r\n",
    b":1\r\n",
    b"%1\r\n$1\r\na\r\n$1\r\nb\r\n",
    b'set k "unbalanced\r\n',
    b'set k "un"balanced\r\n',
    b"set k 'it''s'\r\n",
    b"\x01\x02\r\n",
    b"\xff" * 100 + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: somewhere\r\n\r\n",
    b"PING\r\n" + b"a" * 70_000,
    b"*1\r\n" + b"1" * 70_000,
    b"*2\r\n$4\r\nPING\r\n" + b"$" + b"1" * 70_000,
    b" \r\n \r\nPING\r\n",
    b"PING" + b" x" * 3000 + b"\r\n",
    b"*1\r\n" * 10_000,
    b"*" * 100_000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:24])[2:-1])
def test_garbage_is_answered_as_by_redis(running, data):
    """Port scans, browsers, other protocols, broken clients: each is told what is wrong, in Redis's words, and closed."""
    talk = packed("ping", "before") + data + packed("ping", "after")
    said = [heard(everything_said(running[kind], talk)) for kind in ("redis-server", "ours")]
    assert said[0] == said[1]


def heard(said):
    """What a server has said, less what Redis loses where it closes at once. Errors quote text here, and bytes in Redis."""
    return re.sub("[^\x00-\x7f]", "?", said.removeprefix(b"$6\r\nbefore\r\n").decode(errors="replace"))


def test_random_bytes_are_answered_as_by_redis(running):
    """The same for what nobody thought of: pieces of requests, changed here and there."""
    rng = random.Random(11)
    for _ in range(300):
        talk = bytearray(b"".join(rng.choices([part for part in TALK if len(part) < 1000], k=3)))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(talk))
            way = rng.random()
            if way < 0.4:
                talk[place] = rng.randrange(256)
            elif way < 0.7:
                del talk[place : place + rng.randint(1, 5)]
            else:
                talk[place:place] = rng.choice([b"\r\n", b"*", b"$", b"-1", b"\x00", b"9", b'"'])
            talk = talk or bytearray(b"x")
        # Redis sees the end of a line in a zero; and COMMAND alone lists all commands, of which it has more.
        if 0 in talk or b"command" in talk.lower():
            continue
        said = [heard(everything_said(running[kind], packed("flushall") + bytes(talk))) for kind in ("redis-server", "ours")]
        assert said[0] == said[1], bytes(talk)


def test_what_is_claimed_takes_no_memory_until_it_comes(server):
    """Thirty clients announce 512 MiB each and send ten bytes: 15 GiB, were they believed."""
    before = server.rss()
    wires = [Wire(server.port) for _ in range(30)]
    for wire in wires:
        wire.send(b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$536870912\r\n" + b"x" * 10)
    for wire in wires[:10]:
        wire.send(b"x" * 10)
    time.sleep(0.3)
    with Wire(server.port) as other:
        assert other.ask("ping") == ("status", b"PONG")
    assert server.rss() - before < 30 * MIB
    for wire in wires:
        wire.close()


def test_a_million_arguments_may_trickle_in(server):
    """A request as long as it is slow: whole in the end, and meanwhile others are served."""
    count, before = 1_000_000, server.rss()
    with Wire(server.port, limit=60) as wire, Wire(server.port) as other:
        other.ask("set", "x", "1")
        wire.send(b"*%d\r\n$3\r\ndel\r\n" % (count + 1))
        argument, slowest = b"$1\r\nx\r\n", 0.0
        for _ in range(100):
            wire.send(argument * (count // 100 - 1) + argument[:3])
            start = time.monotonic()
            assert other.ask("exists", "x") == ("int", b"1")
            slowest = max(slowest, time.monotonic() - start)
            wire.send(argument[3:])
        assert wire.read() == ("int", b"1")
        assert slowest < 0.5
        assert server.rss() - before < 300 * MIB


def test_arrays_claim_nothing_either(server):
    """Two thousand million arguments are announced, and none comes."""
    before = server.rss()
    wires = [Wire(server.port) for _ in range(30)]
    for wire in wires:
        wire.send(b"*2147483647\r\n$4\r\nmget\r\n")
    time.sleep(0.3)
    assert server.rss() - before < 30 * MIB
    for wire in wires:
        wire.close()


def test_pipelines_of_ten_thousand_are_answered_in_order(server):
    """A batch job sends all it has and reads afterwards."""
    with Wire(server.port, limit=30) as wire:
        wire.send(b"".join(packed("incr", "n") for _ in range(10_000)))
        assert [wire.read() for _ in range(10_000)] == [("int", b"%d" % n) for n in range(1, 10_001)]


def test_half_requests_of_many_cost_others_nothing(server):
    """Three hundred clients begin a request and stay."""
    wires = [Wire(server.port) for _ in range(300)]
    for wire in wires:
        wire.send(b"*2\r\n$3\r\nget\r\n$10\r\nabc")
    with Wire(server.port) as other:
        start = time.monotonic()
        for _ in range(100):
            other.ask("ping")
        assert time.monotonic() - start < 1
    for wire in wires:
        wire.close()
    wait.until("they are gone", lambda: clients_of(server) < 10)


def clients_of(server):
    with Wire(server.port) as wire:
        return len(plain(wire.ask("client", "list")).splitlines())


# ---- what goes out ----


def test_a_client_that_never_reads_takes_no_memory(server):
    """It asks for a gigabyte in all and reads nothing. Redis closes it at the limit; ours does not listen to it meanwhile."""
    with configured(server, client_output_buffer_limit="normal 4194304 0 0"), Wire(server.port) as wire:
        wire.ask("set", "big", b"x" * MIB)
        before = server.rss()
        with contextlib.suppress(Closed, TimeoutError):
            wire.socket.settimeout(2)
            for _ in range(1000):
                wire.send(packed("get", "big"))
        time.sleep(0.3)
        assert server.rss() - before < 40 * MIB


def test_an_answer_beyond_the_limit_closes_its_client(server):
    """One that asks for more at once than may be kept for it."""
    with configured(server, client_output_buffer_limit="normal 4194304 0 0"), Wire(server.port) as wire:
        wire.ask("set", "huge", b"x" * (16 * MIB))
        wire.send(packed("get", "huge"))
        wait.until("the server closes it", lambda: clients_of(server) <= 2, 10)
    with Wire(server.port) as wire:
        assert wire.ask("strlen", "huge") == ("int", b"%d" % (16 * MIB))


def test_a_slow_reader_gets_all_of_it(server):
    """Slow is not dead: what is below the limit arrives whole."""
    with Wire(server.port, limit=30) as wire:
        wire.ask("set", "big", b"x" * (8 * MIB))
        wire.send(packed("get", "big") * 3 + packed("ping"))
        time.sleep(0.5)
        for _ in range(3):
            assert wire.read() == ("bulk", b"x" * (8 * MIB))
        assert wire.read() == ("status", b"PONG")


# ---- who may come, and for how long ----


@pytest.mark.parametrize("kind", redises.KINDS)
def test_idle_clients_are_closed_and_waiting_ones_are_not(running, kind):
    """`timeout` is for clients that were forgotten, not for those that wait for a list."""
    server = running[kind]
    with Wire(server.port) as forgotten, Wire(server.port) as waiting:
        forgotten.ask("ping")
        waiting.send(packed("blpop", "never", 0))
        with configured(server, timeout="1"):
            start = time.monotonic()
            assert forgotten.is_closed() and 0.5 < time.monotonic() - start < 5
        with Wire(server.port) as wire:
            wire.ask("rpush", "never", "x")
        assert waiting.read()[0] == "array"


def test_one_client_too_many_is_told_so(server):
    """Those who are there keep being served; there is room again when one goes."""
    wait.until("clients of earlier tests are gone", lambda: clients_of(server) <= 2)
    with configured(server, maxclients="12"):
        wires = []
        for _ in range(12):
            wires.append(Wire(server.port))
            try:
                kind, text = wires[-1].ask("ping")
            except Closed:  # reset before it was read
                continue
            if kind == "error":
                assert text == b"ERR max number of clients reached"
                assert wires[-1].is_closed()
                break
        else:
            raise AssertionError("twelve more than there were")
        assert wires[0].ask("ping") == ("status", b"PONG")
        for wire in wires[:3]:
            wire.close()
        wait.until("there is room", lambda: may_enter(server))
        for wire in wires[3:]:
            wire.close()


def may_enter(server):
    with contextlib.suppress(Closed), Wire(server.port) as wire:
        return wire.ask("ping") == ("status", b"PONG")


def test_strangers_may_only_authenticate(server):
    """Before the password nothing is answered, and little is listened to."""
    with configured(server, requirepass="open sesame"):
        with Wire(server.port) as wire:
            assert wire.ask("get", "x") == ("error", b"NOAUTH Authentication required.")
            assert wire.ask("auth", "wrong")[1].startswith(b"WRONGPASS ")
            assert wire.ask("get", "x")[1].startswith(b"NOAUTH ")
            assert wire.ask("hello", 3)[1].startswith(b"NOAUTH ")
            assert wire.ask("auth", "default", "open sesame") == OK
            assert wire.ask("get", "x") == ("null", None)
        with Wire(server.port) as wire:
            assert wire.ask("hello", 3, "auth", "default", "open sesame")[0] == "map"
            assert wire.ask("get", "x") == ("null", None)
            assert wire.ask("reset") == ("status", b"RESET")
            assert wire.ask("get", "x")[1].startswith(b"NOAUTH ")
        for claim, text in ((b"*100\r\n", b"unauthenticated multibulk length"), (b"*1\r\n$100000000\r\n", b"unauthenticated bulk length")):
            with Wire(server.port) as wire:
                wire.send(claim)
                assert text in wire.read()[1] and wire.is_closed()


# ---- what is asked ----


def test_memory_is_refused_over_maxmemory_and_reading_is_not(server):
    """A leak in a caller ends as an error there, not as the end of the node."""
    with Wire(server.port) as wire:
        used = int(plain(wire.ask("info", "memory")).split(b"used_memory:")[1].split()[0])
        with configured(server, maxmemory=str(used + 8 * MIB)):
            wire.ask("set", "small", "x")
            answers = [wire.ask("set", f"k{number}", b"x" * MIB) for number in range(60)]
            assert answers[0] == OK and answers[-1][1].startswith(b"OOM command not allowed")
            assert wire.ask("get", "small") == ("bulk", b"x")
            assert wire.ask("del", *(f"k{number}" for number in range(60)))[0] == "int"
            assert wire.ask("set", "small", "y") == OK
        with configured(server, maxmemory="1"):
            assert wire.ask("set", "small", "z")[1].startswith(b"OOM ")
            assert wire.ask("eval", "return redis.call('set', 'small', 'z')", 0)[1].startswith(b"OOM ")
            assert wire.ask("eval", "return redis.call('get', 'small')", 0) == ("bulk", b"y")


def test_a_script_without_end_can_be_ended(server):
    """It holds what all others need. They are told BUSY, and one of them may end it."""
    with configured(server, lua_time_limit="50"), Wire(server.port) as wire, Wire(server.port) as other:
        wire.send(packed("eval", "while true do end", 0))
        wait.until("others are told", lambda: other.ask("get", "x")[1].startswith(b"BUSY "))
        assert other.ask("script", "kill") == OK
        assert b"killed by user" in wire.read()[1]
        assert other.ask("ping") == ("status", b"PONG")


def test_scripts_may_not_take_the_machine(ours):
    """Of these Redis itself would take all the memory, or die: `error({})` is the end of 7.0.15."""
    before = ours.rss()
    with Wire(ours.port, limit=30) as wire:
        for body in (
            "error({})",
            "local s = 'x' while true do s = s .. s end",
            "local t = {} while true do t[#t + 1] = {} end",
            "return string.rep('x', 2^31 - 1)",
            "local t = {} for i = 1, 2^25 do t[i] = 'x' .. i end return t",
            "return cjson.decode(string.rep('[', 200000))",
            "local t = {} for i = 1, 100000 do t = {t} end return t",
            "local t = {} t.t = t return cjson.encode(t)",
            "local function f() return f() + 1 end return f()",
        ):
            kind, _ = wire.ask("eval", body, 0)
            assert kind in ("error", "array"), body
            assert ours.rss() - before < 600 * MIB, body
        assert wire.ask("eval", "return 1", 0) == ("int", b"1")


def test_patterns_take_no_time_beyond_their_length(server):
    """Stars upon stars are the classic way to keep a server busy."""
    with Wire(server.port, limit=5) as wire:
        wire.ask("set", "a" * 200, "x")
        start = time.monotonic()
        assert wire.ask("keys", "a*" * 60 + "b") == ("array", [])
        assert time.monotonic() - start < 1


BEYOND = [
    (["setrange", "k", "536870912", "x"], b"ERR string exceeds maximum allowed size"),
    (["srandmember", "e", "-9223372036854775808"], b"ERR value is out of range"),
    (["zunion", "2147483647", "a"], b"ERR syntax error"),
    (["zunion", "9223372036854775807", "a"], b"ERR syntax error"),
    (["eval", "return 1", "9223372036854775807"], b"ERR Number of keys can't be greater than number of args"),
    (["lpop", "l", "9223372036854775808"], b"ERR value is out of range"),
    (["blpop", "l", "1e300"], b"ERR timeout is "),
]


@pytest.mark.parametrize("words, text", BEYOND, ids=lambda part: " ".join(part) if isinstance(part, list) else "")
def test_numbers_beyond_reason_are_refused(server, words, text):
    """A number is a claim, too."""
    with Wire(server.port) as wire:
        wire.ask("sadd", "e", "a")
        wire.ask("rpush", "l", "a")
        kind, said = wire.ask(*words)
        assert kind == "error" and said.startswith(text)


def test_a_common_part_of_long_strings_is_refused(server):
    """LCS takes the product of two lengths."""
    with Wire(server.port) as wire:
        for key in "ab":
            wire.ask("set", key, b"xy" * 500_000)
        kind, said = wire.ask("lcs", "a", "b")
        assert kind == "error" and b"memory" in said


def test_a_thousand_million_random_elements_are_not_gathered(ours):
    """Redis would answer all of them, from memory. What is asked with few bytes must not take many."""
    before = ours.rss()
    with Wire(ours.port, limit=20) as wire, Wire(ours.port) as other:
        wire.ask("sadd", "e", "member")
        wire.ask("hset", "h", "field", "value")
        wire.ask("zadd", "z", 1, "member")
        for words in (["srandmember", "e"], ["hrandfield", "h"], ["zrandmember", "z"]):
            with Wire(ours.port) as greedy:
                greedy.send(packed(*words, -1_000_000_000))
                start = time.monotonic()
                assert other.ask("ping") == ("status", b"PONG")
                assert time.monotonic() - start < 1, words
            assert ours.rss() - before < 500 * MIB, words

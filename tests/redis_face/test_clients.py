"""The clients that people have: redis-py, redis-cli, redis-benchmark, against the Redis face and against Redis itself."""
import json
import os
import pty
import re
import select
import subprocess
import threading
import time

import pytest
import redis
from harness import redises

CLI_LIMIT_S = 20


@pytest.fixture(scope="module", params=redises.KINDS)
def server(request, tmp_path_factory):
    """Everything here holds for redis-server, or it would not be worth holding for ours."""
    with redises.running(request.param, tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture(autouse=True)
def empty(server):
    with server.client() as client:
        client.flushall()


# ---- redis-py ----


@pytest.fixture(params=[2, 3])
def client(server, request):
    with server.client(protocol=request.param, decode_responses=True) as made:
        yield made


def test_every_type_by_its_methods(client):
    """redis-py turns answers into Python by the command and the protocol: a wrong kind of answer breaks in there."""
    assert client.set("s", "v", ex=100, get=True) is None and client.get("s") == "v" and 0 < client.ttl("s") <= 100
    assert client.getex("s", persist=True) == "v" and client.ttl("s") == -1
    assert client.incrby("n", 5) == 5 and client.incrbyfloat("n", 0.5) == 5.5
    assert client.mset({"a": 1, "b": 2}) and client.mget("a", "b", "none") == ["1", "2", None]
    assert client.hset("h", mapping={"f": "1", "g": "2"}) == 2 and client.hgetall("h") == {"f": "1", "g": "2"}
    assert sorted(client.hkeys("h")) == ["f", "g"] and client.hexists("h", "f") is True
    assert client.hincrbyfloat("h", "f", 1.5) == 2.5 and dict(client.hscan_iter("h")) == {"f": "2.5", "g": "2"}
    assert client.rpush("l", "a", "b", "c") == 3 and client.lrange("l", 0, -1) == ["a", "b", "c"]
    assert client.lpos("l", "c") == 2 and client.lmove("l", "m", "LEFT", "RIGHT") == "a" and client.blpop(["l"], 1) in (("l", "b"), ["l", "b"])
    assert client.sadd("e", "x", "y") == 2 and client.smembers("e") == {"x", "y"} and client.smismember("e", ["x", "q"]) == [1, 0]
    assert client.zadd("z", {"one": 1, "two": 2.5, "inf": float("inf")}) == 3
    scored = client.zrange("z", 0, -1, withscores=True)
    assert [tuple(pair) for pair in scored] == [("one", 1.0), ("two", 2.5), ("inf", float("inf"))]
    assert client.zscore("z", "two") == 2.5 and client.zmscore("z", ["one", "none"]) == [1.0, None]
    assert client.zincrby("z", 1, "one") == 2.0 and client.zrank("z", "two") == 1
    assert client.zadd("z", {"one": 1}, incr=True) == 3.0 and "two" in str(client.zpopmin("z"))
    assert client.zrangebyscore("z", "-inf", "+inf", start=0, num=1) == ["one"]
    assert client.type("z") == "zset" and client.object("encoding", "z") == "listpack"
    assert set(client.scan_iter(count=3)) == {"s", "n", "a", "b", "h", "l", "m", "e", "z"} and client.dbsize() == 9
    assert client.expire("z", 100, nx=True) is True and client.expire("z", 50, gt=True) is False
    assert client.delete("s", "none") == 1 and client.rename("a", "a2") is True


def test_what_a_connection_says_of_itself(client):
    """Clients introduce themselves as they connect, and operators look for them in the list."""
    client.client_setname("me")
    assert client.client_getname() == "me" and client.client_id() > 0
    (mine,) = [each for each in client.client_list() if each["name"] == "me"]
    assert mine["cmd"].startswith("client") and mine["addr"].startswith("127.0.0.1:")
    assert client.info()["redis_version"].startswith("7.") and client.info("clients")["connected_clients"] >= 1
    assert abs(client.time()[0] - time.time()) < 2
    assert client.config_get("maxmemory")["maxmemory"].isdigit()
    assert client.command_count() > 100 and "get" in client.command()
    assert client.echo("x") == "x" and client.ping() is True


def test_errors_are_the_exceptions_that_callers_catch(client):
    """redis-py chooses its exception by the first word of the text."""
    client.set("s", "x")
    with pytest.raises(redis.ResponseError, match="^WRONGTYPE "):
        client.lpush("s", "y")
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha("0" * 40, 0)
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NOSUCH", "x")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("s")


def test_pipelines_and_transactions(client):
    """With and without MULTI; errors are of their command, and a watched key that changes is a WatchError."""
    with client.pipeline(transaction=False) as pipe:
        assert pipe.set("s", 1).incr("s").lpush("s", "x").get("s").execute(raise_on_error=False)[0::3] == [True, "2"]
    with client.pipeline() as pipe:
        assert pipe.incr("s").zadd("z", {"a": 1}).zrange("z", 0, -1).execute() == [3, 1, ["a"]]
    with client.pipeline() as pipe:
        pipe.watch("s")
        client.set("s", "changed")
        pipe.multi()
        pipe.set("s", "lost")
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert client.get("s") == "changed"
    assert client.transaction(lambda pipe: (pipe.multi(), pipe.set("s", "done")), "s") == [True]


def test_locks_keep_others_out(server):
    """redis-py's lock is SET NX PX and scripts; twenty threads count with it."""
    with server.client() as client:
        client.set("count", 0)

        def count():
            with server.client() as own:
                for _ in range(5):
                    with own.lock("lock", timeout=10, sleep=0.001):
                        own.set("count", int(own.get("count")) + 1)

        threads = [threading.Thread(target=count) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get("count") == b"100"
        lock = client.lock("other", timeout=10)
        assert lock.acquire() and not client.lock("other", timeout=10).acquire(blocking=False)
        assert lock.reacquire() and lock.extend(10) and lock.owned()
        lock.release()
        with pytest.raises(redis.exceptions.LockError):
            lock.release()


def test_registered_scripts_are_loaded_when_they_are_missing(client):
    """EVALSHA, and SCRIPT LOAD where the server has forgotten it: after a restart every caller does this at once."""
    script = client.register_script("redis.call('incrby', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])")
    assert script(keys=["n"], args=[5]) == "5"
    client.script_flush()
    assert client.script_exists(script.sha) == [False]
    assert script(keys=["n"], args=[5]) == "10"
    with client.pipeline() as pipe:
        script(keys=["n"], args=[1], client=pipe)
        pipe.get("n")
        assert pipe.execute() == ["11", "11"]


def test_a_pool_is_shared_by_threads(server):
    """Fifty threads, ten connections: each thread reads its own answers."""
    pool = redis.BlockingConnectionPool(port=server.port, max_connections=10, timeout=20)
    wrong = []

    def ask(number):
        client = redis.Redis(connection_pool=pool)
        for turn in range(50):
            key = f"t{number}:{turn}"
            client.set(key, key)
            if client.get(key) != key.encode():
                wrong.append(key)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    pool.disconnect()


# ---- redis-cli ----


def cli(server, *arguments, **options):
    """One run of redis-cli to its end; what it printed."""
    words = [redises.program("redis-cli"), "-p", str(server.port), *arguments]
    options = {"capture_output": True, "text": True, "timeout": CLI_LIMIT_S, "check": True} | options
    return subprocess.run(words, **options).stdout


def test_one_command_each(server):
    """In scripts: raw, quoted, as CSV and JSON, with RESP3, with a script from a file, in another database."""
    assert cli(server, "set", "k", "v") == "OK\n"
    assert cli(server, "--no-raw", "get", "k") == '"v"\n'
    assert cli(server, "rpush", "l", "a", "b") == "2\n"
    assert cli(server, "--csv", "lrange", "l", "0", "-1") == '"a","b"\n'
    cli(server, "hset", "h", "f", "v")
    assert json.loads(cli(server, "-3", "--json", "hgetall", "h")) == {"f": "v"}
    assert cli(server, "-n", "1", "exists", "k") == "0\n"
    assert cli(server, "-x", "set", "k", input="from standard input") == "OK\n"
    assert cli(server, "-r", "3", "incr", "n") == "1\n2\n3\n"
    assert "unknown command" in cli(server, "nosuch")


def test_scripts_from_files(server, tmp_path):
    """`--eval`, which is how scripts are tried out."""
    (tmp_path / "script.lua").write_text("return {KEYS[1], ARGV[1], redis.call('ping')['ok']}")
    assert cli(server, "--eval", str(tmp_path / "script.lua"), "key", ",", "argument") == "key\nargument\nPONG\n"


def test_a_session_at_a_terminal(server):
    """Through a pty, as a person has it: prompt, answers by kind, a transaction's prompt, help of a command, another database."""
    main, other = pty.openpty()
    words = [redises.program("redis-cli"), "-p", str(server.port)]
    shell = subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env=os.environ | {"TERM": "dumb"}, close_fds=True)
    os.close(other)
    seen = ""

    def until(text):
        nonlocal seen
        end = time.monotonic() + 10
        while text not in seen:
            assert time.monotonic() < end, f"no {text!r} in {seen!r}"
            if select.select([main], [], [], 0.1)[0]:
                seen += os.read(main, 1 << 16).decode()

    def enter(line, *expected):
        nonlocal seen
        seen = ""
        os.write(main, f"{line}\n".encode())
        for text in expected:
            until(text)

    try:
        until(f"127.0.0.1:{server.port}> ")
        enter("set k v", "OK", "> ")
        enter("get k", '"v"', "> ")
        enter("incr n", "(integer) 1", "> ")
        enter("get none", "(nil)", "> ")
        enter("lrange none 0 -1", "(empty array)", "> ")
        enter("lpush k x", "(error) WRONGTYPE", "> ")
        enter("multi", "OK", "(TX)> ")
        enter("incr n", "QUEUED", "(TX)> ")
        enter("exec", "1) (integer) 2", "> ")
        enter("select 3", "OK", "[3]> ")
        enter("hello 3", "1# ", "[3]> ")
        enter("client setname person", "OK", "> ")
        enter("help get", "summary:", "string", "> ")
        os.write(main, b"quit\n")
        assert shell.wait(timeout=5) == 0
    finally:
        if shell.poll() is None:
            shell.kill()
            shell.wait()
        os.close(main)


def test_mass_insertion(server):
    """`--pipe` sends all there is and ends with an ECHO of its own, by which it knows the end."""
    commands = "".join(f"SET key:{number} {number}\r\n" for number in range(20_000)) + "LPUSH key:1 x\r\n"
    ran = subprocess.run(
        [redises.program("redis-cli"), "-p", str(server.port), "--pipe"],
        input=commands, capture_output=True, text=True, timeout=CLI_LIMIT_S, check=False,
    )
    assert "errors: 1, replies: 20001" in ran.stdout
    assert cli(server, "dbsize") == "20000\n"


def test_latency_of_a_second(server):
    """`--latency` runs until it is ended; with --raw and a time it says minimum, maximum, average, count."""
    ran = subprocess.run(
        ["timeout", "--signal=INT", "5", redises.program("redis-cli"), "-p", str(server.port), "--latency", "-i", "1", "--raw"],
        capture_output=True, text=True, timeout=CLI_LIMIT_S, check=False,
    )
    found = re.match(r"(\d+) (\d+) ([\d.]+) (\d+)", ran.stdout)
    assert found and int(found[4]) > 50 and float(found[3]) < 20, ran.stdout


def test_the_largest_keys_of_each_type(server):
    """`--bigkeys` and `--memkeys` go through everything by SCAN, with TYPE, STRLEN, LLEN and others in pipelines."""
    with server.client() as client:
        client.set("small", "x")
        client.set("large", "x" * 1000)
        client.rpush("list", *range(50))
        client.hset("hash", mapping={str(number): "v" for number in range(40)})
        client.sadd("set", *range(30))
        client.zadd("zset", {str(number): number for number in range(20)})
    said = cli(server, "--bigkeys")
    assert 'Biggest string found \'"large"\' has 1000 bytes' in said
    for kind, size in (("list", "50 items"), ("hash", "40 fields"), ("set", "30 members"), ("zset", "20 members")):
        assert re.search(rf"Biggest +{kind} found '\"{kind}\"' has {size}", said), said


def test_all_keys_of_a_pattern(server):
    """`--scan --pattern`."""
    with server.client() as client:
        client.mset({f"a:{number}": 1 for number in range(300)} | {f"b:{number}": 1 for number in range(300)})
    assert sorted(cli(server, "--scan", "--pattern", "a:*").split()) == sorted(f"a:{number}" for number in range(300))
    assert len(cli(server, "--scan").split()) == 600


# ---- redis-benchmark ----


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_the_benchmark_runs_through(server, pipeline):
    """Everything that it tries unless told otherwise, without an error."""
    words = [redises.program("redis-benchmark"), "-p", str(server.port), "-n", "2000", "-c", "20", "-P", pipeline, "--csv"]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 and "rror" not in ran.stdout + ran.stderr, ran.stdout + ran.stderr
    tests = [line.split(",")[0].strip('"') for line in ran.stdout.splitlines()[1:]]
    assert {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN"} <= set(tests)
    assert {"LRANGE_100 (first 100 elements)", "MSET (10 keys)"} <= set(tests)

"""How every command looks, as a small grammar, and random commands made by it.

A rule is words with spaces between. CAPITALS are sent as they are; small words are drawn from WORDS; `( a | b )` is one of
several, and `?`, `*`, `+` behind a word or a bracket mean: perhaps, up to three, one to three. Keys, fields and members come
from small pools, so that commands meet each other's keys, of the right kind most often and of a wrong one now and then.
"""
import functools
import random
import re

# What numbers are not, or only just are. No small positive one: see Maker.spoiled.
JUNK = [b"", b"abc", b"-1", b"0", b"1.5", b"1e3", b" 1", b"1 ", b"+1", b"01", b"-0", b"inf", b"-inf", b"+inf", b"nan", b"0x10"]
JUNK += [b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551616", b"1e400", b"(1", b"(", b"["]
JUNK += [b"NX", b"xx", b"LIMIT", b"WITHSCORES", b"\xff\x00", b"y" * 70, b"*", b"{a}", b"1e-320", b"3.0", b"5e-1", b"\r\n"]
VALUES = [b"", b"a", b"b", b"hello", b"10", b"-3", b"3.5", b"0", b"1e2", b"12345678901234567890", b"x" * 44, b"x" * 45, b"z" * 64, b"z" * 65]
VALUES += [b"\x00\xff", b"Hello World", b"nan", b"9223372036854775807", b" 7", b"00", b"-0", b"0.1", b"3.0e10", b"long " * 30]
NUMBERS = [b"-5", b"-1", b"0", b"1", b"2", b"3", b"7", b"100", b"-100", b"9223372036854775806", b"-9223372036854775807"]
FLOATS = [b"0", b"1", b"-1", b"0.1", b"2.5", b"1e2", b"-7.25", b"3.0", b"1e17", b"1e-7", b"123456789.123", b"inf", b"-inf", b"5e-324", b"1.7e308"]
LEX = [b"-", b"+", b"[a", b"(a", b"[c", b"(c", b"[", b"(", b"[z", b"a"]
PATTERNS = [b"*", b"?", b"s*", b"*1", b"[a-c]", b"[^a]*", b"h\\*", b"f?", b"", b"**", b"[", b"k[1-", b"m[0-9]"]
FAR = 4_000_000_000  # unix seconds, far off
SUBJECTS = ["s", "l", "e", "h", "z"]


def pool(letter, count):
    return [f"{letter}{number}".encode() for number in range(count)]


def one_of(items):
    return lambda maker: [maker.random.choice(items)]


def key_of(letter):
    """A key that holds this kind of value if it holds any, but for one in fifteen."""

    def word(maker):
        subject = maker.random.choice(SUBJECTS) if maker.random.random() < 0.07 else letter
        return [b"%s%d" % (subject.encode(), maker.random.randrange(4))]

    return word


def keys_of(letter):
    """How many keys, and the keys."""

    def word(maker):
        keys = [key for _ in range(maker.random.randint(1, 3)) for key in key_of(letter)(maker)]
        return [b"%d" % len(keys), *keys]

    return word


def weighted(maker):
    """Sorted sets with weights: as many as there are keys, but for the odd one."""
    count = maker.random.randint(1, 3)
    keys = [key for _ in range(count) for key in key_of(maker.random.choice("zze"))(maker)]
    weights = [b"WEIGHTS", *(maker.random.choice(FLOATS) for _ in keys)] if maker.random.random() < 0.5 else []
    return [b"%d" % count, *keys, *weights]


def score_bound(maker):
    number = maker.random.choice([*FLOATS, b"-inf", b"+inf", b"-inf", b"+inf"])
    return [b"(" + number if maker.random.random() < 0.2 else number]


WORDS = {
    **{name: key_of(name[0]) for name in ("str", "list", "hash", "zset")},
    "set": key_of("e"),
    # Sorted sets that only ever have one score: by letters, Redis answers anything at all where there are several.
    "level": one_of(pool("x", 3)),
    "key": lambda maker: key_of(maker.random.choice(SUBJECTS))(maker),
    "gone": one_of(pool("q", 3)),
    "lists": keys_of("l"),
    "sets": keys_of("e"),
    "zsets": lambda maker: keys_of(maker.random.choice("zze"))(maker),
    "weighted": weighted,
    "val": one_of(VALUES),
    "field": one_of([*pool("f", 12), b"", b"n", b"7", b"w" * 65]),
    "member": one_of([*pool("m", 12), b"", b"a", b"b", b"c", b"5", b"-5", b"0", b"01", b"w" * 65, b"9223372036854775807", b"30000", b"3000000000"]),
    "intmember": lambda maker: [b"%d" % maker.random.randint(-20, 20)],
    "int": one_of(NUMBERS),
    "idx": lambda maker: [b"%d" % maker.random.randint(-6, 6)],
    "few": lambda maker: [b"%d" % maker.random.randint(0, 4)],
    "all": one_of([b"1000", b"5000"]),
    "kind": one_of([b"string", b"list", b"set", b"zset", b"hash", b"stream", b"nothing"]),
    "float": one_of(FLOATS),
    "score": lambda maker: [maker.random.choice([maker.random.choice(FLOATS), b"%d" % maker.random.randint(-9, 9)])],
    "bound": score_bound,
    "lex": one_of(LEX),
    "glob": one_of(PATTERNS),
    "longs": one_of([b"1000", b"5000", b"100000"]),
    "longms": one_of([b"1000000", b"50000000"]),
    "past": one_of([b"0", b"-1", b"-100", b"9223372036854775807", b"-9223372036854775808", b"abc"]),
    "at": one_of([b"%d" % FAR, b"%d" % (FAR + 7), b"1", b"1000000000"]),
    "atms": one_of([b"%d" % (FAR * 1000), b"%d" % (FAR * 1000 + 7), b"1", b"1000000000000"]),
    "db": one_of([b"0", b"0", b"1", b"2"]),
    "junk": one_of(JUNK),
    "offset": one_of([b"0", b"1", b"5", b"20", b"-1"]),
    "wait": one_of([b"0.01"]),
    "entry": one_of([b"2", b"4", b"8", b"512"]),
}

# What waits where there is nothing (a hundredth of a second here, which Redis makes a tenth), or changes what follows.
RARE = {"blpop", "brpop", "blmove", "blmpop", "brpoplpush", "bzpopmin", "bzpopmax", "bzmpop", "flushall", "flushdb", "swapdb", "quit", "reset", "multi", "watch"}

RULES = {
    # strings
    "append": "str val",
    "decr": "str",
    "decrby": "str int",
    "get": "str",
    "getdel": "str",
    "getex": "str ( EX longs | PX longms | EXAT at | PXAT atms | PERSIST )?",
    "getrange": "str idx idx",
    "getset": "str val",
    "incr": "str",
    "incrby": "str int",
    "incrbyfloat": "str float",
    "lcs": "str str ( LEN | IDX ( MINMATCHLEN few )? WITHMATCHLEN? )?",
    "mget": "str+",
    "mset": "( str val )+",
    "msetnx": "( str val )+",
    "psetex": "str ( longms | junk ) val",
    "set": "str val ( NX | XX )? GET? ( EX longs | PX longms | EXAT at | PXAT atms | KEEPTTL )?",
    "setex": "str ( longs | junk ) val",
    "setnx": "str val",
    "setrange": "str few val",
    "strlen": "str",
    "substr": "str idx idx",
    # keys
    "copy": "key ( gone | key ) ( DB db )? REPLACE?",
    "del": "key+",
    "exists": "key+",
    "expire": "key ( longs | past ) ( NX | XX | GT | LT )?",
    "expireat": "key at ( NX | XX | GT | LT )?",
    "expiretime": "key",
    "keys": "glob",
    "move": "key db",
    "object|encoding": "key",
    "object|freq": "key",
    "object|help": "",
    "object|idletime": "key",
    "object|refcount": "key",
    "persist": "key",
    "pexpire": "key ( longms | past ) ( NX | XX | GT | LT )?",
    "pexpireat": "key atms ( NX | XX | GT | LT )?",
    "pexpiretime": "key",
    "pttl": "key",
    "randomkey": "",
    "rename": "key ( gone | key )",
    "renamenx": "key ( gone | key )",
    "scan": "0 ( MATCH glob )? COUNT all ( TYPE kind )?",
    "sort": "( list | set | zset ) ( BY ( nosort | s* | h*->f1 | f* ) | ALPHA )? ( LIMIT few few )? ( GET ( # | s* | h*->f2 ) )* ( ASC | DESC )? ( STORE gone )?",
    "sort_ro": "( list | set | zset ) ( BY ( nosort | s* ) | ALPHA )? ( LIMIT few few )? ( GET ( # | s* ) )* ( ASC | DESC )?",
    "touch": "key+",
    "ttl": "key",
    "type": "key",
    "unlink": "key+",
    # hashes
    "hdel": "hash field+",
    "hexists": "hash field",
    "hget": "hash field",
    "hgetall": "hash",
    "hincrby": "hash field int",
    "hincrbyfloat": "hash field float",
    "hkeys": "hash",
    "hlen": "hash",
    "hmget": "hash field+",
    "hmset": "hash ( field val )+",
    "hrandfield": "hash ( ( few | idx ) WITHVALUES? )?",
    "hscan": "hash 0 ( MATCH glob )? COUNT all",
    "hset": "hash ( field val )+",
    "hsetnx": "hash field val",
    "hstrlen": "hash field",
    "hvals": "hash",
    # lists
    "blmove": "list list ( LEFT | RIGHT ) ( LEFT | RIGHT ) wait",
    "blmpop": "wait lists ( LEFT | RIGHT ) ( COUNT few )?",
    "blpop": "list+ wait",
    "brpop": "list+ wait",
    "brpoplpush": "list list wait",
    "lindex": "list idx",
    "linsert": "list ( BEFORE | AFTER ) val val",
    "llen": "list",
    "lmove": "list list ( LEFT | RIGHT ) ( LEFT | RIGHT )",
    "lmpop": "lists ( LEFT | RIGHT ) ( COUNT few )?",
    "lpop": "list few?",
    "lpos": "list val ( RANK idx )? ( COUNT few )? ( MAXLEN few )?",
    "lpush": "list val+",
    "lpushx": "list val+",
    "lrange": "list idx idx",
    "lrem": "list idx val",
    "lset": "list idx val",
    "ltrim": "list idx idx",
    "rpop": "list few?",
    "rpoplpush": "list list",
    "rpush": "list val+",
    "rpushx": "list val+",
    # sets
    "sadd": "set ( member+ | intmember+ )",
    "scard": "set",
    "sdiff": "set+",
    "sdiffstore": "set set+",
    "sinter": "set+",
    "sintercard": "sets ( LIMIT few )?",
    "sinterstore": "set set+",
    "sismember": "set member",
    "smembers": "set",
    "smismember": "set member+",
    "smove": "set set ( member | intmember )",
    "spop": "set all",
    "srandmember": "set ( few | idx )?",
    "srem": "set ( member | intmember )+",
    "sscan": "set 0 ( MATCH glob )? COUNT all",
    "sunion": "set+",
    "sunionstore": "set set+",
    # sorted sets
    "bzmpop": "wait zsets ( MIN | MAX ) ( COUNT few )?",
    "bzpopmax": "zset+ wait",
    "bzpopmin": "zset+ wait",
    "zadd": "( zset ( NX | XX )? ( GT | LT )? CH? ( INCR score member | ( score member )+ ) | zset ( score member )+ | level 0 member )",
    "zcard": "zset",
    "zcount": "zset bound bound",
    "zdiff": "zsets WITHSCORES?",
    "zdiffstore": "zset zsets",
    "zincrby": "zset score member",
    "zinter": "weighted ( AGGREGATE ( SUM | MIN | MAX ) )? WITHSCORES?",
    "zintercard": "zsets ( LIMIT few )?",
    "zinterstore": "zset weighted ( AGGREGATE ( SUM | MIN | MAX ) )?",
    "zlexcount": "level lex lex",
    "zmpop": "zsets ( MIN | MAX ) ( COUNT few )?",
    "zmscore": "zset member+",
    "zpopmax": "zset few?",
    "zpopmin": "zset few?",
    "zrandmember": "zset ( ( few | idx ) WITHSCORES? )?",
    "zrange": "( zset ( idx idx REV? | bound bound BYSCORE REV? ( LIMIT offset idx )? ) | level lex lex BYLEX REV? ( LIMIT offset idx )? ) WITHSCORES?",
    "zrangebylex": "level lex lex ( LIMIT offset idx )?",
    "zrangebyscore": "zset bound bound WITHSCORES? ( LIMIT offset idx )?",
    "zrangestore": "zset ( zset ( idx idx REV? | bound bound BYSCORE REV? ( LIMIT offset idx )? ) | level lex lex BYLEX )",
    "zrank": "zset member",
    "zrem": "zset member+",
    "zremrangebylex": "level lex lex",
    "zremrangebyrank": "zset idx idx",
    "zremrangebyscore": "zset bound bound",
    "zrevrange": "zset idx idx WITHSCORES?",
    "zrevrangebylex": "level lex lex ( LIMIT offset idx )?",
    "zrevrangebyscore": "zset bound bound WITHSCORES? ( LIMIT offset idx )?",
    "zrevrank": "zset member",
    "zscan": "zset 0 ( MATCH glob )? COUNT all",
    "zscore": "zset member",
    "zunion": "weighted ( AGGREGATE ( SUM | MIN | MAX ) )? WITHSCORES?",
    "zunionstore": "zset weighted ( AGGREGATE ( SUM | MIN | MAX ) )?",
    # transactions
    "multi": "",
    "exec": "",
    "discard": "",
    "watch": "key+",
    "unwatch": "",
    # connections
    "auth": "val val?",
    "client|getname": "",
    "client|getredir": "",
    "client|help": "",
    "client|id": "",
    "client|info": "",
    "client|kill": "( ID 99999999 | ID junk | ADDR 1.2.3.4:5 | 1.2.3.4:5 | TYPE junk )",
    "client|list": "( TYPE ( normal | junk ) | ID 99999999 )?",
    "client|no-evict": "( on | off | junk )",
    "client|pause": "0",
    "client|reply": "( ON | junk )",
    "client|setinfo": "( LIB-NAME | LIB-VER | junk ) val",
    "client|setname": "( me | val )",
    "client|unblock": "99999999 ( TIMEOUT | ERROR | junk )?",
    "client|unpause": "",
    "echo": "val",
    "hello": "( 2 | 3 | 4 | junk ) ( SETNAME ( me | val ) )? ( AUTH val val )?",
    "ping": "val?",
    "quit": "",
    "reset": "",
    "select": "( db | junk )",
    # the server
    "command": "",
    "command|count": "",
    "command|docs": "( get | nosuch )+",
    "command|getkeys": "( GET str | MSET str val str val | ZUNIONSTORE zset weighted | EVAL x 2 key key val | SORT list STORE gone | junk )",
    "command|getkeysandflags": "( GET str | MSET str val str val | ZUNIONSTORE zset weighted | EVAL x 2 key key val | junk )",
    "command|help": "",
    "command|info": "( get | zadd | eval | nosuch )+",
    "command|list": "( FILTERBY PATTERN glob )?",
    "config|get": "( maxmemory | hash-max-listpack-entries | nosuch | junk )+",
    "config|help": "",
    "config|resetstat": "",
    "config|set": "( ( hash-max-listpack-entries | set-max-intset-entries | zset-max-listpack-entries ) entry | nosuch val )",
    "dbsize": "",
    "flushall": "( ASYNC | SYNC | junk )?",
    "flushdb": "( ASYNC | SYNC )?",
    "info": "( server | memory | nosuch )*",
    "lastsave": "",
    "lolwut": "",
    "memory|help": "",
    "memory|usage": "key ( SAMPLES few )?",
    "role": "",
    "slowlog|get": "( 0 | -2 | junk )?",
    "slowlog|help": "",
    "slowlog|len": "",
    "slowlog|reset": "",
    "swapdb": "db db",
    "time": "",
    "wait": "0 few",
    # scripts
    "eval": "script",
    "eval_ro": "script",
    "evalsha": "sha",
    "evalsha_ro": "sha",
    "script|exists": "known+",
    "script|flush": "( SYNC | ASYNC | junk )?",
    "script|help": "",
    "script|kill": "",
    "script|load": "body",
}


# ---- the grammar, read ----


def parse(text):
    """A rule as a tree: ("seq", [...]), ("or", [...]), ("many", least, most, node), ("word", word)."""
    tokens = re.findall(r"\([?*+]?(?!\S)|\)[?*+]?|\S+", text)
    tree, rest = parse_choice(tokens)
    assert not rest, f"{text!r}: {rest}"
    return tree


REPEATS = {"?": (0, 1), "*": (0, 3), "+": (1, 3)}


def parse_choice(tokens):
    ways, tokens = [[]], list(tokens)
    while tokens and not tokens[0].startswith(")"):
        token = tokens.pop(0)
        if token == "|":
            ways.append([])
            continue
        if token == "(":
            node, tokens = parse_choice(tokens)
            token = tokens.pop(0)  # the bracket's end, with its repeat
        else:
            bare = token.rstrip("?*+") if len(token) > 2 else token  # `s*` is a pattern
            node, token = ("word", bare), token[len(bare) :]
        repeat = REPEATS.get(token[-1:] if token else "")
        ways[-1].append(("many", *repeat, node) if repeat else node)
    trees = [("seq", way) for way in ways]
    return (trees[0] if len(trees) == 1 else ("or", trees)), tokens


@functools.cache
def rule(command):
    return parse(RULES[command])


# ---- random commands ----


def is_ambiguous(name, arguments):
    """Whether Redis may answer this or that: a part of a set that is sorted by nothing, or by what several have alike."""
    if name == "zadd":  # what was spoiled may have another score
        return bool(arguments) and arguments[0].startswith(b"x") and (arguments[1:2] != [b"0"] or len(arguments) > 3)
    if not name.startswith("sort"):
        return False
    upper = [word.upper() for word in arguments]
    patterns = [after for word, after in zip(upper, arguments[1:]) if word == b"BY"]
    takes_part = b"LIMIT" in upper or b"STORE" in upper
    return (takes_part and any(b"*" not in pattern for pattern in patterns)) or (bool(patterns) and b"ALPHA" in upper)


class Maker:
    """Commands of those that `known` lists, by a seeded generator."""

    def __init__(self, seed, known, scripts):
        self.random = random.Random(seed)
        self.known = sorted(known)
        self.frequent = [command for command in self.known if command not in RARE]
        self.scripts = scripts
        self.own = {"script": scripts.script, "sha": scripts.sha, "known": scripts.known, "body": scripts.body}

    def command(self):
        """The name and arguments of one command."""
        rare = self.random.random() < 0.005
        return self.one(self.random.choice(self.known if rare else self.frequent))

    def quiet(self):
        """The same for scripts: none that waits, none that is a script itself."""
        names = [name for name in self.frequent if not name.startswith(("eval", "script"))]
        return self.one(self.random.choice(names))

    def one(self, name):
        words = [part.encode() for part in name.split("|")]
        if self.random.random() < 0.3:
            words[0] = words[0].upper()
        while True:
            arguments = self.grow(rule(name))
            if self.random.random() < 0.06:
                arguments = self.spoiled(arguments)
            if not is_ambiguous(name, arguments):
                return [*words, *arguments]

    def grow(self, node):
        kind = node[0]
        if kind == "word":
            word = self.own.get(node[1]) or WORDS.get(node[1])
            return word(self) if word else [node[1].encode()]
        if kind == "many":
            return [word for _ in range(self.random.randint(node[1], node[2])) for word in self.grow(node[3])]
        if kind == "or":
            return self.grow(self.random.choice(node[1]))
        return [word for part in node[1] for word in self.grow(part)]

    def spoiled(self, arguments):
        """One argument too few, too many, or wrong. Never a small count: a random element that is taken out differs."""
        arguments, way = list(arguments), self.random.random()
        if way < 0.2 or not arguments:
            arguments.insert(self.random.randint(0, len(arguments)), self.random.choice(JUNK))
        elif way < 0.4 and b"1000" not in arguments and b"5000" not in arguments:
            arguments.pop(self.random.randrange(len(arguments)))
        else:
            arguments[self.random.randrange(len(arguments))] = self.random.choice(JUNK)
        return arguments

"""Lua scripts for random commands to run: some call any command, some try the language and what Redis adds to it."""
import hashlib

# Each runs the command that stands in ARGV.
CALLS = [
    b"return redis.call(unpack(ARGV))",
    b"return redis.pcall(unpack(ARGV))",
    b"return {redis.pcall(unpack(ARGV))}",
    b"redis.setresp(3); return redis.call(unpack(ARGV))",
    b"local r = redis.pcall(unpack(ARGV)); if type(r) == 'table' and r.err then return r.err end; return type(r)",
    b"redis.call('set', KEYS[1] or 's9', 'before'); local r = redis.call(unpack(ARGV)); redis.call('del', 's9'); return r",
]
# These need nothing and always answer the same. `error({})` is not among them: Redis 7.0.15 dies of it.
PLAIN = [
    b"return 3.7",
    b"return -3.7",
    b"return {1, 2, nil, 4}",
    b"return {1, {2, 'three', {}}, false, true}",
    b"return true",
    b"return false",
    b"return nil",
    b"return",
    b"return 'a\\0b'",
    b"return {ok = 'fine'}",
    b"return {err = 'MY oh my'}",
    b"return {err = 'oh my'}",
    b"return redis.error_reply('oh my')",
    b"return redis.error_reply('MY oh my')",
    b"return redis.error_reply('-MY oh my')",
    b"return redis.error_reply({})",
    b"return redis.status_reply('fine')",
    b"return redis.status_reply()",
    b"return {redis.status_reply('fine'), redis.error_reply('oh my')}",
    b"redis.setresp(3); return {double = 3.25}",
    b"return {double = 3.25}",
    b"redis.setresp(3); return {map = {a = 1}}",
    b"redis.setresp(3); return {set = {a = true}}",
    b"redis.setresp(3); return true",
    b"redis.setresp(4)",
    b"redis.setresp()",
    b"return redis.sha1hex('')",
    b"return redis.sha1hex('abc')",
    b"return redis.sha1hex()",
    b"return redis.sha1hex(12)",
    b"return redis.log(redis.LOG_DEBUG, 'said')",
    b"return redis.log('said')",
    b"return redis.log(12, 'said')",
    b"return {redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING}",
    b"return redis.REDIS_VERSION_NUM > 0",
    b"return KEYS[1]",
    b"return {KEYS, ARGV, #KEYS, #ARGV}",
    b"return redis.call()",
    b"return redis.call(1)",
    b"return redis.call({})",
    b"return redis.call('nosuch', 'x')",
    b"return redis.call('get')",
    b"return redis.pcall('get', 'a', 'b')",
    b"return redis.pcall('nosuch').err",
    b"return redis.call('echo', 3.5)",
    b"return redis.call('echo', 12345678901234)",
    b"return redis.call('echo', 1e20)",
    b"error('mine')",
    b"error({err = 'MY table'})",
    b"return x",
    b"x = 1",
    b"local x = nil; return x.y",
    b"return #nil",
    b"return 1 +",
    b"function f() return 1 end; return f()",
    b"local function f(n) return n < 2 and n or f(n - 1) + f(n - 2) end; return f(15)",
    b"return tostring(1e15) .. tostring(2^53) .. tostring(0.1) .. tostring(-0.0) .. tostring(1/0)",
    b"return tonumber('0x10') + tonumber('1e2') + (tonumber('zz', 36) or 0)",
    b"return string.format('%5.2f|%d|%s|%q|%x', 1.005, 42, 'x', 'q\\n', 255)",
    b"return string.rep('ab', 3, ',') .. ('x'):rep(2)",
    b"return {string.find('hello', 'l+'), string.match('k=v', '(%w+)=(%w+)'), string.gsub('aXbX', 'X', '-')}",
    b"return table.concat({1, 2, 3}, ',')",
    b"local t = {3, 1, 2}; table.sort(t); return t",
    b"return {math.floor(-3.5), math.max(1, 5), math.fmod(7, 3), math.abs(-2)}",
    b"return {select('#', unpack({1, 2, 3})), select(2, 'a', 'b')}",
    b"return type(os) .. type(io) .. type(require) .. type(print) .. type(dofile) .. type(loadfile)",
    b"return type(os.clock()) .. type(os.time)",
    b"return pcall(function() error('in') end)",
    b"local ok, e = pcall(redis.call, 'nosuch'); return {tostring(ok), type(e), type(e) == 'table' and e.err or e}",
    b"local ok, e = pcall(function() error('in') end); return e",
    b"return _VERSION",
    b"return cjson.encode({1, 2, {a = 'b'}})",
    b"return cjson.encode({[1] = 1, [3] = 3})",
    b"return cjson.encode({[1] = 1, [1000] = 3})",
    b"return cjson.encode({1.5, 1e20, -0.1, 12345678901234567890, 1/3})",
    b"return cjson.encode('q\"\\\\/\\0\\127\\n')",
    b"return cjson.encode(cjson.null)",
    b"return cjson.encode({})",
    b"return cjson.encode(1/0)",
    b"return cjson.encode(function() end)",
    b"return cjson.decode('[1, 2.5, \"x\", null, true]')",
    b"return cjson.decode('{\"a\": {\"b\": [1, 2]}}').a.b",
    b"return cjson.decode('\"\\\\u00e9\\\\ud83d\\\\ude00\"')",
    b"return cjson.decode('[1')",
    b"return cjson.decode('')",
    b"return cjson.decode('{\"a\": nope}')",
    b"return tostring(cjson.decode('null') == cjson.null)",
    b"return cjson.encode(cjson.decode('[]'))",
    b"return cjson.decode('123456789012345678')",
    b"return math.random(1000000)",
    b"math.randomseed(7); return {math.random(1000), math.random(1000)}",
    b"return redis.call('set', 's1', '5') and redis.call('incr', 's1')",
    b"redis.call('hset', 'h1', 'f1', 1); return redis.call('hget', 'h1', 'f1')",
    b"return redis.call('zadd', 'z1', 1.5, 'a', 'inf', 'b')",
    b"return redis.call('zscore', 'z1', 'a')",
    b"redis.call('zadd', 'z1', 0.1, 'a'); redis.setresp(3); return tostring(redis.call('zscore', 'z1', 'a').double)",
    b"return redis.call('type', 's1').ok",
    b"return redis.call('get', 'none') == false",
    b"redis.setresp(3); return redis.call('get', 'none') == nil",
    b"return #redis.call('keys', 'none*')",
    b"redis.call('set', 's2', 'kept'); error('after a write')",
    b"redis.call('set', 's2', 'kept'); return redis.call('lpush', 's2', 'x')",
    b"return redis.call('multi')",
    b"return redis.call('select', 1)",
    b"return redis.call('eval', 'return 1', 0)",
    b"return redis.call('blpop', 'none', 0)",
    b"return redis.call('watch', 's1')",
    b"return redis.call('script', 'flush')",
    b"redis.replicate_commands(); return 1",
    b"return redis.set_repl == nil",
    b"return redis.breakpoint and 1 or 0",
    b"local a = {}; a.a = a; return 'loop'",
    b"#!lua\nreturn 1",
    b"#!lua flags=no-writes\nreturn redis.call('set', 's1', 'x')",
    b"#!lua flags=no-writes\nreturn redis.call('get', 's1')",
    b"#!lua flags=nosuch\nreturn 1",
    b"#!nosuch\nreturn 1",
    b"#!lua name=x\nreturn 1",
    b"return redis.acl_check_cmd and 1",
    b"return struct and 1 or 0",
    b"return bit and bit.band(12, 10)",
    b"return cmsgpack and 1 or 0",
    b"setmetatable(_G, {})",
    b"redis.call = 1",
    b"_G.x = 1",
    b"return getmetatable('').__index == string",
    b"local s = '' for i = 1, 100 do s = s .. i end return s",
    b"return loadstring('return 1 + 1')()",
    b"return {pcall(loadstring, 'x')}",
]
BODIES = CALLS + PLAIN
BY_SHA = {hashlib.sha1(body).hexdigest().encode(): body for body in BODIES}


def called(words):
    """The command that a script command runs, if it runs the one in its arguments; else None."""
    if not words[0].lower().startswith(b"eval") or len(words) < 3:
        return None
    body = BY_SHA.get(words[1].lower(), words[1])
    if body not in CALLS or not words[2].isdigit():
        return None
    inner = words[3 + int(words[2]) :]
    return inner or None


class Scripts:
    """What stands for scripts in the grammar."""

    @staticmethod
    def arguments(maker, body):
        keys = [b"s%d" % number for number in range(maker.random.randint(0, 2))]
        given = maker.quiet() if body in CALLS else [b"arg"] * maker.random.randint(0, 2)
        return [b"%d" % len(keys), *keys, *given]

    @staticmethod
    def body(maker):
        return [maker.random.choice(CALLS if maker.random.random() < 0.5 else PLAIN)]

    def script(self, maker):
        (body,) = self.body(maker)
        return [body, *self.arguments(maker, body)]

    def sha(self, maker):
        (body,) = self.body(maker)
        sha = hashlib.sha1(body).hexdigest().encode()
        sha = sha.upper() if maker.random.random() < 0.2 else sha
        return [sha, *self.arguments(maker, body)]

    @staticmethod
    def known(maker):
        return [maker.random.choice([*BY_SHA, b"0" * 40, b"short"])]

-- What scripts see of Lua, made once for each interpreter and never changed by a script.
--
-- Lua 5.1 has no read-only tables, so a script gets an empty table in the place of each library: what it reads comes
-- from the true one behind (`__index`), what it writes is refused (`__newindex`), and those of Lua's own functions that
-- go around both are replaced here. Whatever catches errors is replaced as well: a script that must end cannot catch
-- its end. An error that Lua words itself inside this file begins with `sandbox:`; `placed` puts the script's own line
-- there.

local native = ...

local error, select, tostring, type = error, select, tostring, type
local next, pairs, rawget, rawset = next, pairs, rawget, rawset
local getmetatable, setmetatable = getmetatable, setmetatable
local pcall, xpcall, loadstring, unpack = pcall, xpcall, loadstring, unpack
local concat, insert, remove = table.concat, table.insert, table.remove
local find, gmatch, gsub, match = string.find, string.gmatch, string.gsub, string.match
local rep, sub = string.rep, string.sub
local create, resume = coroutine.create, coroutine.resume

local READONLY = "Attempt to modify a readonly table"

-- Tables that are read-only, and what stands behind each.
local behind = {}

local function refuse()
  error(READONLY, 2)
end

local function sealed(target)
  local face = {}
  behind[face] = target
  return setmetatable(face, { __index = target, __newindex = refuse })
end

local function copied(source)
  local copy = {}
  for key, value in next, source do
    copy[key] = value
  end
  return copy
end

local function only(source, names)
  local copy = {}
  for name in names:gmatch("%S+") do
    copy[name] = source[name]
  end
  return copy
end

local function placed(text, line)
  return (gsub(text, "^sandbox:%d+: ", line and "user_script:" .. line .. ": " or ""))
end

local base = only(_G, "_VERSION assert error gcinfo ipairs next rawequal select tonumber tostring type")

-- Tables.

function base.pairs(t)
  if type(t) ~= "table" then
    error("bad argument #1 to 'pairs' (table expected, got " .. (t == nil and "nil" or type(t)) .. ")", 2)
  end
  local target = behind[t]
  return next, target and copied(target) or t, nil
end

function base.rawget(t, key)
  return rawget(behind[t] or t, key)
end

function base.rawset(t, key, value)
  if behind[t] then
    error(READONLY, 2)
  end
  return rawset(t, key, value)
end

function base.setmetatable(t, meta)
  if behind[t] then
    error(READONLY, 2)
  end
  return setmetatable(t, meta)
end

function base.unpack(t, first, last)
  if last == nil and first == nil then
    -- The arguments of a function in C and what it returns have one bound, so there is no argument too many here.
    return unpack(t)
  elseif (tonumber(last) or 0) - (tonumber(first) or 1) >= 8000 then
    error("too many results to unpack", 2)
  end
  return unpack(t, first, last)
end

-- More elements than memory has room for: a border that Lua found far out in a table with holes, over which a loop in C
-- would take minutes.
local MOST = 8000000

local function walked(t)
  if behind[t] then
    error(READONLY, 3)
  elseif type(t) == "table" and #t > MOST then
    error("table is too large", 3)
  end
  return t
end

local tables = copied(table)

function tables.insert(t, value, ...)
  if select("#", ...) == 0 then
    if behind[t] then
      error(READONLY, 2)
    end
    insert(t, value)
    return
  end
  walked(t)
  if type(value) == "number" and value < -MOST then
    error("bad argument #2 to 'insert' (position out of bounds)", 2)
  end
  insert(t, value, ...)
end

function tables.remove(t, ...)
  return remove(walked(t), ...)
end

function tables.sort(t, before)
  walked(t)
  if before == nil and type(t) == "table" and #t > 1000 then
    -- Quicksort in C is quadratic at worst and counts as one step; with a function in Lua it counts as many.
    before = function(a, b)
      return a < b
    end
  end
  table.sort(t, before)
end

for _, name in next, { "foreach", "foreachi", "setn" } do
  local f = table[name]
  tables[name] = function(t, ...)
    return f(walked(t), ...)
  end
end

local strings = copied(string)

function strings.rep(text, count)
  return text == "" and "" or rep(text, count)
end

-- Patterns. Lua's own matcher is one step, whatever it takes; `native.find` counts. How long a text may be for the former
-- depends on the pattern: each of its repetitions may try each place of the text.

local STEPS = 1e6
local reaches, known = {}, 0

local function reach(pattern)
  if type(pattern) ~= "string" then
    return 0
  end
  if known > 200 then
    reaches, known = {}, 0
  end
  local _, repetitions = gsub(pattern, "[*+?-]", "")
  local _, others = gsub(pattern, "%%[b%d]", "")
  reaches[pattern] = #pattern > 500 and 0 or STEPS ^ (1 / (repetitions + others + 1)) / (#pattern + 1) ^ 0.5
  known = known + 1
  return reaches[pattern]
end

local function is_short(text, pattern)
  return type(text) ~= "string" or #text <= (reaches[pattern] or reach(pattern)) or type(pattern) ~= "string"
end

local function start(text, init)
  init = tonumber(init) or 1
  return init < 0 and math.max(#text + init + 1, 1) or math.max(init, 1)
end

function strings.find(text, pattern, init, is_plain)
  if is_short(text, pattern) then
    return find(text, pattern, init, is_plain)
  elseif is_plain or not find(pattern, "^[^%z]*[%^$*+?.([%%-]") then
    local first = native.find_plain(text, pattern, start(text, init))
    return first, first and first + #pattern - 1
  end
  return native.find(text, pattern, start(text, init), true)
end

local function picked(text, first, last, ...)
  if first and select("#", ...) == 0 then
    return sub(text, first, last)
  elseif first then
    return ...
  end
end

function strings.match(text, pattern, init)
  if is_short(text, pattern) then
    return match(text, pattern, init)
  end
  return picked(text, native.find(text, pattern, start(text, init), true))
end

function strings.gmatch(text, pattern)
  if is_short(text, pattern) then
    return gmatch(text, pattern)
  end
  local at = 1
  local function step(first, last, ...)
    if first then
      at = last < first and first + 1 or last + 1
      return picked(text, first, last, ...)
    end
  end
  return function()
    if at <= #text + 1 then
      return step(native.find(text, pattern, at, false))
    end
  end
end

strings.gfind = strings.gmatch

local function replacement(by, whole, ...)
  local value
  if type(by) == "function" then
    value = by(...)
  elseif type(by) == "table" then
    value = by[(...)]
  else
    local caught = { [0] = whole, ... }
    value = gsub(tostring(by), "%%(.)", function(which)
      return tonumber(which) and (caught[tonumber(which)] or error("invalid capture index", 0)) or which
    end)
  end
  if value and type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return value or whole
end

function strings.gsub(text, pattern, by, most)
  if is_short(text, pattern) or not find(type(by), "^[sntf]") then
    return gsub(text, pattern, by, most)
  end
  local parts, at, count = {}, 1, 0
  most = tonumber(most) or #text + 1
  local is_anchored = sub(pattern, 1, 1) == "^"
  local function step(first, last, ...)
    if not first then
      return false
    end
    count = count + 1
    local whole = sub(text, first, last)
    parts[#parts + 1] = sub(text, at, first - 1)
    if select("#", ...) == 0 then
      parts[#parts + 1] = replacement(by, whole, whole)
    else
      parts[#parts + 1] = replacement(by, whole, ...)
    end
    at = last + 1
    if last < first then
      parts[#parts + 1] = sub(text, first, first)
      at = first + 1
    end
    return not is_anchored and at <= #text + 1
  end
  while count < most and step(native.find(text, pattern, at, true)) do
  end
  parts[#parts + 1] = sub(text, at)
  return concat(parts), count
end

-- Errors. What Rust raises is a value of its own until somebody looks at it. `native.is_over` says that the script must
-- end: whoever caught that raises it again.

local function plain(problem)
  if type(problem) == "string" then
    return placed(problem)
  elseif type(problem) == "userdata" then
    return native.unwrapped(problem)
  end
  return problem
end

local function caught(is_fine, ...)
  if is_fine then
    return true, ...
  elseif native.is_over() then
    error(native.is_over, 0)
  end
  return false, plain((...))
end

local function worded(is_fine, ...)
  if not is_fine then
    local problem = ...
    local text = type(problem) == "table" and problem.err
    if type(text) == "string" or type(text) == "number" then
      return false, text
    end
  end
  return is_fine, ...
end

function base.pcall(...)
  return worded(caught(pcall(...)))
end

function base.xpcall(f, handler)
  return caught(xpcall(f, function(problem)
    return handler(plain(problem))
  end))
end

-- Each coroutine takes some of the one stack of C, which Lua 5.1 does not count.
local depth = 0

local function risen(...)
  depth = depth - 1
  return caught(...)
end

local coroutines = copied(coroutine)

function coroutines.resume(co, ...)
  if depth >= 100 then
    return false, "C stack overflow"
  elseif type(co) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected)", 2)
  end
  depth = depth + 1
  return risen(resume(co, ...))
end

function coroutines.wrap(f)
  local co = create(f)
  local function passed(is_fine, ...)
    if not is_fine then
      -- As the tail call below counts: who called the generator is the third level.
      error((...), type((...)) == "string" and 3 or 0)
    end
    return ...
  end
  return function(...)
    return passed(coroutines.resume(co, ...))
  end
end

-- Code from text. Bytecode can break the interpreter, so there is none; and a name is kept for as long as the parser,
-- which does not keep it itself, looks at it.

function base.loadstring(text, name)
  if type(text) ~= "string" then
    error("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ")", 2)
  elseif sub(text, 1, 1) == "\27" then
    return nil, "cannot load incompatible bytecode"
  end
  local kept = gsub(tostring(name or text), "%z.*", "")
  return loadstring(text, kept)
end

function base.load(f, name)
  local parts = {}
  local is_fine, problem = base.pcall(function()
    repeat
      local part = f()
      parts[#parts + 1] = part
    until part == nil or part == ""
  end)
  if not is_fine then
    return nil, problem
  end
  return base.loadstring(concat(parts), name or "=(load)")
end

-- What a script asks of the collector must not outlast it.
function base.collectgarbage(what, argument)
  if what == nil or what == "collect" or what == "count" or what == "step" then
    return collectgarbage(what, argument)
  end
  return 0
end

-- The functions in `redis`.

local function fail(text)
  error({ err = "ERR " .. text }, 0)
end

local redis = only(native, "call pcall setresp sha1hex acl_check_cmd")

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  local code, rest = match(text, "^%-?([^ ]*) (.*)$")
  if not code then
    code, rest = "ERR", gsub(text, "^%-", "")
  end
  return { err = code .. " " .. match(rest, "^[\r\n]*(.-)[\r\n]*$") }
end

function redis.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = text }
end

function redis.log(level, ...)
  if select("#", ...) == 0 then
    fail("redis.log() requires two arguments or more.")
  elseif not tonumber(level) then
    fail("First argument must be a number (log level).")
  elseif tonumber(level) < 0 or tonumber(level) > 3 then
    fail("Invalid debug level.")
  end
  local words = {}
  for at = 1, select("#", ...) do
    local word = select(at, ...)
    if type(word) == "string" or type(word) == "number" then
      words[#words + 1] = word
    end
  end
  native.log(tonumber(level), concat(words, " "))
end

redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING = 0, 1, 2, 3
redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL = 0, 1, 2, 2, 3
redis.REDIS_VERSION, redis.REDIS_VERSION_NUM = native.version, native.version_number

function redis.set_repl(...)
  local flags = tonumber((...))
  if select("#", ...) ~= 1 then
    fail("redis.set_repl() requires two arguments.")
  elseif flags ~= 0 and flags ~= 1 and flags ~= 2 and flags ~= 3 then
    fail("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

function redis.replicate_commands()
  return true
end

function redis.breakpoint()
  return false
end

function redis.debug() end

-- All together.

local maths = copied(math)
for name, f in next, native.math do
  maths[name] = f
end

base.redis = sealed(redis)
base.string = sealed(strings)
base.table = sealed(tables)
base.math = sealed(maths)
base.coroutine = sealed(coroutines)
for name, functions in next, native.libraries do
  base[name] = sealed(functions)
end

local text_meta = getmetatable("")
text_meta.__index = strings
local text_meta_face = sealed({ __index = base.string })

local globals = sealed(base)
base._G = globals
setmetatable(base, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
})
local globals_meta_face = sealed({ __newindex = refuse })

function base.getmetatable(value)
  if value == globals then
    return globals_meta_face
  elseif type(value) == "string" then
    return text_meta_face
  elseif type(value) == "userdata" or behind[value] then
    return nil
  end
  return getmetatable(value)
end

setfenv(0, globals)

-- Says what went wrong and where, as the last thing before a failed script is left.
local function explained(problem)
  local source, line = native.position()
  if type(problem) == "userdata" then
    problem = native.unwrapped(problem)
  end
  if type(problem) ~= "table" then
    problem = { err = "ERR " .. placed(tostring(problem), line) }
  end
  if line then
    problem.source, problem.line = source, line
  end
  return problem
end

local function run(script, keys, argv)
  depth = 0
  base.KEYS, base.ARGV = keys, argv
  return xpcall(script, explained)
end

local function clear()
  base.KEYS, base.ARGV = nil, nil
end

return run, clear

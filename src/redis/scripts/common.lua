-- What all scripts have in common. KEYS: the sorted set of the pods' load, the sorted set of clients by their last heartbeat.
-- ARGV[1]: the client, `node:start:generation`. Beside these keys, and in their slot:
--   log:POD     hash, request `client:number` -> `cost|unix ms`: what the pod's score is the sum of
--   own:CLIENT  hash, number -> pod: the same by client, so that one that died is found without a search
--   pods        sorted set, pod -> when a client named it last

local load, clients = KEYS[1], KEYS[2]
local prefix = string.sub(load, 1, -5)
local client = ARGV[1]

-- Redis's own clock, in ms: clients' clocks are never compared.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_known()
  return redis.call('ZSCORE', clients, client) ~= false
end

local function charge(number, pod, cost, now)
  local entry = string.format('%s|%.0f', cost, now)
  if redis.call('HSETNX', prefix .. 'log:' .. pod, client .. ':' .. number, entry) == 1 then
    redis.call('HSET', prefix .. 'own:' .. client, number, pod)
    redis.call('ZINCRBY', load, cost, pod)
  end
end

-- Once, whoever asks how often; and no score goes below zero, whatever was done to it.
local function release(client, number)
  local own = prefix .. 'own:' .. client
  local pod = redis.call('HGET', own, number)
  if not pod then
    return
  end
  local log, id = prefix .. 'log:' .. pod, client .. ':' .. number
  local entry = redis.call('HGET', log, id)
  redis.call('HDEL', own, number)
  if not entry then
    return
  end
  redis.call('HDEL', log, id)
  local cost = string.match(entry, '^[^|]*')
  if tonumber(redis.call('ZINCRBY', load, -tonumber(cost), pod)) < 0 then
    redis.call('ZADD', load, 0, pod)
  end
end

-- Gives back all that a client has charged, and forgets it: what it still has under way changes nothing any more.
local function retire(client)
  local own = prefix .. 'own:' .. client
  for _, number in ipairs(redis.call('HKEYS', own)) do
    release(client, number)
  end
  redis.call('DEL', own)
  redis.call('ZREM', clients, client)
end


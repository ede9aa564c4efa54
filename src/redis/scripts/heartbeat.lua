-- A client lives, and knows some pods. ARGV: client, after how many ms of silence a client is dead, after how many a pod is gone,
-- pods. Retires the dead, and forgets pods that nobody names and that have nothing in flight. Answers how many were retired;
-- -1 where it does not know the client.

if not is_known() then
  return -1
end
local now = clock()
redis.call('ZADD', clients, now, client)
for k = 4, #ARGV do
  redis.call('ZADD', prefix .. 'pods', now, ARGV[k])
  redis.call('ZADD', load, 'NX', 0, ARGV[k])
end
-- A few at a time: a script holds up everybody.
local dead = redis.call('ZRANGEBYSCORE', clients, '-inf', string.format('(%.0f', now - ARGV[2]), 'LIMIT', 0, 8)
for _, silent in ipairs(dead) do
  retire(silent)
end
local gone = redis.call('ZRANGEBYSCORE', prefix .. 'pods', '-inf', string.format('(%.0f', now - ARGV[3]), 'LIMIT', 0, 8)
for _, pod in ipairs(gone) do
  if redis.call('EXISTS', prefix .. 'log:' .. pod) == 0 then
    redis.call('ZREM', prefix .. 'pods', pod)
    redis.call('ZREM', load, pod)
  end
end
return #dead

-- A client tells all that it has in flight, under a name that is new; those that it had before are retired. ARGV: client, how many
-- names it had, the names, then number, pod, cost of each request.

local now, had = clock(), tonumber(ARGV[2])
for k = 3, 2 + had do
  retire(ARGV[k])
end
redis.call('ZADD', clients, now, client)
for k = 3 + had, #ARGV, 3 do
  charge(ARGV[k], ARGV[k + 1], ARGV[k + 2], now)
end
return 1

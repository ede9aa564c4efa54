-- Makes scores what the log says: their sum, over the requests of clients that are known. ARGV: client, pods. Answers how many
-- scores were wrong.

local wrong = 0
for k = 2, #ARGV do
  local pod, sum, known = ARGV[k], 0, {}
  local log = prefix .. 'log:' .. pod
  local entries = redis.call('HGETALL', log)
  for e = 1, #entries, 2 do
    local owner = string.match(entries[e], '^(.*):')
    if known[owner] == nil then
      known[owner] = redis.call('ZSCORE', clients, owner) ~= false
    end
    local cost = tonumber(string.match(entries[e + 1], '^[^|]*'))
    if known[owner] and cost then
      sum = sum + cost
    else
      redis.call('HDEL', log, entries[e])
    end
  end
  local score = redis.call('ZSCORE', load, pod)
  if score and tonumber(score) ~= sum or not score and sum > 0 then
    redis.call('ZADD', load, sum, pod)
    wrong = wrong + 1
  end
end
return wrong

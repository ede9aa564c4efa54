-- One turn of a bridge: takes or keeps the lease, puts this fleet's load into the callers' sorted set, and tells what is theirs.
-- KEYS: their sorted set, the lease, what this fleet's bridges have put there (hash: pod -> points).
-- ARGV: token, lease in ms, whether what was put stays as it is (1 or 0), then pod and points in turn.
-- Returns who holds the lease where it is not this bridge; else the members and what of their scores is not this fleet's.
local theirs, lease, put = KEYS[1], KEYS[2], KEYS[3]
local holder = redis.call('GET', lease)
if holder and holder ~= ARGV[1] then return {holder} end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
local has_put, wanted = {}, {}
local flat = redis.call('HGETALL', put)
for i = 1, #flat, 2 do has_put[flat[i]] = tonumber(flat[i + 1]) or 0 end
for i = 4, #ARGV, 2 do wanted[ARGV[i]] = tonumber(ARGV[i + 1]) or 0 end
local members = redis.call('ZRANGE', theirs, 0, -1, 'WITHSCORES')
local answer, is_member = {''}, {}
for i = 1, #members, 2 do
    local pod, score = members[i], tonumber(members[i + 1])
    is_member[pod] = true
    -- Less than was put: a reconciler of theirs has set it anew, and what was put is gone.
    local old = has_put[pod] or 0
    if score < old then old = 0 end
    local new = old
    if ARGV[3] == '0' then new = wanted[pod] or 0 end
    if new ~= old then redis.call('ZINCRBY', theirs, string.format('%.17g', new - old), pod) end
    if new == 0 then
        if has_put[pod] then redis.call('HDEL', put, pod) end
    elseif new ~= has_put[pod] then
        redis.call('HSET', put, pod, string.format('%.17g', new))
    end
    answer[#answer + 1] = pod
    answer[#answer + 1] = string.format('%.17g', math.max(score - old, 0))
end
-- What was put at a pod that they took out went with it.
for pod in pairs(has_put) do
    if not is_member[pod] then redis.call('HDEL', put, pod) end
end
return answer

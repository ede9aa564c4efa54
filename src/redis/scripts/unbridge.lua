-- A bridge goes: what this fleet had put into the callers' sorted set is taken out, where it holds the lease.
-- KEYS and ARGV[1] as in bridge.lua.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local flat = redis.call('HGETALL', KEYS[3])
for i = 1, #flat, 2 do
    local score, put = tonumber(redis.call('ZSCORE', KEYS[1], flat[i]) or '0'), tonumber(flat[i + 1]) or 0
    if score >= put then redis.call('ZINCRBY', KEYS[1], string.format('%.17g', -put), flat[i]) end
end
redis.call('DEL', KEYS[2], KEYS[3])
return 1

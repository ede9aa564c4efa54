-- What changed without a pick. ARGV: client, then for each change `+`, number, pod, cost of a request that somebody else picked
-- for, or `-`, number of one that ended. Answers 0 where it does not know the client, and then nothing changes.

if not is_known() then
  return 0
end
local now, k = clock(), 2
while k <= #ARGV do
  if ARGV[k] == '+' then
    charge(ARGV[k + 1], ARGV[k + 2], ARGV[k + 3], now)
    k = k + 4
  else
    release(client, ARGV[k + 1])
    k = k + 2
  end
end
return 1

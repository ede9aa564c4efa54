-- Picks, charges and logs in one step. ARGV: client, number of the request, its cost, whose turn it is, how many candidates there
-- are, the candidates, and what each of them can do at once where that is not the same for all.
-- Answers the position of the candidate, from 1; 0 where it does not know the client, and then nothing is charged.

if not is_known() then
  return 0
end
local number, cost, turn, count = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local can = #ARGV > 5 + count
local least, ties
for first = 1, count, 1000 do
  local last = math.min(first + 999, count)
  local scores = redis.call('ZMSCORE', load, unpack(ARGV, 5 + first, 5 + last))
  for k = first, last do
    -- A pod that nobody named yet has nothing to do.
    local score = tonumber(scores[k - first + 1] or 0)
    if can then
      score = score / tonumber(ARGV[5 + count + k])
    end
    if not least or score < least then
      least, ties = score, { k }
    elseif score == least then
      ties[#ties + 1] = k
    end
  end
end
if not least then
  return 0
end
-- Taken in turn: the first of equals would get all that comes while nothing is in flight.
local chosen = ties[turn % #ties + 1]
charge(number, ARGV[5 + chosen], cost, clock())
return chosen

-- Begin to lead a beat, older leaders being refused from now on; or look on.
-- KEYS: leader (string: "place fence"), records (hash: entry -> record, see slot_claim.lua)
-- ARGV: place that the fence is from, fence ("" = only look on)
-- Returns {"done" or "fenced", 1 if somebody has led before else 0, seconds, microseconds of the clock, records}
local clock = redis.call('TIME')
local held = redis.call('GET', KEYS[1])
if ARGV[2] ~= '' then
  if held then
    local place, fence = string.match(held, '^(%S+) (%d+)$')
    if place == ARGV[1] and tonumber(fence) > tonumber(ARGV[2]) then
      return {'fenced', 1, clock[1], clock[2], {}}
    end
  end
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
end
return {'done', held and 1 or 0, clock[1], clock[2], redis.call('HGETALL', KEYS[2])}

-- Write records of entries that are new or changed, and forget entries.
-- KEYS: leader (string: "place fence"), records (hash: entry -> record, see slot_claim.lua),
--       started (hash: entry -> "slot sending")
-- ARGV: place that the fence is from, fence, how many entries to forget, their names, then an entry and its record each
-- Returns "done", "fenced" or "gone"
local held = redis.call('GET', KEYS[1])
if not held then return 'gone' end
local place, highest = string.match(held, '^(%S+) (%d+)$')
if place ~= ARGV[1] or tonumber(highest) > tonumber(ARGV[2]) then return 'fenced' end
local first = 4 + ARGV[3]
for i = 4, first - 1 do
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('HDEL', KEYS[3], ARGV[i])
end
for i = first, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 'done'

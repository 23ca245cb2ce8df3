-- Let the messages of a pending slot compete from now on, unless a worker has started it already.
-- KEYS: leader (string: "place fence"), started (hash: entry -> "slot sending"),
--       first (string: the sending that was started first, "" = none yet)
-- ARGV: place that the fence is from, fence, entry, slot, milliseconds that the competition lasts
-- Returns "done", "started", "fenced" or "gone"
local held = redis.call('GET', KEYS[1])
if not held then return 'gone' end
local place, highest = string.match(held, '^(%S+) (%d+)$')
if place ~= ARGV[1] or tonumber(highest) > tonumber(ARGV[2]) then return 'fenced' end
local started = redis.call('HGET', KEYS[2], ARGV[3])
if started and string.match(started, '^%d+') == ARGV[4] then return 'started' end
if (redis.call('GET', KEYS[3]) or '') ~= '' then return 'started' end
redis.call('SET', KEYS[3], '', 'PX', ARGV[5])
return 'done'

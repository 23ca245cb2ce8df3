-- Note which messages went out, and claim a slot if it is later than all that are settled.
-- KEYS: leader (string: "place fence"),
--       records (hash: entry -> "done slot count sent fence claimed_at sending rule gone"; moments are microseconds)
-- ARGV: place that the fence is from, fence, entry ("" = claim nothing), slot, random id of this sending, rule,
--       then an entry and its slot for each message that went out
-- Returns {"done", "taken", "fenced" or "gone", seconds, microseconds of the clock}
local RECORD = '^(%d+) (%d+) (%d+) (%d) (%d+) (%d+) (%S+) (%S+) (%d+)$'
local clock = redis.call('TIME')
for i = 7, #ARGV, 2 do
  local record = redis.call('HGET', KEYS[2], ARGV[i])
  if record then
    local done, slot, count, sent, fence, at, sending, rule, gone = string.match(record, RECORD)
    if slot == ARGV[i + 1] and sent == '0' then
      redis.call('HSET', KEYS[2], ARGV[i], table.concat({done, slot, count, '1', fence, at, sending, rule, gone}, ' '))
    end
  end
end
if ARGV[3] == '' then return {'done', clock[1], clock[2]} end

local held = redis.call('GET', KEYS[1])
if not held then return {'gone', clock[1], clock[2]} end
local place, highest = string.match(held, '^(%S+) (%d+)$')
if place ~= ARGV[1] or tonumber(highest) > tonumber(ARGV[2]) then return {'fenced', clock[1], clock[2]} end

local record = redis.call('HGET', KEYS[2], ARGV[3])
local count = 0
if record then
  local done, slot, n, _, _, _, sending = string.match(record, RECORD)
  if slot == ARGV[4] and sending == ARGV[5] then return {'done', clock[1], clock[2]} end
  if tonumber(done) >= tonumber(ARGV[4]) then return {'taken', clock[1], clock[2]} end
  count = n
end
local at = string.format('%.0f', clock[1] * 1000000 + clock[2])
count = string.format('%.0f', count + 1)
redis.call('HSET', KEYS[2], ARGV[3],
  table.concat({ARGV[4], ARGV[4], count, '0', ARGV[2], at, ARGV[5], ARGV[6], '0'}, ' '))
return {'done', clock[1], clock[2]}

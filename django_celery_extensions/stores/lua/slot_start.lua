-- Note that a worker starts a slot, unless another message of the same slot was started before.
-- KEYS: started (hash: entry -> "slot sending"), first (string: the sending that was started first, "" = none yet)
-- ARGV: entry, slot, random id of the sending, milliseconds that the competition lasts
-- Returns 1 if it may be started, else 0
local started = redis.call('HGET', KEYS[1], ARGV[1])
local slot, sending
if started then slot, sending = string.match(started, '^(%d+) (.*)$') end
local first = redis.call('GET', KEYS[2])
if not first or first == '' then
  -- The slot was sent once, as far as is known; where two were sent and that is forgotten, the last start tells.
  if slot == ARGV[2] and sending ~= ARGV[3] then return 0 end
  if first then redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) end
elseif first ~= ARGV[3] then
  return 0
end
if not slot or tonumber(slot) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
end
return 1

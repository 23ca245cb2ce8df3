-- Tell who holds a name.
-- KEYS: holders, about (see lease_take.lua)
-- ARGV: none
-- Returns for each holder whose lease has not ended: owner token, ms until it ends, "fence since owner"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found = {}
local held = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES')
for i = 1, #held, 2 do
  found[#found + 1] = {held[i], string.format('%.0f', held[i + 1] - now), redis.call('HGET', KEYS[2], held[i])}
end
return found

-- Tell who holds a name.
-- KEYS: about (see lease_take.lua)
-- ARGV: none
-- Returns for each holder whose lease has not ended: owner token, ms until it ends, "fence sec usec owner"
local about = redis.call('HMGET', KEYS[1], 'token', 'ends', 'fence', 'sec', 'usec', 'owner')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found = {}
if about[1] and tonumber(about[2]) > now then
  found[1] = {about[1], about[2] - now, table.concat({about[3], about[4], about[5], about[6]}, ' ')}
end
local held = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':holders', '(' .. now, '+inf', 'WITHSCORES')
for i = 1, #held, 2 do
  found[#found + 1] = {held[i], held[i + 1] - now, redis.call('HGET', KEYS[1], held[i])}
end
return found

-- Let a lease last from now on, if it has not ended.
-- KEYS: holders (zset: owner token -> ms at which its lease ends), about (see lease_take.lua)
-- ARGV: owner token, ms the lease lasts
-- Returns 1 if it had not ended, else 0
local KEPT = 3600000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not ends or tonumber(ends) <= now then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2] + 1, ARGV[1]) -- see lease_take.lua
for i = 1, 2 do
  if redis.call('PTTL', KEYS[i]) < ARGV[2] + KEPT then redis.call('PEXPIRE', KEYS[i], ARGV[2] + KEPT) end
end
return 1

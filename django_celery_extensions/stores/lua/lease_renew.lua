-- Let a lease last from now on, if it has not ended.
-- KEYS: about (see lease_take.lua)
-- ARGV: owner token, ms the lease lasts
-- Returns 1 if it had not ended, else 0
local KEPT = 3600000
local key, token, lasts = KEYS[1], ARGV[1], ARGV[2]
local about = redis.call('HMGET', key, 'token', 'ends', 'kept')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if about[1] == token then
  if tonumber(about[2]) <= now then return 0 end
  redis.call('HSET', key, 'ends', now + lasts + 1) -- see lease_take.lua
else
  local holders = key .. ':holders'
  local ends = redis.call('ZSCORE', holders, token)
  if not ends or tonumber(ends) <= now then return 0 end
  redis.call('ZADD', holders, now + lasts + 1, token)
  if redis.call('PTTL', holders) < lasts + KEPT / 2 then redis.call('PEXPIRE', holders, lasts + KEPT) end
end
if (tonumber(about[3]) or 0) < now + lasts + KEPT / 2 then
  redis.call('HSET', key, 'kept', now + lasts + KEPT)
  redis.call('PEXPIREAT', key, now + lasts + KEPT)
end
return 1

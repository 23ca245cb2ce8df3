-- Be neither holder nor queued any more, and wake who is next.
-- KEYS: holders, about, queue, alive (see lease_take.lua), start of the keys on which those who wait listen (+ token)
-- ARGV: owner token, ms a wake-up is kept, was queued ("1"/"")
-- Returns 1 if the token was a holder's, else 0
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  redis.call('DEL', KEYS[5] .. ARGV[1])
end
if redis.call('ZCARD', KEYS[3]) > 0 then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
    redis.call('ZREM', KEYS[4], gone)
    redis.call('ZREM', KEYS[3], gone)
  end
  local free = tonumber(redis.call('HGET', KEYS[2], 'most') or 1) - redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
  if free > 0 then
    for _, token in ipairs(redis.call('ZRANGE', KEYS[3], 0, free - 1)) do
      local bell = KEYS[5] .. token
      if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
      redis.call('PEXPIRE', bell, ARGV[2])
    end
  end
end
return (ends and tonumber(ends) > now) and 1 or 0

-- Be neither holder nor queued any more, and wake who is next.
-- KEYS: about (see lease_take.lua; one more begins with its name: ":bell:<token>" = list on which who waits listens)
-- ARGV: owner token, "1" if it may be queued (else none)
-- Returns 1 if the token was a holder's, else 0
local BELL = 10000 -- ms that a wake-up waits for somebody who is not listening right now
local key, token = KEYS[1], ARGV[1]
local about = redis.call('HMGET', key, 'token', 'most', 'ends')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ends
if about[1] == token then
  redis.call('HDEL', key, 'token')
  about[1], ends = false, about[3]
else
  ends = redis.call('ZSCORE', key .. ':holders', token)
  redis.call('ZREM', key .. ':holders', token)
  redis.call('HDEL', key, token)
end
if ARGV[2] then
  redis.call('ZREM', key .. ':queue', token)
  redis.call('ZREM', key .. ':alive', token)
  redis.call('DEL', key .. ':bell:' .. token)
end
if about[2] and redis.call('EXISTS', key .. ':queue') == 1 then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', key .. ':alive', '-inf', now)) do
    redis.call('ZREM', key .. ':alive', gone)
    redis.call('ZREM', key .. ':queue', gone)
  end
  local free = about[2] - redis.call('ZCOUNT', key .. ':holders', '(' .. now, '+inf')
  if about[1] and tonumber(about[3]) > now then free = free - 1 end
  if free > 0 then
    for _, next in ipairs(redis.call('ZRANGE', key .. ':queue', 0, free - 1)) do
      local bell = key .. ':bell:' .. next
      if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
      redis.call('PEXPIRE', bell, BELL)
    end
  end
end
return (ends and tonumber(ends) > now) and 1 or 0

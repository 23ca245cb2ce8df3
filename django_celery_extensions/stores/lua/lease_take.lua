-- Hold a name, or not.
-- KEYS: holders (zset: owner token -> ms at which its lease ends),
--       about (hash: fence = last one given, most = holders at once, turn = last place given in the queue,
--              token of a holder -> "fence since owner"),
--       queue (zset: token of who waits -> its turn), alive (zset: token of who waits -> ms until which it is believed in)
-- ARGV: owner token, ms the lease lasts, how many may hold, owner, ms a place in the queue is kept ("" = does not wait)
-- Returns {"free", fence}, {"held", ms after which asking again is worth it} or {"most", how many may hold}
local KEPT = 3600000 -- ms that a name is remembered after its last lease: its fences grow even where the clock went back
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local token, lasts, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ends = now + lasts + 1 -- the clock was cut down to a millisecond: no lease is shorter than it says

local function keep(key, ms)
  -- Not at every call: that it is remembered for an hour need not be true to the millisecond.
  if redis.call('PTTL', key) < ms - KEPT / 2 then redis.call('PEXPIRE', key, ms) end
end

local function give(last)
  local since = clock[1] * 1000000 + clock[2]
  local fence = string.format('%.0f', math.max((tonumber(last) or 0) + 1, since))
  redis.call('ZADD', KEYS[1], ends, token)
  redis.call('HSET', KEYS[2], 'fence', fence, 'most', most,
    token, fence .. ' ' .. string.format('%.0f', since) .. ' ' .. ARGV[4])
  keep(KEYS[1], lasts + KEPT)
  keep(KEYS[2], lasts + KEPT)
  return {'free', fence}
end

-- Nobody holds it and nobody waits: most locks, most of the time.
if redis.call('EXISTS', KEYS[1], KEYS[3]) == 0 then return give(redis.call('HGET', KEYS[2], 'fence')) end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
  redis.call('ZREM', KEYS[4], gone)
  redis.call('ZREM', KEYS[3], gone)
end

local about = redis.call('HMGET', KEYS[2], 'fence', 'most', token)
if redis.call('ZSCORE', KEYS[1], token) then
  redis.call('ZADD', KEYS[1], ends, token)
  keep(KEYS[1], lasts + KEPT)
  keep(KEYS[2], lasts + KEPT)
  return {'free', string.match(about[3], '^%d+')}
end

local held, waiting = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[3])
local place = redis.call('ZRANK', KEYS[3], token)
local others = held + waiting - (place and 1 or 0)
if others > 0 and tonumber(about[2]) ~= most then return {'most', about[2]} end

if held + (place or waiting) < most then
  redis.call('ZREM', KEYS[3], token)
  redis.call('ZREM', KEYS[4], token)
  return give(about[1])
end

if ARGV[5] ~= '' then
  if not place then
    redis.call('HSET', KEYS[2], 'most', most)
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[2], 'turn', 1), token)
  end
  redis.call('ZADD', KEYS[4], now + ARGV[5], token)
  keep(KEYS[2], KEPT)
  keep(KEYS[3], KEPT)
  keep(KEYS[4], KEPT)
end
local next_end = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {'held', next_end and string.format('%.0f', math.max(1, next_end - now + 1)) or ''}

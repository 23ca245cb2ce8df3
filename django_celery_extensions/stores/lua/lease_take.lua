-- Hold a name, or not.
-- KEYS: about (hash: fence = last one given;
--         token, ends, sec, usec, owner = the one holder: its owner token, the ms at which its lease ends, when it began;
--         most = how many may hold at once, where that is more than one or where somebody waits; without it at most
--           one holds and nobody waits;
--         turn = last place given in the queue; kept = ms until which the hash is kept;
--         owner token of one of several holders -> "fence sec usec owner")
--       Its name begins those of the others, which only those need who wait or are several: ":holders" (zset: owner
--       token of one of several -> ms at which its lease ends), ":queue" (zset: token of who waits -> its turn),
--       ":alive" (zset: token of who waits -> ms until which it is believed in).
-- ARGV: owner token, ms the lease lasts, owner, ms a place in the queue is kept ("" or none: does not wait),
--       how many may hold (none: one)
-- Returns the fence; or 0 or less: others hold it, and asking again is worth it after so many ms (0: not known); or
-- {how many may hold}, where others hold it, or wait, with another number
local KEPT = 3600000 -- ms that a name is remembered after its last lease: its fences grow even where the clock went back
local key, token, lasts, most = KEYS[1], ARGV[1], ARGV[2], ARGV[5]
local about = redis.call('HMGET', key, 'fence', 'kept', 'token', 'most', 'ends')
local clock = redis.call('TIME')
local micros = clock[1] * 1000000 + clock[2]
local now = math.floor(micros / 1000)
local ends = now + lasts + 1 -- the clock was cut down to a millisecond: no lease is shorter than it says
-- Not at every call: that it is remembered for an hour need not be true to the millisecond.
local kept = (tonumber(about[2]) or 0) < now + lasts + KEPT / 2 and now + lasts + KEPT
if kept then
  redis.call('HSET', key, 'kept', kept)
  redis.call('PEXPIREAT', key, kept)
end

-- Not so for most locks, most of the time: nobody holds it and nobody waits.
if about[3] or about[4] or most then
  most = tonumber(most or 1)
  local before = tonumber(about[4] or (about[3] and 1 or most))
  local holders, queue, alive = key .. ':holders', key .. ':queue', key .. ':alive'
  local held, waiting, place, next_end = 0, 0, nil, nil
  local function keep(other, ms)
    if redis.call('PTTL', other) < ms - KEPT / 2 then redis.call('PEXPIRE', other, ms) end
  end

  if about[3] and tonumber(about[5]) > now then
    if about[3] == token then
      redis.call('HSET', key, 'ends', ends)
      return tonumber(about[1])
    end
    held, next_end = 1, about[5]
  elseif about[3] then
    redis.call('HDEL', key, 'token')
  end
  if before > 1 then
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', holders, '-inf', now)) do
      redis.call('ZREM', holders, dead)
      redis.call('HDEL', key, dead)
    end
    if redis.call('ZSCORE', holders, token) then
      redis.call('ZADD', holders, ends, token)
      keep(holders, lasts + KEPT)
      return tonumber(string.match(redis.call('HGET', key, token), '^%d+'))
    end
    held = held + redis.call('ZCARD', holders)
    next_end = next_end or redis.call('ZRANGE', holders, 0, 0, 'WITHSCORES')[2]
  end
  if about[4] then
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
      redis.call('ZREM', alive, gone)
      redis.call('ZREM', queue, gone)
    end
    waiting, place = redis.call('ZCARD', queue), redis.call('ZRANK', queue, token)
  end
  if held + waiting - (place and 1 or 0) > 0 and before ~= most then return {before} end

  if held + (place or waiting) >= most then
    if ARGV[4] and ARGV[4] ~= '' then
      if not place then
        redis.call('HSET', key, 'most', most)
        redis.call('ZADD', queue, redis.call('HINCRBY', key, 'turn', 1), token)
      end
      redis.call('ZADD', alive, now + ARGV[4], token)
      keep(queue, KEPT)
      keep(alive, KEPT)
    end
    return next_end and now - next_end - 1 or 0
  end
  if place then
    redis.call('ZREM', queue, token)
    redis.call('ZREM', alive, token)
    waiting = waiting - 1
  end
  if most > 1 then
    local fence = math.max((tonumber(about[1]) or 0) + 1, micros)
    redis.call('ZADD', holders, ends, token)
    redis.call('HSET', key, 'fence', fence, 'most', most,
      token, string.format('%.0f %s %s %s', fence, clock[1], clock[2], ARGV[3]))
    keep(holders, lasts + KEPT)
    return fence
  end
  if waiting == 0 then redis.call('HDEL', key, 'most') end
end

local fence = (about[1] or 0) + 1
if fence < micros then fence = micros end
redis.call('HSET', key, 'fence', fence, 'token', token, 'ends', ends, 'sec', clock[1], 'usec', clock[2], 'owner', ARGV[3])
return fence

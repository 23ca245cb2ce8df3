-- Let a task be queued, or say why not.
-- KEYS: claim (hash: task, token, fence, by: the token that gave it back to the queue), window (string: task id that opened it),
--       replaced (hash: id of a task that lost its claim -> id of the one that took it)
-- ARGV: task id, milliseconds the claim lasts ("" = no claim wanted), look at the window ("1"/""),
--       take the claim from a queued task ("1"/""), owner token with which this task runs ("" = none)
-- Returns {verdict, task id that stands in the way or that was replaced, fence}
if ARGV[3] == '1' then
  local last = redis.call('GET', KEYS[2])
  if last then return {'window', last, '0'} end
end
if ARGV[2] == '' then return {'free', '', '0'} end
local held = redis.call('HMGET', KEYS[1], 'task', 'token', 'fence')
local mine = held[1] == ARGV[1] and (held[2] == '' or held[2] == ARGV[5])
if held[1] and not mine and not (ARGV[4] == '1' and held[2] == '') then
  return {'held', held[1], '0'}
end
local replaced = ''
if held[1] and not mine then
  replaced = held[1]
  local lasts = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]), redis.call('PTTL', KEYS[3]))
  redis.call('HSET', KEYS[3], held[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[3], lasts)
end
local now = redis.call('TIME')
local fence = string.format('%.0f', math.max((tonumber(held[3]) or 0) + 1, now[1] * 1000000 + now[2]))
redis.call('HSET', KEYS[1], 'task', ARGV[1], 'token', '', 'fence', fence, 'by', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[1]) -- last: after it Redis would not refuse a write for want of memory
return {'free', replaced, fence}

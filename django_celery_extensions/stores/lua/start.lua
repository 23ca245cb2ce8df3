-- Let a queued task run, or say why not.
-- KEYS: claim (hash: task, token, fence, by: the tokens that gave it back to the queue), window (string: task id that opened it),
--       replaced (hash: id of a task that lost its claim -> id of the one that took it, with "!" before it once it was told)
-- ARGV: task id, owner token of this execution, milliseconds the claim lasts ("" = no claim wanted),
--       look at the window ("1"/""), end the claim at the start ("1"/""),
--       leave a claim alone that another execution gave back to the queue ("1"/""),
--       id of the task that took its claim, of the last one, whose result it looked for in vain, and which it may run for ("")
-- Returns "verdict fence id", with the id of the task that stands in the way or that the claim was queued for
local held = redis.call('HMGET', KEYS[1], 'task', 'token', 'fence', 'by')
local mine = held[1] == ARGV[1] and (held[2] == '' or held[2] == ARGV[2])
if mine and ARGV[6] == '1' and held[2] == '' and held[4] and held[4] ~= '' then mine = false end
if ARGV[4] == '1' then
  local last = redis.call('GET', KEYS[2])
  if last then
    if mine then redis.call('DEL', KEYS[1]) end
    return 'window 0 ' .. last
  end
end
if ARGV[3] == '' then return 'free 0 ' end
local by = not mine and redis.call('HGET', KEYS[3], ARGV[1])
if by then
  if string.sub(by, 1, 1) ~= '!' then redis.call('HSET', KEYS[3], ARGV[1], '!' .. by) end
  local newest
  while by do -- ends: who takes a claim is not among those that lost it
    newest = string.gsub(by, '^!', '')
    by = redis.call('HGET', KEYS[3], newest)
  end
  if held[1] and held[1] ~= ARGV[1] then return 'held 0 ' .. held[1] end
  if newest ~= ARGV[7] then return 'held 0 ' .. newest end
end
if held[1] and not mine then
  return (held[1] == ARGV[1] and 'busy 0 ' or 'held 0 ') .. held[1]
end
local now = redis.call('TIME')
local fence = string.format('%.0f', math.max((tonumber(held[3]) or 0) + 1, now[1] * 1000000 + now[2]))
if ARGV[5] == '1' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'task', ARGV[1], 'token', ARGV[2], 'fence', fence)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 'free ' .. fence .. ' ' .. (held[1] or '')

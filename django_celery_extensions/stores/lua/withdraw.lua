-- End the queued claim of a message that was not sent; the queued task that it was taken from has it again.
-- KEYS: claim (hash: task, token, fence, by: the tokens that gave it back to the queue, in order),
--       replaced (hash: id of a task that lost its claim -> id of the one that took it, with "!" before it once it was told)
-- ARGV: task id, id of the task that it replaced ("" = none), milliseconds for which that one has the claim
-- Returns 1 if the claim was still its own, else 0
local held = redis.call('HMGET', KEYS[1], 'task', 'token', 'fence')
local mine = held[1] == ARGV[1] and held[2] == ''
local waits = ARGV[2] ~= '' and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[1] -- and may come to its start yet
local marks = redis.call('HGETALL', KEYS[2])
for i = 1, #marks, 2 do
  if marks[i + 1] == ARGV[1] or marks[i + 1] == '!' .. ARGV[1] then redis.call('HDEL', KEYS[2], marks[i]) end
end
if not mine then return 0 end
if waits then
  local now = redis.call('TIME')
  local fence = string.format('%.0f', math.max((tonumber(held[3]) or 0) + 1, now[1] * 1000000 + now[2]))
  redis.call('HSET', KEYS[1], 'task', ARGV[2], 'token', '', 'fence', fence, 'by', '')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return 1

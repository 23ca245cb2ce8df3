-- Queue a running claim again, if it is still its owner's; makes none.
-- KEYS: claim (hash: task, token, fence, by: the tokens that gave it back to the queue, in order)
-- ARGV: task id, owner token, milliseconds it lasts
-- Returns 1 if it is queued by this owner now, else 0
local held = redis.call('HMGET', KEYS[1], 'task', 'token', 'by')
if held[1] ~= ARGV[1] then return 0 end
local by = given_back(held[3], ARGV[2])
if held[2] ~= ARGV[2] and not (held[2] == '' and held[3] == by) then return 0 end
redis.call('HSET', KEYS[1], 'token', '', 'by', by)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1

-- Let a claim last from now on, if it is still its owner's.
-- KEYS: claim (hash: task, token, fence)
-- ARGV: task id, owner token, milliseconds it lasts
-- Returns 1 if the claim was still its owner's, else 0
local held = redis.call('HMGET', KEYS[1], 'task', 'token')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1

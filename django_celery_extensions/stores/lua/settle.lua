-- End a claim if it is still its owner's, and open the ignore window.
-- KEYS: claim (hash: task, token, fence), window
-- ARGV: task id, owner token ("" = queued), milliseconds the window lasts ("" = no window)
-- Returns 1 if the claim was still its owner's, else 0
local held = redis.call('HMGET', KEYS[1], 'task', 'token')
local mine = held[1] == ARGV[1] and held[2] == ARGV[2]
if mine then redis.call('DEL', KEYS[1]) end
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3]) end
return mine and 1 or 0

-- End a claim if it is still its owner's, and open the ignore window.
-- KEYS: claim (hash: task, token, fence, by: the tokens that gave it back to the queue, in order), window (string: task id)
-- ARGV: task id, owner token ("" = queued), milliseconds the window lasts ("" = no window),
--       the execution was lost: it may not have come to its start ("1"/""); not so if it gave the claim back
-- Returns 1 if the claim was still its owner's, else 0
local held = redis.call('HMGET', KEYS[1], 'task', 'token', 'by')
local function gave_back() return string.find(' ' .. (held[3] or '') .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) end
local mine = held[1] == ARGV[1]
  and (held[2] == ARGV[2] or (ARGV[4] == '1' and held[2] == '' and not gave_back()))
if mine then redis.call('DEL', KEYS[1]) end
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3]) end
return mine and 1 or 0

-- Let tasks be queued, one after the other, or say why not.
-- KEYS: for each task its claim (hash: task, token, fence, by: the tokens that gave it back to the queue, in order), window
--       (string: task id that opened it), and replaced (hash: id of a task that lost its claim -> id of the one that took it)
-- ARGV: of all: milliseconds the claim lasts ("" = no claim wanted), look at the window ("1"/""),
--       take the claim from a queued task ("1"/""), owner token with which the task runs ("" = none);
--       then the id of each task
-- Returns for each "verdict fence id", with the id of the task that stands in the way or that was replaced: one text is
-- read sooner than three
local lasts, looks, replaces, proof = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local moment -- in microseconds, the same for all
local function now()
  if not moment then
    local time = redis.call('TIME')
    moment = time[1] * 1000000 + time[2]
  end
  return moment
end

local function admit(id, claim, window, marks)
  if looks == '1' then
    local last = redis.call('GET', window)
    if last then return 'window 0 ' .. last end
  end
  if lasts == '' then return 'free 0 ' end
  local held = redis.call('HMGET', claim, 'task', 'token', 'fence', 'by')
  local mine = held[1] == id and (held[2] == '' or held[2] == proof)
  if held[1] and not mine and not (replaces == '1' and held[2] == '') then
    return 'held 0 ' .. held[1]
  end
  local replaced = ''
  if held[1] and not mine then
    replaced = held[1]
    local longest = math.max(redis.call('PTTL', claim), tonumber(lasts), redis.call('PTTL', marks))
    redis.call('HSET', marks, held[1], id)
    redis.call('PEXPIRE', marks, longest)
  end
  local by = mine and proof ~= '' and given_back(held[4], proof) or proof
  local fence = string.format('%.0f', math.max((tonumber(held[3]) or 0) + 1, now()))
  redis.call('HSET', claim, 'task', id, 'token', '', 'fence', fence, 'by', by)
  redis.call('PEXPIRE', claim, lasts)
  redis.call('HDEL', marks, id) -- last: after it Redis would not refuse a write for want of memory
  return 'free ' .. fence .. ' ' .. replaced
end

local answers = {}
for i = 1, #KEYS, 3 do
  answers[#answers + 1] = admit(ARGV[4 + (i + 2) / 3], KEYS[i], KEYS[i + 1], KEYS[i + 2])
end
if #answers == 1 then return answers[1] end -- a list of one takes its reader longer
return answers

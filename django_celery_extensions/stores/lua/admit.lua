-- Let tasks be queued, one after the other, or say why not.
-- KEYS: for each task its claim (hash: task, token, fence, by: the tokens that gave it back to the queue, in order), window
--       (string: task id that opened it), and replaced (hash: id of a task that lost its claim -> id of the one that took it,
--       with "!" before it once the task was told so at its start)
-- ARGV: of all: milliseconds the claim lasts ("" = no claim wanted), look at the window ("1"/""),
--       take the claim from a queued task ("1"/""), owner token with which the task runs ("" = none);
--       then the id of each task
-- Returns "verdict fence id", with the id of the task that stands in the way or that had the claim: one text is read sooner
-- than three. For many: that of the first, then place and text of each that is told something else
local lasts, looks, replaces, proof = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local now, fresh -- in microseconds, the same for all: as a number, and as the fence of what nobody holds
local function admit(id, claim, window, marks)
  if looks == '1' then
    local last = redis.call('GET', window)
    if last then return 'window 0 ' .. last end
  end
  if lasts == '' then return 'free 0 ' end
  local holder = redis.call('HGET', claim, 'task')
  if holder and holder ~= id and replaces == '' then return 'held 0 ' .. holder end
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
    fresh = string.format('%.0f', now)
  end
  local fence, by = fresh, proof
  if holder then
    local held = redis.call('HMGET', claim, 'token', 'fence', 'by')
    if holder == id and (held[1] == '' or held[1] == proof) then
      if proof ~= '' then by = given_back(held[3], proof) end
    elseif replaces == '1' and held[1] == '' then
      local longest = math.max(redis.call('PTTL', claim), tonumber(lasts), redis.call('PTTL', marks))
      redis.call('HSET', marks, holder, id)
      redis.call('PEXPIRE', marks, longest)
    else
      return 'held 0 ' .. holder
    end
    fence = string.format('%.0f', math.max((tonumber(held[2]) or 0) + 1, now))
  end
  redis.call('HSET', claim, 'task', id, 'token', '', 'fence', fence, 'by', by)
  redis.call('PEXPIRE', claim, lasts)
  redis.call('HDEL', marks, id) -- last: after it Redis would not refuse a write for want of memory
  return 'free ' .. fence .. ' ' .. (holder or '')
end

if #KEYS == 3 then return admit(ARGV[5], KEYS[1], KEYS[2], KEYS[3]) end
local answers = {}
for i = 1, #KEYS / 3 do
  local answer = admit(ARGV[4 + i], KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i])
  if i == 1 then
    answers[1] = answer
  elseif answer ~= answers[1] then
    answers[#answers + 1] = i
    answers[#answers + 1] = answer
  end
end
return answers

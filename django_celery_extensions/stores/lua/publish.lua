-- Carry out the commands of a batch of messages: once, however often they are sent. For a broker.
-- KEYS: mark of who sends (string: number of the last batch that was carried out)
-- ARGV: number of this batch, seconds that the mark is kept,
--       then for each command: its name, how many arguments it has, the arguments
-- Returns 1 if it was carried out now, 0 if it was before; an error that starts with PARTIAL if only a part was
local last = redis.call('GET', KEYS[1])
if last and tonumber(last) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local i, broken = 3, nil
while i <= #ARGV do
  local count = tonumber(ARGV[i + 1])
  local reply = redis.pcall(ARGV[i], unpack(ARGV, i + 2, i + 1 + count))
  if type(reply) == 'table' and reply.err then broken = broken or reply.err end
  i = i + 2 + count
end
if broken then return redis.error_reply('PARTIAL ' .. broken) end
return 1

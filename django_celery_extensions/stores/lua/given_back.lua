-- A part of other scripts: the tokens that gave a claim back to the queue, in order, with one more at the end.
local KEPT = 740 -- characters of them that are remembered: the last twenty
local function given_back(by, token)
  if not by or by == '' then return token end
  if string.sub(by, -#token) == token then return by end
  return string.sub(by .. ' ' .. token, -KEPT)
end


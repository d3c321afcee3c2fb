-- Reads a risk session without changing it. KEYS[1]: the session. ARGV: now in ms ('' = the server's) | half-life ms
-- Returns {score decayed to now in nano-units, flags, requests, blocks, redactions, last seen ms}, or nothing.
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local was = redis.call('HMGET', KEYS[1], 'score', 'flags', 'requests', 'blocks', 'redactions', 'last_seen')
if not was[1] then return {} end
for i = 1, 6 do was[i] = tonumber(was[i] or 0) end
local half_life = tonumber(ARGV[2])
if was[1] > 0 and half_life > 0 and now > was[6] then
  was[1] = math.floor(was[1] * 2 ^ (-(now - was[6]) / half_life) + 0.5)
end
return was

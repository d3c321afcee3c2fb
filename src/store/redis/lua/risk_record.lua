-- Adds requests to a risk session. KEYS[1]: the session.
-- ARGV: now in ms ('' = the server's) | add in nano-units | flags | blocks | redactions | half-life ms | ttl ms
--       | threshold in nano-units | largest score in nano-units | faint nano-units | ceiling of those | requests
-- Returns {score, flags, requests, blocks, redactions, last seen ms, crossed 0/1}.
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local was = redis.call('HMGET', KEYS[1], 'score', 'flags', 'requests', 'blocks', 'redactions', 'last_seen')
local n = function(i) return tonumber(was[i] or 0) end
local before, last, half_life = n(1), n(6), tonumber(ARGV[6])
if before > 0 and half_life > 0 and now > last then
  before = math.floor(before * 2 ^ (-(now - last) / half_life) + 0.5)
end
local score = math.min(before + tonumber(ARGV[2]), tonumber(ARGV[9]))
score = math.max(score, math.min(score + tonumber(ARGV[10]), tonumber(ARGV[11])))
local flags = bit.bor(n(2), tonumber(ARGV[3]))
if flags < 0 then flags = flags + 4294967296 end
local requests, blocks, redactions = n(3) + tonumber(ARGV[12]), n(4) + tonumber(ARGV[4]), n(5) + tonumber(ARGV[5])
last = math.max(last, now)
local text = function(x) return string.format('%.0f', x) end
redis.call('HSET', KEYS[1], 'score', text(score), 'flags', text(flags), 'requests', text(requests), 'blocks', text(blocks),
  'redactions', text(redactions), 'last_seen', text(last))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
local threshold = tonumber(ARGV[8])
return {score, flags, requests, blocks, redactions, last, (before < threshold and score >= threshold) and 1 or 0}

-- Gives slots back and corrects windows at the end of a request, or holds slots for longer.
-- KEYS: slots first, then windows. ARGV: now in µs ('' = the server's) | lease | number of slots
--   | for each slot: how long it is held on in ms, -1 to give it back | for each window: per µs, part µs, taken at µs, delta
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
local floor, ceil, min = math.floor, math.ceil, math.min
local slots = tonumber(ARGV[3])
for i = 1, slots do
  local ttl = tonumber(ARGV[3 + i])
  if ttl < 0 then
    redis.call('ZREM', KEYS[i], ARGV[2])
  else
    redis.call('ZADD', KEYS[i], floor(now / 1000) + ttl, ARGV[2])
    if redis.call('PTTL', KEYS[i]) < ttl + 1000 then redis.call('PEXPIRE', KEYS[i], ttl + 1000) end
  end
end
for i = slots + 1, #KEYS do
  local a = 3 + slots + (i - slots - 1) * 4
  local per, part, at, delta = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local was = redis.call('GET', KEYS[i])
  was = was and cmsgpack.unpack(was) or {per, part, 0}
  if was[1] ~= per then
    -- The policy was changed meanwhile: the next decision moves what was taken; a correction of the old one is void.
    was = nil
  elseif delta < 0 then
    local taken_in = floor(at / part)
    for p = 4, #was, 2 do
      if was[p] == taken_in then
        local back = min(-delta, was[p + 1])
        was[p + 1], was[3] = was[p + 1] - back, was[3] - back
        break
      end
    end
  elseif delta > 0 then
    local current, n = floor(now / part), #was
    if n > 3 and was[n - 1] >= current then
      was[n] = was[n] + delta
    else
      was[n + 1], was[n + 2] = current, delta
    end
    was[3] = was[3] + delta
  end
  if was and #was > 3 then
    redis.call('SET', KEYS[i], cmsgpack.pack(was), 'PX', ceil((per + part) / 1000) + 1000)
  end
end
return 1

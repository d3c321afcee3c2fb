-- The end of a request: gives slots back, corrects windows, and replaces a reservation by what the request did cost, or
-- releases it. Or holds slots for longer.
-- KEYS: slots, then windows, then three a counter: K, K:c, K:e.
-- ARGV: now in µs ('' = the server's) | lease | number of slots | number of windows | 1 to settle, 0 to release
--   | for each slot: how long it is held on in ms, -1 to give it back | for each window: per µs, part µs, taken at µs, delta
--   | to settle, for each counter: actual, limit, kept until, number of thresholds, …
-- Returns {0 unknown, 1 applied, 2 late, then three a counter: used, reserved, seeded, then pairs: position, percent crossed}.
local lease, slots, windows, settles = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local floor, ceil, min = math.floor, math.ceil, math.min
for i = 1, slots do
  local ttl = tonumber(ARGV[5 + i])
  if ttl < 0 then
    redis.call('ZREM', KEYS[i], lease)
  else
    redis.call('ZADD', KEYS[i], string.format('%.0f', micros + ttl * 1000), lease)
    if redis.call('PTTL', KEYS[i]) < ttl + 1000 then redis.call('PEXPIRE', KEYS[i], ttl + 1000) end
  end
end
for i = 1, windows do
  local a = 5 + slots + (i - 1) * 4
  local key = KEYS[slots + i]
  local per, part, at, delta = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local was = redis.call('GET', key)
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
        if was[p + 1] == 0 then
          table.remove(was, p)
          table.remove(was, p)
        end
        break
      end
    end
  elseif delta > 0 then
    local current, n = floor(micros / part), #was
    if n > 3 and was[n - 1] >= current then
      was[n] = was[n] + delta
    else
      was[n + 1], was[n + 2] = current, delta
    end
    was[3] = was[3] + delta
  end
  if was and #was > 3 then
    redis.call('SET', key, cmsgpack.pack(was), 'PX', ceil((per + part) / 1000) + 1000)
  elseif was then
    redis.call('DEL', key)
  end
end
local a, crossed = 6 + slots + windows * 4, {}
out[1] = 0
for i = 1, (#KEYS - slots - windows) / 3 do
  local k = KEYS[slots + windows + 3 * i - 2]
  purge(k)
  local here = finish(k, lease)
  if settles then
    local actual, limit, until_, n = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
    if here > 0 then
      local before = counted(k)
      local after = redis.call('HINCRBY', k .. ':c', 'used', actual)
      keep(k .. ':c', until_)
      for t = 1, n do
        local percent = tonumber(ARGV[a + 3 + t])
        local rest = limit % 100
        local bar = (limit - rest) / 100 * percent + floor((rest * percent + 99) / 100)
        if before < bar and after >= bar then
          crossed[#crossed + 1], crossed[#crossed + 2] = i - 1, percent
        end
      end
      if out[1] ~= 1 then out[1] = here end
    end
    a = a + 4 + n
  elseif here == 1 then
    out[1] = 1
  end
  tell(k)
end
for _, v in ipairs(crossed) do out[#out + 1] = v end
return out

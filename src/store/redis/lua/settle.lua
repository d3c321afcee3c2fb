-- Replaces a reservation by what it did cost.
-- KEYS: three a charge: K, K:c, K:e. ARGV: now | lease | then a charge: actual, limit, kept until, number of thresholds, …
-- Returns {0 unknown, 1 applied, 2 late, then three a charge: used, reserved, seeded, then pairs: position, percent crossed}.
local lease, a, crossed = ARGV[2], 3, {}
out[1] = 0
for i = 1, #KEYS / 3 do
  local k = KEYS[3 * i - 2]
  local actual, limit, until_, n = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  purge(k)
  local here = finish(k, lease)
  if here > 0 then
    local before = counted(k)
    local after = redis.call('HINCRBY', k .. ':c', 'used', actual)
    keep(k .. ':c', until_)
    for t = 1, n do
      local percent = tonumber(ARGV[a + 3 + t])
      local rest = limit % 100
      local bar = (limit - rest) / 100 * percent + math.floor((rest * percent + 99) / 100)
      if before < bar and after >= bar then
        crossed[#crossed + 1], crossed[#crossed + 2] = i - 1, percent
      end
    end
    if out[1] ~= 1 then out[1] = here end
  end
  tell(k)
  a = a + 4 + n
end
for _, v in ipairs(crossed) do out[#out + 1] = v end
return out

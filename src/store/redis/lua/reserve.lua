-- Reserves in all counters or in none.
-- KEYS: the counters of the tag that have leases | then three a hold: K, K:c, K:e (K itself holds nothing).
-- ARGV: now | lease | runs out after | 1 to hold in any case | then three a hold: limit, amount, kept until
-- Returns {refused position or -1, then three a hold: used, reserved, seeded}.
local lease, till, anyway = ARGV[2], now + tonumber(ARGV[3]), ARGV[4] == '1'
local refused, held = -1, {}
local holds = (#KEYS - 1) / 3
for i = 1, holds do
  local k, limit, amount = KEYS[3 * i - 1], tonumber(ARGV[2 + 3 * i]), tonumber(ARGV[3 + 3 * i])
  purge(k)
  held[i] = redis.call('HEXISTS', k .. ':c', lease) == 1
  local used, reserved = counted(k)
  local taken = used + reserved
  local room = held[i] or anyway
  if not room then
    if amount == 0 then room = taken < limit else room = taken + amount <= limit end
  end
  if not room and refused < 0 then refused = i - 1 end
end
out[1] = refused
for i = 1, holds do
  local k, amount, until_ = KEYS[3 * i - 1], ARGV[3 + 3 * i], tonumber(ARGV[4 + 3 * i])
  if refused < 0 then
    if not held[i] then
      redis.call('HINCRBY', k .. ':c', 'reserved', amount)
      redis.call('HSET', k .. ':c', lease, amount)
      redis.call('ZREM', k .. ':x', lease)
    end
    redis.call('ZADD', k .. ':e', till, lease)
    redis.call('ZADD', KEYS[1], 'LT', till, k)
    keep(k .. ':c', math.max(until_, till))
    keep(k .. ':e', till)
  end
  tell(k)
end
if refused < 0 and holds > 0 then keep(KEYS[1], till) end
return out

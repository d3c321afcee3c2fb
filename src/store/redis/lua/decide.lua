-- Asks limits, then budgets and quotas, and takes from all of them when none that binds refuses.
-- KEYS: one a limit | when there are holds: the counters of the tag that have leases, then three a hold: K, K:c, K:e (K
-- itself holds nothing).
-- ARGV: now in µs ('' = the server's) | lease | number of limits | holds: 0 only such as are seeded, 1 any, 2 in any case
-- | they run out after ms | five a limit | three a hold: limit, amount, kept until. A limit is
--   r (rate)    limit  per µs   burst  cost, shadow as -1 - cost
--   w (window)  limit  per µs   part µs  cost or -1 - cost
--   s (slots)   max    ttl ms   0      0 or -1
-- Returns {0 granted, 1 a limit refused, 2 a hold had no room, 3 a hold is not seeded; its position; now in µs; then four a
-- limit: allowed 0/1, remaining, reset µs, retry µs or -1 for never; then three a hold: used, reserved, seeded}.
local lease, limits, mode = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
-- Exact for quotients of integers below 2^53.
local function div_ceil(a, b)
  local r = a % b
  return (a - r) / b + (r > 0 and 1 or 0)
end
local what, which = 0, -1
local asked = {}
for i = 1, limits do
  local a = 1 + i * 5
  local l = {kind = ARGV[a], limit = tonumber(ARGV[a + 1]), per = tonumber(ARGV[a + 2]), more = tonumber(ARGV[a + 3]),
    cost = tonumber(ARGV[a + 4])}
  if l.cost < 0 then
    l.shadow, l.cost = true, -1 - l.cost
  end
  if l.kind == 'r' then
    l.credit = div_ceil(l.per * l.more, l.limit)
    l.owed = max(tonumber(redis.call('GET', KEYS[i]) or 0) - micros, 0)
    local owed = l.owed + div_ceil(l.per * l.cost, l.limit)
    l.ok = owed <= l.credit
    l.retry = l.cost > l.more and -1 or max(owed - l.credit, 0)
  elseif l.kind == 'w' then
    -- {per, part, sum, part number, count, part number, count, …}, oldest first.
    local was = redis.call('GET', KEYS[i])
    was = was and cmsgpack.unpack(was) or {l.per, l.more, 0}
    local parts, sum, n = {}, 0, 0
    for p = 4, #was, 2 do
      local part = was[p]
      if was[1] ~= l.per then part = floor(((part + 1) * was[2] - 1) / l.more) end
      if (part + 1) * l.more + l.per > micros then
        if n > 0 and parts[n - 1] >= part then
          parts[n] = parts[n] + was[p + 1]
        else
          parts[n + 1], parts[n + 2] = part, was[p + 1]
          n = n + 2
        end
        sum = sum + was[p + 1]
      end
    end
    l.parts, l.sum, l.n = parts, sum, n
    local excess = sum + l.cost - l.limit
    l.ok = excess <= 0
    l.retry = 0
    if excess > 0 then
      l.retry = -1
      if l.cost <= l.limit then
        local freed = 0
        for p = 1, n, 2 do
          freed = freed + parts[p + 1]
          if freed >= excess then
            l.retry = (parts[p] + 1) * l.more + l.per - micros
            break
          end
        end
      end
    end
  else
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', micros))
    l.count = redis.call('ZCARD', KEYS[i])
    l.held = redis.call('ZSCORE', KEYS[i], lease) and true or false
    l.ok = l.count < l.limit or l.held
    l.retry = l.limit == 0 and -1 or 0
  end
  if not l.ok and not l.shadow and what == 0 then what, which = 1, i - 1 end
  asked[i] = l
end

local holds = floor((#KEYS - limits) / 3)
local index, till = KEYS[limits + 1], now + tonumber(ARGV[5])
local held = {}
for i = 1, holds do
  local a = 3 + limits * 5 + i * 3
  local h = {k = KEYS[limits + 3 * i - 1], limit = tonumber(ARGV[a]), amount = ARGV[a + 1], keep = tonumber(ARGV[a + 2])}
  purge(h.k)
  h.used, h.reserved, h.seeded, h.held = counted(h.k, lease)
  local taken, amount = h.used + h.reserved, tonumber(h.amount)
  local room = h.held or mode == 2
  if not room then
    if amount == 0 then room = taken < h.limit else room = taken + amount <= h.limit end
  end
  if mode == 0 and h.seeded == 0 and what ~= 1 then
    what, which = 3, -1
  elseif not room and what == 0 then
    what, which = 2, i - 1
  end
  held[i] = h
end

out[1], out[2], out[3] = what, which, micros
for i = 1, limits do
  local l = asked[i]
  local take = what == 0 and l.ok
  local remaining, reset = 0, 0
  if l.kind == 'r' then
    if take and l.cost > 0 then
      l.owed = l.owed + div_ceil(l.per * l.cost, l.limit)
      redis.call('SET', KEYS[i], string.format('%.0f', micros + l.owed), 'PX', ceil(l.owed / 1000) + 1000)
    end
    remaining = min(max(floor((l.credit - l.owed) * l.limit / l.per), 0), l.more)
    reset = l.owed
  elseif l.kind == 'w' then
    if take and l.cost > 0 then
      local part, n = floor(micros / l.more), l.n
      if n > 0 and l.parts[n - 1] >= part then
        l.parts[n] = l.parts[n] + l.cost
      else
        l.parts[n + 1], l.parts[n + 2] = part, l.cost
        l.n = n + 2
      end
      l.sum = l.sum + l.cost
      redis.call('SET', KEYS[i], cmsgpack.pack({l.per, l.more, l.sum, unpack(l.parts)}), 'PX', ceil((l.per + l.more) / 1000) + 1000)
    end
    remaining = max(l.limit - l.sum, 0)
    if l.n > 0 then reset = (l.parts[l.n - 1] + 1) * l.more + l.per - micros end
  else
    if take then
      redis.call('ZADD', KEYS[i], string.format('%.0f', micros + l.per * 1000), lease)
      if not l.held then l.count = l.count + 1 end
      if redis.call('PTTL', KEYS[i]) < l.per + 1000 then redis.call('PEXPIRE', KEYS[i], l.per + 1000) end
    end
    remaining = max(l.limit - l.count, 0)
  end
  local n = #out
  out[n + 1], out[n + 2], out[n + 3], out[n + 4] = l.ok and 1 or 0, remaining, reset, take and 0 or l.retry
end
for i = 1, holds do
  local h = held[i]
  if what == 0 then
    if not h.held then
      h.reserved = redis.call('HINCRBY', h.k .. ':c', 'reserved', h.amount)
      redis.call('HSET', h.k .. ':c', lease, h.amount)
      redis.call('ZREM', h.k .. ':x', lease)
    end
    redis.call('ZADD', h.k .. ':e', till, lease)
    redis.call('ZADD', index, 'LT', till, h.k)
    keep(h.k .. ':c', max(h.keep, till))
    keep(h.k .. ':e', till)
  end
  say(h.used, h.reserved, h.seeded)
end
if what == 0 and holds > 0 then keep(index, till) end
return out

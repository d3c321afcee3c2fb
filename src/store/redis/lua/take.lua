-- Asks several limits and takes from all of them when none that binds refuses.
-- KEYS: one a limit. ARGV: now in µs ('' = the server's) | lease | then five a limit:
--   r (rate)    limit  per µs   burst  cost, shadow as -1 - cost
--   w (window)  limit  per µs   part µs  cost or -1 - cost
--   s (slots)   max    ttl ms   0      0 or -1
-- Returns {refused position or -1, now, then four a limit: allowed 0/1, remaining, reset µs, retry µs or -1 for never}.
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
local lease = ARGV[2]
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
-- Exact for quotients of integers below 2^53.
local function div_ceil(a, b)
  local r = a % b
  return (a - r) / b + (r > 0 and 1 or 0)
end
local asked, refused = {}, -1
local out = {-1, now}
for i = 1, #KEYS do
  local a = 3 + (i - 1) * 5
  local l = {kind = ARGV[a], limit = tonumber(ARGV[a + 1]), per = tonumber(ARGV[a + 2]), more = tonumber(ARGV[a + 3]),
    cost = tonumber(ARGV[a + 4])}
  if l.cost < 0 then
    l.shadow, l.cost = true, -1 - l.cost
  end
  if l.kind == 'r' then
    l.credit = div_ceil(l.per * l.more, l.limit)
    l.owed = max(tonumber(redis.call('GET', KEYS[i]) or 0) - now, 0)
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
      if (part + 1) * l.more + l.per > now then
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
            l.retry = (parts[p] + 1) * l.more + l.per - now
            break
          end
        end
      end
    end
  else
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', floor(now / 1000))
    l.count = redis.call('ZCARD', KEYS[i])
    l.held = redis.call('ZSCORE', KEYS[i], lease) and true or false
    l.ok = l.count < l.limit or l.held
    l.retry = l.limit == 0 and -1 or 0
  end
  if not l.ok and not l.shadow and refused < 0 then refused = i - 1 end
  asked[i] = l
end
out[1] = refused
for i = 1, #KEYS do
  local l = asked[i]
  local take = refused < 0 and l.ok
  local remaining, reset = 0, 0
  if l.kind == 'r' then
    if take and l.cost > 0 then
      l.owed = l.owed + div_ceil(l.per * l.cost, l.limit)
      redis.call('SET', KEYS[i], string.format('%.0f', now + l.owed), 'PX', ceil(l.owed / 1000) + 1000)
    end
    remaining = min(max(floor((l.credit - l.owed) * l.limit / l.per), 0), l.more)
    reset = l.owed
  elseif l.kind == 'w' then
    if take and l.cost > 0 then
      local part, n = floor(now / l.more), l.n
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
    if l.n > 0 then reset = (l.parts[l.n - 1] + 1) * l.more + l.per - now end
  else
    if take then
      redis.call('ZADD', KEYS[i], floor(now / 1000) + l.per, lease)
      if not l.held then l.count = l.count + 1 end
      if redis.call('PTTL', KEYS[i]) < l.per + 1000 then redis.call('PEXPIRE', KEYS[i], l.per + 1000) end
    end
    remaining = max(l.limit - l.count, 0)
  end
  local n = #out
  out[n + 1], out[n + 2], out[n + 3], out[n + 4] = l.ok and 1 or 0, remaining, reset, take and 0 or l.retry
end
return out

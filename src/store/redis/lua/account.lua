-- What the scripts of budgets and quotas have in common.
-- A counter K is a hash K:c {used, reserved, seeded, <lease> = amount, …}, a sorted set K:e of its leases by when they run
-- out, and, where leases ran out, a sorted set K:x of those by when that was met. All times are milliseconds, but for `micros`
-- and what is said to be µs.
-- One sorted set a tag holds the counters that have leases, by when the first of them runs out.
local micros = tonumber(ARGV[1])
if not micros then
  local t = redis.call('TIME')
  micros = t[1] * 1000000 + t[2]
end
local now = math.floor(micros / 1000)
local LATE, LATE_MILLIS, GRACE = 10000, 86400000, 60000

-- A key lives as long as the longest of what was asked.
local function keep(key, until_)
  local ms = math.max(until_ - now, 0) + GRACE
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, string.format('%.0f', ms)) end
end

local function give_back(k, lease, amount)
  if amount ~= '0' then redis.call('HINCRBY', k .. ':c', 'reserved', '-' .. amount) end
  redis.call('HDEL', k .. ':c', lease)
end

-- Releases what ran out. Returns how many.
local function purge(k)
  local gone = redis.call('ZRANGEBYSCORE', k .. ':e', '-inf', now)
  for _, lease in ipairs(gone) do
    local amount = redis.call('HGET', k .. ':c', lease)
    if amount then give_back(k, lease, amount) end
    redis.call('ZREM', k .. ':e', lease)
    redis.call('ZADD', k .. ':x', now, lease)
  end
  if #gone > 0 then
    redis.call('ZREMRANGEBYSCORE', k .. ':x', '-inf', now - LATE_MILLIS)
    redis.call('ZREMRANGEBYRANK', k .. ':x', 0, -LATE - 1)
    redis.call('PEXPIRE', k .. ':x', LATE_MILLIS + GRACE)
  end
  return #gone
end

-- Ends a reservation in one counter: 1 it was held, 2 it had run out, 0 there is none.
local function finish(k, lease)
  local amount = redis.call('HGET', k .. ':c', lease)
  if amount then
    give_back(k, lease, amount)
    redis.call('ZREM', k .. ':e', lease)
    return 1
  end
  return redis.call('ZREM', k .. ':x', lease) > 0 and 2 or 0
end

-- Used, reserved, and whether it was seeded; and what a lease holds of it.
local function counted(k, lease)
  local c = redis.call('HMGET', k .. ':c', 'used', 'reserved', 'seeded', lease or '')
  return tonumber(c[1] or 0), tonumber(c[2] or 0), c[3] and 1 or 0, c[4]
end

local out = {}
local function say(used, reserved, seeded)
  local n = #out
  out[n + 1], out[n + 2], out[n + 3] = used, reserved, seeded
end
local function tell(k)
  local used, reserved, seeded = counted(k)
  say(used, reserved, seeded)
end

-- Releases what ran out. KEYS: the counters of one tag that have leases. ARGV: now in µs ('' = the server's) | how many counters at most.
-- The counters' own keys come from that set; they have its tag, so they are where the script runs. Returns how many leases.
local released = 0
for _, k in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  released = released + purge(k)
  local next_ = redis.call('ZRANGE', k .. ':e', 0, 0, 'WITHSCORES')
  if next_[2] then redis.call('ZADD', KEYS[1], next_[2], k) else redis.call('ZREM', KEYS[1], k) end
end
return released

-- Reads counters, or changes what one has used. KEYS: three a counter: K, K:c, K:e.
-- ARGV: now in µs ('' = the server's) | '' to read, 'seed' to add once, 'adjust' to add | what is added | kept until
-- Returns {1 when something was added, then three a counter: used, reserved, seeded}.
out[1] = 0
for i = 1, #KEYS, 3 do
  local k = KEYS[i]
  purge(k)
  if ARGV[2] ~= '' and not (ARGV[2] == 'seed' and redis.call('HEXISTS', k .. ':c', 'seeded') == 1) then
    if redis.call('HINCRBY', k .. ':c', 'used', ARGV[3]) < 0 then redis.call('HSET', k .. ':c', 'used', 0) end
    if ARGV[2] == 'seed' then redis.call('HSET', k .. ':c', 'seeded', 1) end
    keep(k .. ':c', tonumber(ARGV[4]))
    out[1] = 1
  end
  tell(k)
end
return out

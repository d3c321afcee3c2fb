-- Ends a reservation that cost nothing. KEYS: three a counter: K, K:c, K:e. ARGV: now | lease. Returns whether there was one.
local found = 0
for i = 1, #KEYS, 3 do
  purge(KEYS[i])
  if finish(KEYS[i], ARGV[2]) == 1 then found = 1 end
end
return found

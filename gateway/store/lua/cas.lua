-- Write a key if it holds what the caller expects.
-- KEYS[1]  the key
-- ARGV[1]  "1": the key must hold ARGV[2]; "0": it must be absent
-- ARGV[2]  the expected value
-- ARGV[3]  the new value
-- ARGV[4]  milliseconds to live, "0" for no end
-- Returns 1 when written, else 0.
local held = redis.call('GET', KEYS[1])
if ARGV[1] == '0' then
  if held then return 0 end
elseif held ~= ARGV[2] then
  return 0
end
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1

-- Read a session; delete it when it is claimed or too old. Returns fields and values, or nothing.
-- KEYS[1]  hash: the entry
-- ARGV[1]  1 claims, 0 counts a hit and leaves it   ARGV[2]  now_ms   ARGV[3]  ttl_ms, 0 is for ever
local found = redis.call('HGETALL', KEYS[1])
if #found == 0 then
  return found
end
local age, ttl = ARGV[2] - redis.call('HGET', KEYS[1], 'created_at_ms'), tonumber(ARGV[3])
if ARGV[1] == '1' or (ttl > 0 and age > ttl) then
  redis.call('DEL', KEYS[1])
else
  redis.call('HINCRBY', KEYS[1], 'hit_count', 1)
end
return found

-- Read a session; delete it when it is claimed, too old or malformed. Returns fields and values, or nothing.
-- KEYS[1]  hash: the entry
-- ARGV[1]  1 claims, 0 counts a hit and leaves it   ARGV[2]  now_ms   ARGV[3]  ttl_ms, 0 is for ever
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
  return {}
end
local found = redis.call('HGETALL', KEYS[1])
local created, ttl = tonumber(redis.call('HGET', KEYS[1], 'created_at_ms') or ''), tonumber(ARGV[3])
if ARGV[1] == '1' or not created or (ttl > 0 and ARGV[2] - created > ttl) then
  redis.call('DEL', KEYS[1])
elseif type(redis.pcall('HINCRBY', KEYS[1], 'hit_count', 1)) ~= 'number' then
  redis.call('DEL', KEYS[1])
end
return found

-- Store a session. An entry that is not too old keeps its age and hits and, unless one is named, its instance.
-- KEYS[1]  hash: the entry
-- ARGV[1]  now_ms   ARGV[2]  ttl_ms, 0 is for ever   ARGV[3]  ms to keep a new entry, 0 is for ever
-- ARGV[4..6]  session id, instance, worker
local created = redis.call('HGET', KEYS[1], 'created_at_ms')
local ttl = tonumber(ARGV[2])
if created and ttl > 0 and ARGV[1] - created > ttl then
  redis.call('DEL', KEYS[1])
  created = false
end
redis.call('HSET', KEYS[1], 'session_id', ARGV[4])
if not created or ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'instance_name', ARGV[5], 'worker', ARGV[6])
end
if not created then
  redis.call('HSET', KEYS[1], 'created_at_ms', ARGV[1], 'hit_count', 0)
  if ARGV[3] ~= '0' then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
end
return 1

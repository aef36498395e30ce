-- Store a session. An entry that is not too old keeps its age and hits and, unless one is named, its instance.
-- What is malformed is replaced.
-- KEYS[1]  hash: the entry
-- ARGV[1]  now_ms   ARGV[2]  ttl_ms, 0 is for ever   ARGV[3]  ms to keep a new entry, 0 is for ever
-- ARGV[4..6]  session id, instance, worker
local created, ttl = nil, tonumber(ARGV[2])
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  created = tonumber(redis.call('HGET', KEYS[1], 'created_at_ms') or '')
end
if not created or (ttl > 0 and ARGV[1] - created > ttl) then
  redis.call('DEL', KEYS[1])
  created = nil
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

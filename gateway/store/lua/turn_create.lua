-- Write a turn's record and its reader's lease. Returns 1, or 0 when the turn exists.
-- KEYS[1]  hash: the record   KEYS[2]  string: the lease
-- ARGV[1]  ttl_ms   ARGV[2]  lease_ms, 0 is none   ARGV[3..]  field, value, ...
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'ttl_ms', ARGV[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
end
return 1

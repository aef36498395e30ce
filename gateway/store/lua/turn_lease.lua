-- Say that somebody still reads a turn. Returns 1, or 0 when it has ended or is gone.
-- KEYS[1]  hash: the record   KEYS[2]  string: the lease   ARGV[1]  lease_ms
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then
  return 0
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return 1

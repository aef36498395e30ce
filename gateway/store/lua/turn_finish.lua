-- End a turn; the first caller wins. Returns 1, 0 when fenced or ended, -1 when there is no such turn.
-- KEYS[1]  hash: the record   KEYS[2]  stream: the frames   KEYS[3]  string: the lease   KEYS[4]  string: the body
-- ARGV[1]  state   ARGV[2]  most entries
-- ARGV[3..5]  attempt, worker, epoch; an empty attempt is no fence   ARGV[6]  entry, absent when there is none
local turn = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker', 'epoch', 'retention_ms')
if not turn[1] then
  return -1
end
if turn[1] ~= 'queued' and turn[1] ~= 'running' then
  return 0
end
if ARGV[3] ~= '' and (turn[2] ~= ARGV[3] or turn[3] ~= ARGV[4] or turn[4] ~= ARGV[5]) then
  return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[1])
if ARGV[6] then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'm', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], turn[5])
redis.call('PEXPIRE', KEYS[2], turn[5])
-- on a Cluster they may be on their way to another node, where they end by themselves
redis.pcall('UNLINK', KEYS[3])
redis.pcall('UNLINK', KEYS[4])
return 1

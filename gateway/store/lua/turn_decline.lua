-- Give an attempt back, with an entry; queued stays queued, for nobody. Returns 1, 0 when fenced, -1 when gone.
-- KEYS[1]  hash: the record   KEYS[2]  stream: the frames
-- ARGV[1..3]  attempt, worker, epoch   ARGV[4]  entry   ARGV[5]  most entries
local turn = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker', 'epoch')
if not turn[1] then
  return -1
end
if turn[1] ~= 'queued' or turn[2] ~= ARGV[1] or turn[3] ~= ARGV[2] or turn[4] ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], 'worker', '', 'epoch', -1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'm', ARGV[4])
redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
return 1

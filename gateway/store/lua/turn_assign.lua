-- Queue a turn for its next attempt. Returns 1, or 0 when it is elsewhere, is completed or gone.
-- KEYS[1]  hash: the record   KEYS[2]  stream: the frames
-- ARGV[1]  expected attempt   ARGV[2..4]  attempt, worker, epoch   ARGV[5]  instance
local turn = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'ttl_ms')
local state = turn[1]
if turn[2] ~= ARGV[1] or state == 'completed' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempt', ARGV[2], 'worker', ARGV[3], 'epoch', ARGV[4],
  'instance', ARGV[5], 'last_seq', 0)
if state ~= 'queued' and state ~= 'running' then
  -- finish() had set them to end soon
  redis.call('PEXPIRE', KEYS[1], turn[3])
  redis.call('PEXPIRE', KEYS[2], turn[3])
end
return 1

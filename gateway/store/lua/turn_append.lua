-- Add an entry while running. Returns 1, 0 when fenced, -1 when the turn or its entries are gone.
-- KEYS[1]  hash: the record   KEYS[2]  stream: the frames
-- ARGV[1..3]  attempt, worker, epoch   ARGV[4]  entry   ARGV[5]  most entries   ARGV[6]  last seq
local turn = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker', 'epoch')
if not turn[1] then
  return -1
end
if turn[1] ~= 'running' or turn[2] ~= ARGV[1] or turn[3] ~= ARGV[2] or turn[4] ~= ARGV[3] then
  return 0
end
if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5], '*', 'm', ARGV[4]) then
  return -1
end
redis.call('HSET', KEYS[1], 'last_seq', ARGV[6])
return 1

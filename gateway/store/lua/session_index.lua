-- Note a use, drop what nobody asked for, make room. Returns how many were dropped, then who was evicted.
-- KEYS[1]  zset: entry -> time of its last use
-- ARGV[1]  time   ARGV[2]  entry   ARGV[3]  drop what was last used before   ARGV[4]  most entries
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then
  redis.call('DEL', KEYS[1]) -- whatever it is, it would stop every use
end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
local reply = { redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3]) }
local over = redis.call('ZCARD', KEYS[1]) - ARGV[4]
if over > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[1], over)
  for i = 1, #popped, 2 do
    reply[#reply + 1] = popped[i]
  end
end
return reply

-- Renew leases of one key. Returns 1 or 0 for each holder: 0 when its lease had ended or never was.
-- KEYS[1]  zset: holder -> end, in milliseconds of this server's clock
-- ARGV[1]  ttl_ms   ARGV[2..]  holders
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[1])
local renewed, any = {}, false
for i = 2, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ends and tonumber(ends) > now then
    redis.call('ZADD', KEYS[1], now + ttl, ARGV[i])
    renewed[i - 1], any = 1, true
  else
    renewed[i - 1] = 0
  end
end
if any and redis.call('PTTL', KEYS[1]) < ttl then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return renewed

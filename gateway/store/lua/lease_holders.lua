-- Returns the holders of the live leases of a key.
-- KEYS[1]  zset: holder -> end, in milliseconds of this server's clock
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')

-- Returns how many leases of a key are live.
-- KEYS[1]  zset: holder -> end, in milliseconds of this server's clock
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')

-- A write, by a script: to see whether the store takes both.   KEYS[1]  string   ARGV[1]  ttl_ms
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1

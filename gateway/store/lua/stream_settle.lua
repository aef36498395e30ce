-- Acknowledge and delete entries, so that none is left that nobody will ever be given.
-- KEYS[1]  stream   ARGV[1]  group   ARGV[2..]  ids
for i = 2, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
end
return #ARGV - 1

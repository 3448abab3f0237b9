-- Makes an empty log, so that "before anything" is a position; leaves an existing one alone.
--
-- KEYS  1 entries  2 meta
-- ARGV  1 fresh random text, new for every attempt  2 lifetime of meta in ms
-- Returns {epoch, top}.

local meta = redis.call('hmget', KEYS[2], 'v', 'e', 'o', 'l')
if meta[1] and meta[1] ~= '1' then return redis.error_reply('FWVERSION the log was written by a newer version') end
if meta[1] and meta[2] and tonumber(meta[3]) and meta[4] then return { meta[2], meta[3] } end

local info = redis.call('info', 'replication')
if not string.find(info, 'role:master', 1, true) then return redis.error_reply('FWROLE this server is a replica') end
local reign = string.match(info, 'master_replid:(%x%x%x%x%x%x%x%x%x%x%x%x)')
if not reign then return redis.error_reply('FWREPLID this server does not tell its replication id') end
local epoch = ARGV[1] .. reign
redis.call('del', KEYS[1], KEYS[2])
redis.call('hset', KEYS[2], 'v', '1', 'e', epoch, 'o', 0, 'l', epoch .. ':1', 't', ARGV[2])
redis.call('pexpire', KEYS[2], ARGV[2])
return { epoch, '0' }

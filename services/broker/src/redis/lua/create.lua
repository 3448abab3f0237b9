-- Makes an empty log, so that "before anything" is a position; leaves an existing one alone.
--
-- KEYS  1 entries  2 meta
-- ARGV  1 fresh random text, new for every attempt  2 lifetime of meta in ms
-- Returns "epoch:top".

local epoch, top, _, newer = parts(redis.call('get', KEYS[2]))
if newer then return redis.error_reply('FWVERSION the log was written by a newer version') end
if epoch then return epoch .. ':' .. top end

local reign, refusal = reign_here()
if not reign then return refusal end
epoch = ARGV[1] .. reign
redis.call('del', KEYS[1])
redis.call('set', KEYS[2], '1:' .. epoch .. ':0:' .. ARGV[2] .. ':1', 'PX', ARGV[2])
return epoch .. ':0'

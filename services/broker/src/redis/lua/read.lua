-- One atomic view of a log. Writes nothing, so that it works while the server refuses writes.
--
-- KEYS  1 entries  2 meta
-- ARGV  1 "forward" or "reverse"  2 offset: strictly after it, or strictly before it in reverse; "" for no bound
--       3 the most entries; 0 for none
-- Returns {epoch, top, ledger, entries}, or nil when there is no log.

if not string.find(redis.call('info', 'replication'), 'role:master', 1, true) then
  return redis.error_reply('FWROLE this server is a replica')
end
local meta = redis.call('hmget', KEYS[2], 'v', 'e', 'o', 'l')
if meta[1] and meta[1] ~= '1' then return redis.error_reply('FWVERSION the log was written by a newer version') end
if not (meta[1] and meta[2] and tonumber(meta[3]) and meta[4]) then return false end

local entries = {}
if ARGV[3] ~= '0' then
  local bound = ARGV[2] ~= '' and '(' .. ARGV[2] .. '-1'
  if ARGV[1] == 'forward' then
    entries = redis.call('xrange', KEYS[1], bound or '-', '+', 'COUNT', ARGV[3])
  else
    entries = redis.call('xrevrange', KEYS[1], bound or '+', '-', 'COUNT', ARGV[3])
  end
end
return { meta[2], meta[3], meta[4], entries }

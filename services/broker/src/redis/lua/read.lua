-- One atomic view of a log. Writes nothing, so that it works while the server refuses writes.
--
-- KEYS  1 entries  2 meta
-- ARGV  1 "forward" or "reverse"  2 offset: strictly after it, or strictly before it in reverse; "" for no bound
--       3 the most entries; 0 for none
-- Returns {meta, offset of the first body, bodies}, bodies being nil where an entry is missing, or nil when there is no
-- log.

local reign, refusal = reign_here()
if not reign then return refusal end
local meta = redis.call('get', KEYS[2])
local epoch, top, _, newer = parts(meta)
if newer then return redis.error_reply('FWVERSION the log was written by a newer version') end
if not epoch then return false end

local most, bound = tonumber(ARGV[3]), tonumber(ARGV[2])
if most == 0 then return { meta, '0', {} } end
top = tonumber(top)
local first, last = top - redis.call('hlen', KEYS[1]) + 1, top
local step = 1
if ARGV[1] == 'forward' then
  if bound then first = math.max(first, bound + 1) end
  last = math.min(last, first + most - 1)
else
  if bound then last = math.min(last, bound - 1) end
  first, last, step = last, math.max(first, last - most + 1), -1
end

local bodies = {}
-- Lua bounds the arguments of a call.
local chunk = {}
for offset = first, last, step do
  chunk[#chunk + 1] = string.format('%d', offset)
  if #chunk == 1000 or offset == last then
    for _, body in ipairs(redis.call('hmget', KEYS[1], unpack(chunk))) do bodies[#bodies + 1] = body end
    chunk = {}
  end
end
return { meta, #bodies > 0 and string.format('%d', first) or '0', bodies }

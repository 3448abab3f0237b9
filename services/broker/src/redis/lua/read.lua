-- One atomic view of a log. Writes nothing, so that it works while the server refuses writes.
--
-- KEYS  1 entries  2 meta
-- ARGV  1 "forward" or "reverse"  2 offset: strictly after it, or strictly before it in reverse; "" for no bound
--       3 the most entries; 0 for none  4 the most bytes of them  5 "1" to return a first entry larger than that
-- Returns {meta, offset of the first body, bodies, offset of the oldest entry}, bodies being nil where an entry is
-- missing, or nil when there is no log. The oldest entry's offset is the one after the top if there is none.

local reign, refusal = reign_here()
if not reign then return refusal end
local meta = redis.call('get', KEYS[2])
local epoch, top, _, newer = parts(meta)
if newer then return redis.error_reply('FWVERSION the log was written by a newer version') end
if not epoch then return false end

local most, room, bound = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[2])
top = tonumber(top)
local oldest = top - redis.call('hlen', KEYS[1]) + 1
local first, last, step = oldest, top, 1
if ARGV[1] == 'forward' then
  if bound then first = math.max(first, bound + 1) end
  last = math.min(last, first + most - 1)
else
  if bound then last = math.min(last, bound - 1) end
  first, last, step = last, math.max(first, last - most + 1), -1
end
if most > 0 and math.min(first, last) == oldest and redis.call('hexists', KEYS[1], string.format('%d', top + 1)) == 1 then
  -- An entry beyond the top, which the publish script replaces: it counts among those that were counted.
  oldest = oldest + 1
  if step == 1 then first = first + 1 else last = last + 1 end
end

-- Few entries at first, then as many as seem to fit: what is read beyond the room is read in vain.
local bodies, bytes, count, ahead = {}, 0, (last - first) * step + 1, 2
local full = false
while #bodies < count and not full do
  local offsets = {}
  for at = #bodies, math.min(#bodies + ahead, count) - 1 do
    offsets[#offsets + 1] = string.format('%d', first + at * step)
  end
  for _, body in ipairs(redis.call('hmget', KEYS[1], unpack(offsets))) do
    bytes = bytes + (body and #body or 0)
    full = full or bytes > room and not (#bodies == 0 and ARGV[5] == '1')
    if not full then bodies[#bodies + 1] = body end
  end
  -- Lua bounds the arguments of a call.
  local fitting = math.ceil((room - bytes) / (bytes / math.max(#bodies, 1) + 1))
  ahead = math.max(1, math.min(fitting, ahead * 8, 1000))
end
return { meta, #bodies > 0 and string.format('%d', first) or '0', bodies, string.format('%d', oldest) }

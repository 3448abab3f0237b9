-- Announces a publication of a channel without history, once for its idempotency key.
--
-- KEYS  1 stored result
-- ARGV  1 message  2 pub/sub channel  3 fingerprint  4 lifetime of the result in ms
-- Returns {"done"}, {"duplicate"} or {"conflict"}.

local stored = redis.call('get', KEYS[1])
if stored then
  if stored ~= '1:' .. ARGV[3] then return { 'conflict' } end
  return { 'duplicate' }
end
redis.call('set', KEYS[1], '1:' .. ARGV[3], 'PX', ARGV[4])
local announced = redis.pcall('publish', ARGV[2], ARGV[1])
if failed(announced) then
  forget(KEYS[1])
  return announced
end
return { 'done' }

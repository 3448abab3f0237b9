-- Appends a publication to its channel's log and announces it, in one atomic step.
--
-- KEYS  1 entries (hash: offset to body; the offsets are dense)
--       2 meta (text: version:epoch:top:lifetime in ms:ledger, the ledger being the epoch's first offset, then
--         ",older epoch:first offset" for each epoch before it)
--       3 stored result (only for a publish with an idempotency key)
-- ARGV  1 body  2 entries to keep  3 their lifetime in ms  4 pub/sub channel  5 lifetime of meta in ms
--       6 fresh random text, new for every attempt  7 fingerprint  8 lifetime of the result in ms
-- Returns "epoch:offset", or {"unannounced", "epoch:offset", why}, {"duplicate", "epoch:offset"} or {"conflict"}.
--
-- An epoch is fresh random text and the reign. Nothing is written before everything that can fail for a reason outside
-- of the keys has been asked.

if KEYS[3] then
  local stored = redis.call('get', KEYS[3])
  if stored then
    local fingerprint, place = string.match(stored, '^1:(%x+):([^:]+:%d+)$')
    if not fingerprint then return redis.error_reply('FWDATA the stored result cannot be read') end
    if fingerprint ~= ARGV[7] then return { 'conflict' } end
    return { 'duplicate', place }
  end
end

local reign, refusal = reign_here()
if not reign then return refusal end
local epoch, top, ledger, newer = parts(redis.call('get', KEYS[2]))
if newer then return redis.error_reply('FWVERSION the log was written by a newer version') end

local previous, offset = epoch, nil
-- Whether the entries are exactly those that the meta speaks of, with the new one.
local whole = false
if epoch then
  local number = top + 1
  offset = string.format('%d', number)
  local surplus = number - ARGV[2]
  if string.sub(epoch, -12) ~= reign then
    -- The first publication of this reign: a new epoch begins with it. Ledger entries go once their successor begins
    -- before the oldest publication that is still kept.
    local entries, kept_from = { offset }, surplus + 1
    for entry in string.gmatch(epoch .. ':' .. ledger, '[^,]+') do entries[#entries + 1] = entry end
    local count = #entries
    while count > 1
      and (count > MAX_LEDGER or tonumber(string.match(entries[count - 1], '%d+$')) < kept_from) do
      count = count - 1
    end
    epoch = ARGV[6] .. reign
    ledger = table.concat(entries, ',', 1, count)
  end
  if redis.call('hset', KEYS[1], offset, ARGV[1]) == 1 then
    -- Beyond the oldest there is another one only when fewer than before are to be kept.
    local gone = surplus > 0 and redis.call('hdel', KEYS[1], surplus, surplus - 1) or 0
    while gone > 1 do
      surplus = surplus - 2
      gone = redis.call('hdel', KEYS[1], surplus, surplus - 1)
    end
    whole = gone == 1 or redis.call('hexists', KEYS[1], top) == 1 or redis.call('hlen', KEYS[1]) == 1
  end
end
if not whole then
  -- A log begins: never used, expired, flushed, or its meta lost. Or entries and meta are of different times, because
  -- somebody restored an older copy of one of them; which line is true cannot be known. What is there belongs to a line
  -- that is gone.
  redis.call('del', KEYS[1], KEYS[2])
  epoch, offset, ledger = ARGV[6] .. reign, '1', '1'
  previous = epoch
  redis.call('hset', KEYS[1], offset, ARGV[1])
end

local place = epoch .. ':' .. offset
redis.call('pexpire', KEYS[1], ARGV[3])
redis.call('set', KEYS[2], '1:' .. place .. ':' .. ARGV[5] .. ':' .. ledger, 'PX', ARGV[5])
if KEYS[3] then redis.call('set', KEYS[3], '1:' .. ARGV[7] .. ':' .. place, 'PX', ARGV[8]) end

-- Last, and without undoing what is written: the log is the truth, subscribers find it by their position check.
local announced = redis.pcall('publish', ARGV[4], '1:' .. place .. ':' .. previous .. ':' .. ARGV[1])
if type(announced) == 'table' then return { 'unannounced', place, announced.err or '' } end
return place

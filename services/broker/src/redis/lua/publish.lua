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
-- An epoch is fresh random text and the reign.
--
-- A write can be refused although others are not (an ACL, changed at any time), and a script is not rolled back. So the
-- texts come first, which the right that wrote them restores, then what the entry displaces, then the entry. A refused
-- publish leaves the log as it was, but for the entry that it would have displaced.

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
local meta = redis.call('get', KEYS[2])
local epoch, top, ledger, newer = parts(meta)
if newer then return redis.error_reply('FWVERSION the log was written by a newer version') end

local previous, offset, place = epoch, nil, nil
-- Whether the entries are those that the meta speaks of, and the answer to the first command that was refused.
local whole, refused = false, nil
if epoch then
  local number = top + 1
  offset = string.format('%d', number)
  local surplus = number - ARGV[2]
  local kept_from = surplus + 1
  if string.sub(epoch, -12) ~= reign then
    -- The first publication of this reign.
    epoch, ledger = ARGV[6] .. reign, history_with(offset, epoch, ledger, kept_from)
  end
  place = epoch .. ':' .. offset
  -- Spelt out, where it costs every publish, and a call elsewhere.
  local answer = redis.pcall('set', KEYS[2], '1:' .. place .. ':' .. ARGV[5] .. ':' .. ledger, 'PX', ARGV[5])
  if answer.ok and KEYS[3] then answer = record_result(KEYS, ARGV, place) end
  if not answer.ok then
    refused = answer
  else
    -- Beyond the oldest there is another one only when fewer than before are to be kept.
    local gone = surplus > 0 and redis.pcall('hdel', KEYS[1], surplus, surplus - 1) or 0
    while gone == 2 do
      surplus = surplus - 2
      gone = redis.pcall('hdel', KEYS[1], surplus, surplus - 1)
    end
    if gone == 1 then
      whole = true
    elseif gone == 0 then
      -- None at all is well: they expired.
      local found = redis.pcall('hexists', KEYS[1], top)
      whole = found == 1
      if found == 0 then
        found = redis.pcall('hlen', KEYS[1])
        whole = found == 0
      end
      refused = failed(found)
    else
      refused = gone
    end
  end
  if whole then
    local added = redis.pcall('hset', KEYS[1], offset, ARGV[1])
    if added ~= 1 then refused = failed(added) end
    if added == 0 then
      -- There was an entry already: a write was broken off, or the meta is one publication older than the entries. An
      -- epoch of its own keeps every position before it and tells the two apart.
      local beyond = redis.pcall('hexists', KEYS[1], string.format('%d', number + 1))
      whole, refused = beyond == 0, failed(beyond)
      if whole and epoch == previous then
        epoch, ledger = ARGV[6] .. reign, history_with(offset, epoch, ledger, kept_from)
        place = epoch .. ':' .. offset
        refused = record(KEYS, ARGV, place, ledger)
      end
    end
  end
end
if not whole and not refused then
  -- A log begins: never used, expired, flushed, or its meta lost. Or entries and meta are of different times, because
  -- somebody restored an older copy of one of them; which line is true cannot be known. What is there belongs to a line
  -- that is gone.
  epoch, offset = ARGV[6] .. reign, '1'
  previous, place = epoch, epoch .. ':1'
  refused = record(KEYS, ARGV, place, '1') or failed(redis.pcall('del', KEYS[1]))
    or failed(redis.pcall('hset', KEYS[1], offset, ARGV[1]))
end
if not refused then
  local lives = redis.pcall('pexpire', KEYS[1], ARGV[3])
  if lives ~= 1 then
    refused = lives
    -- An entry that cannot be taken back is replaced by the next publish; alone it would have no lifetime.
    if failed(redis.pcall('hdel', KEYS[1], offset)) and redis.pcall('hlen', KEYS[1]) == 1 then forget(KEYS[1]) end
  end
end
if refused then
  restore(KEYS, ARGV, meta)
  return refused
end

-- Last, and without undoing what is written: the log is the truth, subscribers find it by their position check.
local announced = redis.pcall('publish', ARGV[4], '1:' .. place .. ':' .. previous .. ':' .. ARGV[1])
if type(announced) == 'table' then return { 'unannounced', place, announced.err or '' } end
return place

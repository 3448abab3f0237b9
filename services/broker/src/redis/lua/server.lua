-- What all scripts ask of the server first.
--
-- The reign (12 characters of the replication id) is asked of the server itself and each time: what a caller believes
-- can be stale, and a stale belief loses publications silently. Only the reading of an answer is spared when the very
-- same text has been read before, which a function remembers and a script does not.

local known, reign

-- The reign of this server, or nil and why it cannot be used.
local function reign_here()
  local info = redis.call('info', 'replication')
  if info ~= known then
    known = nil
    if not string.find(info, 'role:master', 1, true) then
      return nil, redis.error_reply('FWROLE this server is a replica')
    end
    reign = string.match(info, 'master_replid:(%x%x%x%x%x%x%x%x%x%x%x%x)')
    if not reign then return nil, redis.error_reply('FWREPLID this server does not tell its replication id') end
    known = info
  end
  return reign
end

-- The parts of a meta: epoch, top (as text), and the rest of the ledger; false for none that can be read. Last, whether
-- a newer version wrote it.
local function parts(meta)
  if not meta then return false end
  local version, epoch, top, ledger = string.match(meta, '^(%d+):([%w_-]+):(%d+):%d+:(.+)$')
  if version == '1' then return epoch, top, ledger end
  return false, nil, nil, string.match(meta, '^%d+') ~= '1'
end

-- The answer to a command, if it is a refusal.
local function failed(answer)
  return type(answer) == 'table' and answer.err and answer or nil
end

-- Epoch history whose newest epoch begins with an offset, after this one. Entries go once their successor begins before
-- the oldest publication that is still kept.
local function history_with(offset, epoch, ledger, kept_from)
  local entries = { offset }
  for entry in string.gmatch(epoch .. ':' .. ledger, '[^,]+') do entries[#entries + 1] = entry end
  local count = #entries
  while count > 1
    and (count > MAX_LEDGER or tonumber(string.match(entries[count - 1], '%d+$')) < kept_from) do
    count = count - 1
  end
  return table.concat(entries, ',', 1, count)
end

-- Stores the result of a publish for its idempotency key.
local function record_result(keys, args, place)
  return redis.pcall('set', keys[3], '1:' .. args[7] .. ':' .. place, 'PX', args[8])
end

-- Writes what the publish script writes besides the entry: the meta, and the stored result if there is to be one.
-- Returns the answer to the write that was refused, if any.
local function record(keys, args, place, ledger)
  local answer = redis.pcall('set', keys[2], '1:' .. place .. ':' .. args[5] .. ':' .. ledger, 'PX', args[5])
  if answer.ok and keys[3] then answer = record_result(keys, args, place) end
  return failed(answer)
end

-- Removes a text that the script has written: without the right to delete it, by one that has expired.
local function forget(key)
  if failed(redis.pcall('del', key)) then redis.pcall('set', key, '1:', 'PXAT', 1) end
end

-- Undoes `record`, `meta` being what was there before. Without a right to a key, nothing of it was written.
local function restore(keys, args, meta)
  if keys[3] then forget(keys[3]) end
  if not meta then return forget(keys[2]) end
  redis.pcall('set', keys[2], meta, 'PX', string.match(meta, '^%d+:[^:]+:%d+:(%d+):') or args[5])
end

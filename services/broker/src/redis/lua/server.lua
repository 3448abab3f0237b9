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

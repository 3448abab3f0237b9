-- Appends a publication to its channel's log and announces it, in one atomic step.
--
-- KEYS  1 entries (stream: id <offset>-1, field d)
--       2 meta (hash: v version, e current epoch, o top offset, l ledger "e0:1,e1:4", t its lifetime in ms)
--       3 stored result (only for a publish with an idempotency key)
-- ARGV  1 body  2 entries to keep  3 their lifetime in ms  4 pub/sub channel  5 lifetime of meta in ms
--       6 fresh random text, new for every attempt  7 ledger entries to keep  8 fingerprint  9 lifetime of the result in ms
-- Returns {"done", epoch, offset, why it could not be announced or ""}, {"duplicate", epoch, offset} or {"conflict"}.
--
-- The reign (12 characters of the replication id) is asked of the server itself: what a caller believes can be stale,
-- and a stale belief loses publications silently. An epoch is fresh random text and the reign. Nothing is written
-- before everything that can fail for a reason outside of the keys has been asked.

if KEYS[3] then
  local stored = redis.call('get', KEYS[3])
  if stored then
    local fingerprint, epoch, offset = string.match(stored, '^1:(%x+):([^:]+):(%d+)$')
    if not fingerprint then return redis.error_reply('FWDATA the stored result cannot be read') end
    if fingerprint ~= ARGV[8] then return { 'conflict' } end
    return { 'duplicate', epoch, offset }
  end
end

local info = redis.call('info', 'replication')
if not string.find(info, 'role:master', 1, true) then return redis.error_reply('FWROLE this server is a replica') end
local reign = string.match(info, 'master_replid:(%x%x%x%x%x%x%x%x%x%x%x%x)')
if not reign then return redis.error_reply('FWREPLID this server does not tell its replication id') end

local meta = redis.call('hmget', KEYS[2], 'v', 'e', 'o', 'l', 't')
local version, epoch, top, ledger, life = meta[1], meta[2], tonumber(meta[3]), meta[4], meta[5]
if version and version ~= '1' then return redis.error_reply('FWVERSION the log was written by a newer version') end

-- A log begins: never used, expired, flushed, or its meta lost. Old entries would belong to a line that is gone.
local changed = false
local function begin()
  redis.call('del', KEYS[1], KEYS[2])
  epoch = ARGV[6] .. reign
  top = 0
  ledger = epoch .. ':1'
  changed = true
end

local previous = epoch
if not (version and epoch and top and ledger) then
  begin()
  previous = epoch
elseif string.sub(epoch, -12) ~= reign then
  -- The first publication of this reign: a new epoch begins with it. Ledger entries go once their successor begins
  -- before the oldest publication that is still kept.
  epoch = ARGV[6] .. reign
  local entries, kept_from = {}, top + 2 - ARGV[2]
  for entry in string.gmatch(ledger, '[^,]+') do entries[#entries + 1] = entry end
  entries[#entries + 1] = epoch .. ':' .. (top + 1)
  local first, bound = 1, tonumber(ARGV[7])
  while first < #entries
    and (#entries - first + 1 > bound or tonumber(string.match(entries[first + 1], ':(%d+)$')) < kept_from) do
    first = first + 1
  end
  ledger = table.concat(entries, ',', first)
  changed = true
end

local function append() return redis.pcall('xadd', KEYS[1], 'MAXLEN', ARGV[2], (top + 1) .. '-1', 'd', ARGV[1]) end
local added = append()
if type(added) == 'table' and added.err and string.find(added.err, 'equal or smaller', 1, true) then
  -- Entries newer than the meta: somebody restored an older copy of it. Which line is true cannot be known.
  begin()
  previous = epoch
  added = append()
end
if type(added) == 'table' and added.err then return added end
local offset = top + 1

if changed or life ~= ARGV[5] then
  redis.call('hset', KEYS[2], 'v', '1', 'e', epoch, 'o', offset, 'l', ledger, 't', ARGV[5])
else
  redis.call('hset', KEYS[2], 'o', offset)
end
redis.call('pexpire', KEYS[1], ARGV[3])
redis.call('pexpire', KEYS[2], ARGV[5])
if KEYS[3] then
  redis.call('set', KEYS[3], '1:' .. ARGV[8] .. ':' .. epoch .. ':' .. offset, 'PX', ARGV[9])
end

-- Last, and without undoing what is written: the log is the truth, subscribers find it by their position check.
local announced = redis.pcall('publish', ARGV[4], '1:' .. epoch .. ':' .. offset .. ':' .. previous .. ':' .. ARGV[1])
return { 'done', epoch, offset, type(announced) == 'table' and announced.err or '' }

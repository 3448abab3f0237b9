-- Records in a log's epoch history that publications were lost which a node has passed on, so that no position from
-- before the loss is taken for one of the present timeline. Does nothing if nothing was lost, or if it is recorded.
--
-- KEYS  1 meta
-- ARGV  1 timeline that the node knows, newest first: "epoch:last offset,older epoch:last offset,..."
--       2 fresh random text, new for every attempt
-- Returns {meta, whether it was changed}, or nil when there is no log.
--
-- The newest epoch that both timelines have tells where they part: they agree up to the smaller of their ends of it.
-- What is decided here is decided on what is here now: another node may have recorded the same loss meanwhile, or
-- somebody published.

local reign, refusal = reign_here()
if not reign then return refusal end
local meta = redis.call('get', KEYS[1])
local epoch, top, ledger, newer = parts(meta)
if newer then return redis.error_reply('FWVERSION the log was written by a newer version') end
if not epoch then return false end

-- Newest first.
local names, firsts, marker = {}, {}, 0
for name, first in string.gmatch(epoch .. ':' .. ledger, '([%w_-]+):(%d+)') do
  names[#names + 1], firsts[#firsts + 1] = name, tonumber(first)
  if marker == 0 and string.sub(name, 9) == '-lost-before' then marker = tonumber(first) end
end
top = tonumber(top)
local last = tonumber(string.match(ARGV[1], ':(%d+)'))
for name, known in string.gmatch(ARGV[1], '([%w_-]+):(%d+)') do
  for at = 1, #names do
    if names[at] == name then
      local ending = at == 1 and top or firsts[at - 1] - 1
      local fork = math.min(ending, tonumber(known))
      if fork >= last or marker > fork then return { meta, 0 } end
      local after = string.format('%d', fork + 1)
      local entries = { string.format('%d', top + 1) }
      -- Where something was published after the fork, its epochs stay, behind a marker: only positions from before it
      -- are void. Where nothing was, the new epoch alone says the same.
      if fork < top then
        for newer_at = 1, at - 1 do
          entries[#entries + 1] = names[newer_at] .. ':' .. string.format('%d', firsts[newer_at])
        end
        if ending > fork then entries[#entries + 1] = name .. ':' .. after end
        entries[#entries + 1] = ARGV[2] .. '-lost-before:' .. after
      end
      local life = string.match(meta, '^%d+:[^:]+:%d+:(%d+):')
      meta = '1:' .. ARGV[2] .. reign .. ':' .. string.format('%d', top) .. ':' .. life .. ':' .. table.concat(entries, ',')
      redis.call('set', KEYS[1], meta, 'PX', life)
      return { meta, 1 }
    end
  end
end
return { meta, 0 }

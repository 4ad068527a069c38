-- `sliding-log`: every charge with its time. A key holds a list: how many units all the others are, then for each time `<dd` the time and the
-- units charged then, oldest first. A kind holds nothing of its own. At most 10,000 units count, so a list is no longer than that and what
-- has just expired.
--
-- A log can be long, so instead of its state four numbers are told for each charge: how many units count after the step, when the last of
-- them expires, when there will be fewer of them, and when this cost could pass (-1: never, or it does).

local sliding_log = {}
local CHUNK = 32

-- The time and the cost of an entry; of what is none, nothing at the beginning of time.
local function read_entry(entry)
  if entry and #entry == 16 then
    local at, cost = unpack_binary('<dd', entry)
    if are_whole(at, cost, 0) then
      return at, cost
    end
  end
  return 0, 0
end

-- Calls `visit(index, at, cost)` for the entries from this index on, until it returns something.
local function each(key, from, visit)
  while true do
    local chunk = call('LRANGE', key, from, from + CHUNK - 1)
    for i, entry in ipairs(chunk) do
      local at, cost = read_entry(entry)
      local found = visit(from + i - 1, at, cost)
      if found ~= nil then
        return found
      end
    end
    if #chunk < CHUNK then
      return nil
    end
    from = from + CHUNK
  end
end

function sliding_log.read(_, kind, key)
  local counter = { key = key, window = kind.window, sum = 0, first = 1, exists = false }
  local found = pcall('LINDEX', key, 0)
  local sum = type(found) == 'string' and tonumber(found)
  if sum and are_whole(sum, 0, 0) then
    counter.exists, counter.sum = true, sum
    local counts = each(key, 1, function(index, at, cost)
      if at + kind.window > now then
        return true
      end
      counter.first, counter.sum = index + 1, max(counter.sum - cost, 0)
    end)
    if not counts then
      counter.sum = 0
    elseif counter.sum > 0 then
      counter.newest = read_entry(call('LINDEX', key, -1))
    end
  elseif found then
    -- Something else has this name, and is in the way of the first charge.
    counter.is_foreign = true
  end
  return counter
end

function sliding_log.fits(counter, kind)
  return counter.sum + kind.cost <= kind.amount
end

-- When no more than `target` units count.
local function when_at_most(counter, target)
  local left = counter.sum
  if left <= target then
    return now
  end
  return each(counter.key, counter.first, function(_, at, cost)
    left = left - cost
    if left <= target then
      return at + counter.window
    end
  end)
end

function sliding_log.tell(counter, kind, counts)
  local cost = counts and kind.cost or 0
  local sum, newest = counter.sum + cost, counter.newest or now
  if cost > 0 then
    newest = max(newest, now)
  end
  local gone_at, fewer_at, fits_at = newest + kind.window, -1, -1
  local fewer = min(sum, kind.amount) - 1
  if fewer >= 0 then
    fewer_at = counter.sum == 0 and gone_at or when_at_most(counter, max(fewer - cost, 0)) or -1
  end
  if not sliding_log.fits(counter, kind) and kind.cost > 0 and kind.cost <= kind.amount then
    fits_at = when_at_most(counter, kind.amount - kind.cost) or -1
  end
  local n = #told
  told[n + 1], told[n + 2], told[n + 3], told[n + 4] = sum, gone_at, fewer_at, fits_at
end

-- Drops what has expired, and sets the sum that stands before the rest.
local function set_sum(counter)
  if counter.first > 1 then
    -- The last of those becomes the place of the sum.
    call('LTRIM', counter.key, counter.first - 1, -1)
    counter.first = 1
  end
  call('LSET', counter.key, 0, string.format('%.0f', counter.sum))
end

function sliding_log.charge(counter, kind)
  local at = max(counter.newest or now, now)
  counter.sum = counter.sum + kind.cost
  if counter.is_foreign then
    call('DEL', counter.key)
    counter.is_foreign = nil
  end
  if not counter.exists then
    call('RPUSH', counter.key, '0')
    counter.exists = true
  end
  set_sum(counter)
  if counter.newest == at then
    local _, cost = read_entry(call('LINDEX', counter.key, -1))
    call('LSET', counter.key, -1, pack('<dd', at, cost + kind.cost))
  else
    call('RPUSH', counter.key, pack('<dd', at, kind.cost))
  end
  counter.newest = at
end

if does_more then
  function sliding_log.give_back(counter, kind, at)
    if counter.sum == 0 then
      return
    end
    each(counter.key, counter.first, function(index, charged_at, cost)
      if charged_at < at then
        return nil
      end
      if charged_at == at then
        local given = min(cost, kind.cost)
        counter.sum = counter.sum - given
        if given < cost then
          call('LSET', counter.key, index, pack('<dd', at, cost - given))
        else
          call('LSET', counter.key, index, 'given back')
          call('LREM', counter.key, 1, 'given back')
        end
        set_sum(counter)
      end
      return true
    end)
    if counter.sum > 0 then
      counter.newest = read_entry(call('LINDEX', counter.key, -1))
    else
      counter.newest = nil
    end
  end
end

-- Its entries are written already.
function sliding_log.write(counter, key)
  if counter.sum == 0 then
    call('DEL', key)
  else
    call('PEXPIRE', key, ttl_ms(counter.newest + counter.window))
  end
end

algorithms[3] = sliding_log

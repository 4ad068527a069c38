-- `sliding-log`: every charge with its time. A key holds a list of `<dd`, oldest first: a time, and how many units had been charged when it
-- was over. What stands first has expired, or stands for what was before: so what an entry charged, and all from one to another, is one
-- subtraction, and whatever is looked for is found by halves. A kind holds nothing of its own. At most 10,000 units count, so a list is no
-- longer than that and what has expired since the last charge.
--
-- A log can be long, so instead of its state four numbers are told for each charge: how many units count after the step, when the last of
-- them expires, when there will be fewer of them, and when this cost could pass (-1: never, or it does).

local sliding_log = {}

-- The time of an entry, and the units charged until then. What is no entry says nothing.
local function entry(key, index)
  local value = call('LINDEX', key, index)
  if value and #value == 16 then
    local at, units = unpack_binary('<dd', value)
    if are_whole(at, units, 0) then
      return at, units
    end
  end
  return 0, 0
end

-- The first entry from `first` to `last` that `holds(at, units)`, if the last does and those behind one that does, do too.
local function find(key, first, last, holds)
  while first < last do
    local middle = floor((first + last) / 2)
    if holds(entry(key, middle)) then
      last = middle
    else
      first = middle + 1
    end
  end
  return first
end

function sliding_log.read(_, kind, key)
  local counter = {
    key = key, window = kind.window, length = 0, first = 1, before = 0, units = 0, sum = 0, newest = false, changed = false,
  }
  local length = pcall('LLEN', key)
  if type(length) == 'table' then
    -- Something else has this name. The first charge takes its place.
    return counter
  end
  counter.length = length
  if length > 1 then
    local newest, units = entry(key, -1)
    if newest + kind.window > now then
      counter.newest, counter.units = newest, units
      local oldest = entry(key, 1)
      if oldest + kind.window <= now then
        counter.first = find(key, 2, length - 1, function(at) return at + kind.window > now end)
      end
      local _, before = entry(key, counter.first - 1)
      counter.before, counter.sum = before, max(units - before, 0)
    end
  end
  return counter
end

function sliding_log.fits(counter, kind)
  return counter.sum + kind.cost <= kind.amount
end

-- When no more than `target` units count.
local function when_at_most(counter, target)
  if counter.sum <= target then
    return now
  end
  local gone = counter.units - target
  local last = find(counter.key, counter.first, counter.length - 1, function(_, units) return units >= gone end)
  local at = entry(counter.key, last)
  return at + counter.window
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
    fewer_at = counter.sum == 0 and gone_at or when_at_most(counter, max(fewer - cost, 0))
  end
  if not sliding_log.fits(counter, kind) and kind.cost > 0 and kind.cost <= kind.amount then
    fits_at = when_at_most(counter, kind.amount - kind.cost)
  end
  local n = #told
  told[n + 1], told[n + 2], told[n + 3], told[n + 4] = sum, gone_at, fewer_at, fits_at
end

function sliding_log.charge(counter, kind)
  local key, at = counter.key, max(counter.newest or now, now)
  local units = counter.units + kind.cost
  if counter.sum == 0 then
    -- Nothing of what may be there counts.
    call('DEL', key)
    call('RPUSH', key, pack('<dd', 0, 0), pack('<dd', at, kind.cost))
    counter.length, counter.first, counter.before, units = 2, 1, 0, kind.cost
  else
    if counter.first > 1 then
      call('LTRIM', key, counter.first - 1, -1)
      counter.length, counter.first = counter.length - counter.first + 1, 1
    end
    if counter.newest == at then
      call('LSET', key, -1, pack('<dd', at, units))
    else
      call('RPUSH', key, pack('<dd', at, units))
      counter.length = counter.length + 1
    end
  end
  counter.newest, counter.units, counter.sum = at, units, units - counter.before
  -- Now, and not when the program has run: if that fails, this stays.
  call('PEXPIRE', key, ttl_ms(at + counter.window))
end

if does_more then
  function sliding_log.give_back(counter, kind, at)
    if counter.sum == 0 then
      return
    end
    local key, last = counter.key, counter.length - 1
    local found = find(key, counter.first, last, function(charged_at) return charged_at >= at end)
    local charged_at, units = entry(key, found)
    if charged_at ~= at then
      return
    end
    local _, before = entry(key, found - 1)
    local given = min(units - before, kind.cost)
    -- Whatever came later was charged to so much less: mostly nothing, for what is given back is mostly new.
    for index = found, last do
      local later_at, later_units = entry(key, index)
      call('LSET', key, index, pack('<dd', later_at, later_units - given))
    end
    counter.units, counter.sum = counter.units - given, counter.sum - given
    if given == units - before then
      call('LSET', key, found, 'given back')
      call('LREM', key, -1, 'given back')
      counter.length = last
      counter.newest = counter.sum > 0 and entry(key, -1)
    end
  end
end

-- Its entries are written already.
function sliding_log.write(counter, key)
  if counter.sum == 0 then
    call('DEL', key)
  end
end

algorithms[3] = sliding_log

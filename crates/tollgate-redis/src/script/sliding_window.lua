-- `sliding-window`: two adjoining windows, of which the earlier one fades as the current one passes. A key holds `<ddd`: when the current
-- window began, the units in the one before it, and the units in it. A kind holds nothing of its own.

local sliding_window = {}

function sliding_window.read(value, kind)
  local counter = { starts = now, previous = 0, current = 0, window = kind.window, changed = false }
  if value and #value == 24 then
    local starts, previous, current = unpack_binary('<ddd', value)
    -- No window begins in the future, whatever another clock has said.
    starts = min(starts, now)
    local passed = floor((now - starts) / kind.window)
    if not are_whole(starts, previous, current) then
      return counter
    end
    if passed == 0 then
      counter.starts, counter.previous, counter.current = starts, previous, current
    elseif passed == 1 then
      counter.starts, counter.previous = starts + kind.window, current
    end
  end
  return counter
end

local function is_new(counter)
  return counter.previous == 0 and counter.current == 0
end

function sliding_window.fits(counter, kind)
  local left = min(counter.starts + kind.window - now, kind.window)
  local faded, rest = multiply_divide(counter.previous, left, kind.window)
  if rest > 0 then
    faded = faded + 1
  end
  return faded + counter.current + kind.cost <= kind.amount
end

function sliding_window.charge(counter, kind)
  if is_new(counter) then
    counter.starts = now
  end
  counter.current = counter.current + kind.cost
end

if does_more then
  function sliding_window.give_back(counter, kind, at)
    if at >= counter.starts then
      counter.current = max(counter.current - kind.cost, 0)
    elseif at >= counter.starts - kind.window then
      counter.previous = max(counter.previous - kind.cost, 0)
    end
  end
end

function sliding_window.write(counter, key)
  if is_new(counter) then
    call('DEL', key)
    return
  end
  local faded = counter.starts + counter.window
  if counter.current > 0 then
    faded = faded + counter.window
  end
  call('PSETEX', key, ttl_ms(faded), pack('<ddd', counter.starts, counter.previous, counter.current))
end

algorithms[2] = sliding_window

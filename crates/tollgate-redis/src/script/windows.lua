-- Windows that begin and end: what `fixed-window` and `calendar-window` have in common.
--
-- A key holds `<dd`: when the window ends, and how many units were used of it. `latest_end(kind, at)` is where a window ends that
-- holds this time: none ends later, whatever another clock has said.

local function windows(latest_end)
  local window = {}

  function window.read(value, kind)
    local counter = { ends = 0, used = 0, changed = false }
    if value and #value == 16 then
      local ends, used = unpack_binary('<dd', value)
      if ends > now and are_whole(ends, used, 0) then
        counter.ends, counter.used = min(ends, latest_end(kind, now)), used
      end
    end
    return counter
  end

  function window.fits(counter, kind)
    return counter.used + kind.cost <= kind.amount
  end

  function window.charge(counter, kind)
    if counter.used == 0 then
      counter.ends = latest_end(kind, now)
    end
    counter.used = counter.used + kind.cost
  end

  if does_more then
    -- Takes as much as a lease is, or what is left, if that is enough for the cost.
    function window.lease(counter, kind)
      local leased = min(kind.s, kind.amount - counter.used)
      if leased < kind.cost then
        return false
      end
      if counter.used == 0 then
        counter.ends = latest_end(kind, now)
      end
      counter.used = counter.used + leased
      return true
    end
  end

  function window.write(counter, key)
    if counter.used == 0 then
      call('DEL', key)
    else
      call('PSETEX', key, ttl_ms(counter.ends), pack('<dd', counter.ends, counter.used))
    end
  end

  return window
end

-- `calendar-window`: windows aligned to the calendar in UTC. Of a kind, `p` is how many months a window has, or 0: then windows are
-- multiples of its microseconds, counted from `q`, before which there is one that ends there; `s` is how much a lease is.

-- The months since January of the year 0, as `calendar_window.rs` counts them: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
local function month_index(at)
  local days = floor(at / 86400000000) + 719468
  local era, day = floor(days / 146097), days % 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  local day_of_year = day - (365 * year + floor(year / 4) - floor(year / 100))
  return (era * 400 + year) * 12 + 2 + floor((5 * day_of_year + 2) / 153)
end

local function start_of_month(index)
  local from_march = index - 2
  local year, month = floor(from_march / 12), from_march % 12
  local days = year * 365 + floor(year / 4) - floor(year / 100) + floor(year / 400) + floor((153 * month + 2) / 5)
  return (days - 719468) * 86400000000
end

local function calendar_end(kind, at)
  if kind.p > 0 then
    return start_of_month((floor(month_index(at) / kind.p) + 1) * kind.p)
  end
  if at < kind.q then
    return kind.q
  end
  return kind.q + (floor((at - kind.q) / kind.window) + 1) * kind.window
end

local calendar_window = windows(calendar_end)

if does_more then
  function calendar_window.give_back(counter, kind, at)
    if counter.used > 0 and calendar_end(kind, at) == counter.ends then
      counter.used = max(counter.used - kind.cost, 0)
    end
  end
end

algorithms[1] = calendar_window

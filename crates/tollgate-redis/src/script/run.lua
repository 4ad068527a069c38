-- Runs the program: the last part of every script. See `decide.lua`.

local TAKE, TAKE_SHADOW, LOOK, LOOK_SHADOW, GIVE_BACK, CLEAR, LEASE = 1, 2, 3, 4, 5, 6, 7

local kinds, n_kinds, at = {}, 0, 1
local packed_kinds = ARGV[2]
while at <= #packed_kinds do
  local algorithm, amount, limit, window, cost, p, q, r, s
  algorithm, amount, limit, window, cost, p, q, r, s, at = unpack_binary('<Bdddddddd', packed_kinds, at)
  n_kinds = n_kinds + 1
  kinds[n_kinds] = {
    algorithm = algorithms[algorithm], amount = amount, limit = limit, window = window, cost = cost,
    p = p, q = q, r = r, s = s,
  }
end

local n_keys = #KEYS
-- What is no string, such as a log, is nothing here. Nearly always this is one call: Lua passes no more than some thousand values.
local AT_ONCE = 4000
local values = call('MGET', unpack(KEYS, 1, min(n_keys, AT_ONCE)))
for first = AT_ONCE + 1, n_keys, AT_ONCE do
  local more = call('MGET', unpack(KEYS, first, min(n_keys, first + AT_ONCE - 1)))
  for i = 1, #more do
    values[first + i - 1] = more[i]
  end
end
-- What the keys held is part of the answer, so counters that are cleared and come again are read as nothing.
local counters, cleared, changed, n_changed = {}, {}, {}, 0

local function open(k, kind)
  local counter = kind.algorithm.read(not cleared[k] and values[k], kind, KEYS[k])
  counters[k] = counter
  return counter
end

-- A counter is written once, at the end, by the algorithm of its kind.
local function change(k, counter, kind)
  counter.changed = kind.algorithm
  n_changed = n_changed + 1
  changed[n_changed] = k
end

local verdicts, n_verdicts, passes = {}, 0, false
local program = ARGV[3]
local length = #program
at = 1
while at <= length do
  local step, n, k, q
  step, n, k, q, at = unpack_binary('<BI2I2I2', program, at)
  if step < GIVE_BACK then
    local first, fits, logs = at - 4, true, false
    local kind, counter
    for i = 1, n do
      if i > 1 then
        k, q, at = unpack_binary('<I2I2', program, at)
      end
      kind = kinds[q]
      counter = counters[k] or open(k, kind)
      logs = logs or kind.algorithm.tell
      fits = (kind.cost == 0 or kind.algorithm.fits(counter, kind)) and fits
    end
    if step == TAKE or step == LOOK then
      passes = fits
    end
    n_verdicts = n_verdicts + 1
    verdicts[n_verdicts] = fits and '1' or '0'
    -- A rule in shadow is charged by itself, if the request passes.
    local counts = passes and fits
    local is_charged = counts and step <= TAKE_SHADOW
    if n == 1 and not logs then
      if is_charged and kind.cost > 0 then
        kind.algorithm.charge(counter, kind)
        if not counter.changed then
          change(k, counter, kind)
        end
      end
    elseif n > 0 and (logs or is_charged) then
      at = first
      for _ = 1, n do
        k, q, at = unpack_binary('<I2I2', program, at)
        kind, counter = kinds[q], counters[k]
        if kind.algorithm.tell then
          kind.algorithm.tell(counter, kind, counts)
        end
        if is_charged and kind.cost > 0 then
          kind.algorithm.charge(counter, kind)
          if not counter.changed then
            change(k, counter, kind)
          end
        end
      end
    end
  else
    local given_at
    if step == GIVE_BACK then
      given_at, at = unpack_binary('<d', program, at)
    end
    for i = 1, n do
      if i > 1 then
        k, q, at = unpack_binary('<I2I2', program, at)
      end
      local kind = kinds[q]
      if step == CLEAR then
        call('DEL', KEYS[k])
        counters[k], cleared[k] = nil, true
      elseif step == GIVE_BACK then
        local counter = counters[k] or open(k, kind)
        kind.algorithm.give_back(counter, kind, given_at)
        if not counter.changed then
          change(k, counter, kind)
        end
      else
        local counter = counters[k] or open(k, kind)
        local leased = kind.algorithm.lease(counter, kind)
        n_verdicts = n_verdicts + 1
        verdicts[n_verdicts] = leased and '1' or '0'
        if leased and not counter.changed then
          change(k, counter, kind)
        end
      end
    end
  end
end

for i = 1, n_changed do
  local k = changed[i]
  local counter = counters[k]
  -- What was cleared after it changed is no more.
  if counter and counter.changed then
    counter.changed.write(counter, KEYS[k])
    counter.changed = false
  end
end

values[n_keys + 1] = now
values[n_keys + 2] = table.concat(verdicts)
for i = 1, #told do
  values[n_keys + 2 + i] = told[i]
end
return values

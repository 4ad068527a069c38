-- Takes one charge of one counter: what most requests come to when they are alone. The last part of such a script, in place of `run.lua`: of
-- the arguments there are the first two, and the answer is the same.

local algorithm, amount, limit, window, cost, p, q, r, s = unpack_binary('<Bdddddddd', ARGV[2])
local kind = { amount = amount, limit = limit, window = window, cost = cost, p = p, q = q, r = r, s = s }
algorithm = algorithms[algorithm]

local key = KEYS[1]
local value = pcall('GET', key)
if type(value) == 'table' then
  -- Something else has this name. Setting it takes its place.
  value = false
end
local counter = algorithm.read(value, kind)
if cost > 0 then
  if not algorithm.fits(counter, kind) then
    return { value, now, '0' }
  end
  algorithm.charge(counter, kind)
  algorithm.write(counter, key)
end
return { value, now, '1' }

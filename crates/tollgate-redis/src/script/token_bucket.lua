-- `token-bucket`: GCRA, as `token_bucket.rs` explains it. A key holds `<ddd`: when the bucket will be full, how many parts of a microsecond
-- later, and how many of these make one: the amount of whoever took last. Of a kind, `p` and `q` are how long its cost takes to be
-- refilled, in microseconds and parts; `r` and `s` how long a bucket takes that is empty. The caller works them out once.

local token_bucket = {}

function token_bucket.read(value)
  local counter = { full_at = 0, parts = 0, amount = 1, micros_after = 0, parts_after = 0, changed = false }
  if value and #value == 24 then
    local full_at, parts, amount = unpack_binary('<ddd', value)
    local counts = parts < amount and (full_at > now or (full_at == now and parts > 0))
    if counts and are_whole(full_at, parts, amount) then
      counter.full_at, counter.parts, counter.amount = full_at, parts, amount
    end
  end
  return counter
end

-- Whether a cost fits, and what is missing once it is taken, as the time that it takes the kind's amount to refill it: microseconds and parts.
function token_bucket.fits(counter, kind)
  if kind.cost > kind.limit then
    return false
  end
  local amount, micros, parts = kind.amount, 0, 0
  if counter.full_at >= now then
    if counter.amount == amount then
      micros, parts = counter.full_at - now, counter.parts
    else
      micros, parts = multiply_divide(counter.full_at - now, counter.amount, amount)
      parts = parts + counter.parts
      local more = floor(parts / amount)
      micros, parts = micros + more, parts - more * amount
    end
  end
  micros, parts = micros + kind.p, parts + kind.q
  if parts >= amount then
    micros, parts = micros + 1, parts - amount
  end
  counter.micros_after, counter.parts_after = micros, parts
  return micros < kind.r or (micros == kind.r and parts <= kind.s)
end

-- Takes what has just been found to fit.
function token_bucket.charge(counter, kind)
  counter.full_at, counter.parts, counter.amount = now + counter.micros_after, counter.parts_after, kind.amount
end

if does_more then
  -- What of a charge cannot have been refilled since, by the faster of both amounts, as time that the bucket's own amount takes.
  local function unpaid(counter, kind, since)
    local micros, parts
    if counter.amount >= kind.amount then
      micros, parts = multiply_divide(kind.cost, kind.window, counter.amount)
      micros = micros - since
    elseif kind.p < since then
      return 0, 0
    else
      micros, parts = multiply_divide(kind.p - since, kind.amount, counter.amount)
      parts = parts + kind.q
      local more = floor(parts / counter.amount)
      micros, parts = micros + more, parts - more * counter.amount
    end
    if micros < 0 then
      return 0, 0
    end
    return micros, parts
  end

  function token_bucket.give_back(counter, kind, at)
    if counter.full_at < now then
      return
    end
    local micros, parts = unpaid(counter, kind, max(now - at, 0))
    micros, parts = counter.full_at - now - micros, counter.parts - parts
    if parts < 0 then
      micros, parts = micros - 1, parts + counter.amount
    end
    if micros < 0 then
      micros, parts = 0, 0
    end
    counter.full_at, counter.parts = now + micros, parts
  end
end

function token_bucket.write(counter, key)
  if counter.full_at < now or (counter.full_at == now and counter.parts == 0) then
    call('DEL', key)
  else
    call('PSETEX', key, ttl_ms(counter.full_at + 1), pack('<ddd', counter.full_at, counter.parts, counter.amount))
  end
end

algorithms[4] = token_bucket

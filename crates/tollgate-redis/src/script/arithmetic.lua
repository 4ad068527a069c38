-- Exact arithmetic beyond what a double holds.

-- The quotient and the remainder of a * b / c. All three are below 2^53, and so must the quotient be, or it is only known to be larger.
local function multiply_divide(a, b, c)
  local product = a * b
  if product < 9007199254740992 then
    local quotient = math.floor(product / c)
    return quotient, product - quotient * c
  end
  -- Bit by bit from the highest: doubling a remainder below 2^52 and adding another leaves it exact.
  local whole, rest = math.floor(b / c), b % c
  local quotient, remainder = 0, 0
  local bit = 2 ^ 52
  while bit >= 1 do
    quotient, remainder = quotient * 2, remainder * 2
    if remainder >= c then
      quotient, remainder = quotient + 1, remainder - c
    end
    if a >= bit then
      a = a - bit
      quotient, remainder = quotient + whole, remainder + rest
      if remainder >= c then
        quotient, remainder = quotient + 1, remainder - c
      end
    end
    bit = bit / 2
  end
  return quotient, remainder
end

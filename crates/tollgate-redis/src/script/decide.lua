-- Decides many requests in one call, each of them all or none, one after the other.
--
-- KEYS     every counter that the requests concern, each once
-- ARGV[1]  the time in microseconds since the Unix epoch, or nothing: then it is the server's
-- ARGV[2]  the kinds of charges, each once: the algorithm and eight numbers (see `batch.rs`), `<Bdddddddd`
-- ARGV[3]  the program: for each request its steps, `<BI2` the step and how many charges it has, then each charge
--          `<I2I2` its key and its kind, both counted from 1, or zeros if it has none; giving back has the time at which it was
--          charged behind the first of them, `<d`
-- ARGV[4]  anything, if the program has other steps than to take and to look: only then they are defined
--
-- Answers the values of KEYS before all this, then the time, a text with `1` for each step that decides something if all its charges fit
-- and else `0`, and for each charge of a sliding log in these steps four numbers (see `sliding_log.lua`). How the other counters stand
-- the caller works out by the same steps: the fewer numbers are sent, the more decisions fit into a second.
--
-- All numbers are integers below 2^53, which doubles hold exactly. Before this text stands `arithmetic.lua`, after it the algorithms
-- that the kinds name and then `run.lua`, so that a call defines only what it needs; or `one.lua`, which needs no program.

local call, pcall = redis.call, redis.pcall
local pack, unpack_binary = struct.pack, struct.unpack
local floor, ceil, min, max, format = math.floor, math.ceil, math.min, math.max, string.format
local does_more = ARGV[4]

local now = tonumber(ARGV[1])
-- Where time is not the server's, keys are kept longer than they count, by as much as clocks may differ.
local slack_ms = now and 3600000 or 0
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local algorithms = {}
-- What the logs have to tell.
local told = {}

-- Whether numbers can be those of a counter. Whatever else has the name of one counts for nothing.
local function are_whole(a, b, c)
  return a >= 0 and a < 9007199254740992 and a % 1 == 0 and b >= 0 and b < 9007199254740992 and b % 1 == 0
    and c >= 0 and c < 9007199254740992 and c % 1 == 0
end

-- Milliseconds until a key counts no more at this time, as a text: to make one of a number takes Redis as long as half the command.
local function ttl_ms(at)
  return format('%d', max(ceil((at - now) / 1000), 1) + slack_ms)
end

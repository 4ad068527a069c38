-- `fixed-window`: a window opens with a key's first charge. Of a kind, `s` is how much a lease is.

local fixed_window = windows(function(kind, at) return at + kind.window end)

if does_more then
  function fixed_window.give_back(counter, kind, at)
    if counter.used > 0 and at < counter.ends and at >= counter.ends - kind.window then
      counter.used = max(counter.used - kind.cost, 0)
    end
  end
end

algorithms[0] = fixed_window

-- SPDX-License-Identifier: MIT
-- Random numbers from a seed: the same on every machine, whoever else uses math.random. By the
-- minimal standard generator of Park and Miller: products stay below 2^53, so doubles are exact.
local random = {}

local MODULUS, MULTIPLIER = 2147483647, 16807

local function state_of(seed)
  local text = tostring(seed)
  local state = 5381
  for i = 1, #text do
    state = (state * 257 + text:byte(i)) % MODULUS
  end
  state = math.max(state, 1)
  for _ = 1, 4 do -- spreads seeds that differ in the last character
    state = state * MULTIPLIER % MODULUS
  end
  return state
end

--- A function that returns the next number, 0 < x < 1, at each call. `seed`: a number or a string.
function random.source(seed)
  local state = state_of(seed)
  return function()
    state = state * MULTIPLIER % MODULUS
    return state / MODULUS
  end
end

--- Exponentially distributed, mean 1.
function random.exponential(uniform)
  return -math.log(uniform())
end

-- By the polar method; the second of each pair is let go.
local function normal(uniform)
  while true do
    local x, y = 2 * uniform() - 1, 2 * uniform() - 1
    local s = x * x + y * y
    if s > 0 and s < 1 then return x * math.sqrt(-2 * math.log(s) / s) end
  end
end

--- Gamma distributed with this shape > 0 and scale 1 (Marsaglia and Tsang, 2000).
function random.gamma(uniform, shape)
  if shape < 1 then
    return random.gamma(uniform, shape + 1) * uniform() ^ (1 / shape)
  end
  local d = shape - 1 / 3
  local c = 1 / math.sqrt(9 * d)
  while true do
    local x = normal(uniform)
    local v = (1 + c * x) ^ 3
    if v > 0 and math.log(uniform()) < 0.5 * x * x + d - d * v + d * math.log(v) then
      return d * v
    end
  end
end

return random

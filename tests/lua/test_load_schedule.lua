-- SPDX-License-Identifier: MIT
-- Intended send times: kinds of arrival, stages, seeds, ends.
local check = dofile((arg[0]:match "^(.*)/" or ".") .. "/check.lua")
local random = require "luaworker.random"
local schedule = require "luaworker.load_schedule"

local function all(settings)
  local out = {}
  for moment in schedule.moments(settings) do
    out[#out + 1] = moment
  end
  return out
end

local function near(got, expected, tolerance, what)
  check.ok(math.abs(got - expected) <= tolerance,
    ("%s: expected %g within %g, got %g"):format(what, expected, tolerance, got))
end

local function mean_and_deviation(values)
  local sum, squares = 0, 0
  for _, v in ipairs(values) do
    sum = sum + v
    squares = squares + v * v
  end
  local mean = sum / #values
  return mean, math.sqrt(squares / #values - mean * mean)
end

local function gaps_of(moments)
  local out, last = {}, 0
  for _, m in ipairs(moments) do
    out[#out + 1] = m - last
    last = m
  end
  return out
end

-- Constant --
local steady = all { rps = 4, n = 5 }
check.eq(table.concat(steady, " "), "0 0.25 0.5 0.75 1", "constant")
check.eq(#all { rps = 10, duration_s = 2 }, 20, "the end is not within the time")
check.eq(#all { rps = 10, duration_s = 2, n = 7 }, 7, "n before the time")
check.eq(#all { rps = 10, duration_s = 0.5, n = 70 }, 5, "the time before n")
check.eq(#all { rps = 0.5, n = 3 }, 3, "below one a second")

-- Poisson and gamma: mean and deviation of the gaps --
for _, case in ipairs {
  { "poisson", nil, 1 }, { "gamma", 1, 1 }, { "gamma", 0.25, 2 }, { "gamma", 4, 0.5 },
} do
  local kind, shape, deviation = case[1], case[2], case[3]
  local moments = all { rps = 20, n = 40000, arrival = kind, burstiness = shape, seed = 7 }
  local mean, spread = mean_and_deviation(gaps_of(moments))
  local what = kind .. " " .. tostring(shape)
  check.eq(#moments, 40000, what)
  near(mean * 20, 1, 0.03, what .. " mean gap")
  near(spread * 20, deviation, 0.06 * deviation, what .. " deviation")
  for i = 2, #moments do
    if moments[i] < moments[i - 1] then check.ok(false, what .. " goes back") end
  end
end

-- The seed --
local function first_ten(seed)
  return table.concat(all { rps = 1, n = 10, arrival = "poisson", seed = seed }, " ")
end
check.eq(first_ten(1), first_ten(1), "the same seed")
check.ok(first_ten(1) ~= first_ten(2), "another seed")
check.ok(first_ten "1" == first_ten(1), "a seed as text")
math.randomseed(5)
local before = first_ten(3)
math.random()
check.eq(first_ten(3), before, "independent of math.random")

-- Stages --
local stages = schedule.parse_stages("10s:1,20s:5,10s:0,10s:1-3")
check.eq(#stages, 4)
local moments = all { stages = stages }
local counts = { 0, 0, 0, 0 }
for _, m in ipairs(moments) do
  local i = m < 10 and 1 or m < 30 and 2 or m < 40 and 3 or 4
  counts[i] = counts[i] + 1
end
check.eq(table.concat(counts, " "), "10 100 0 20", "requests in each stage")
check.eq(schedule.seconds { stages = stages }, 50)
check.eq(schedule.rate_at({ stages = stages }, 15), 5)
check.eq(schedule.rate_at({ stages = stages }, 45), 2)
check.eq(schedule.rate_at({ stages = stages }, 99), 0)
local ramp = all { stages = { { seconds = 100, from = 0, to = 10 } } }
check.eq(#ramp, 500, "a ramp from nothing")
near(ramp[#ramp / 4 + 1], 50, 0.1, "a quarter of a ramp at half its time")
local fall = all { stages = { { seconds = 100, from = 10, to = 0 } } }
near(#fall, 500, 1, "a ramp to nothing")
for _, wrong in ipairs { "", "10s", "10s:", ":5", "x:5", "10s:5,", "10s:-1", "0s:4", "10s:1:2" } do
  local got, why = schedule.parse_stages(wrong)
  check.ok(got == nil and why:find "DURATION:RATE", "stages " .. wrong)
end

-- The generator --
local uniform = random.source "x"
for _ = 1, 1000 do
  local x = uniform()
  if not (x > 0 and x < 1) then check.ok(false, "outside of 0..1") end
end

check.done()

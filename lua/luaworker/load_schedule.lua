-- SPDX-License-Identifier: MIT
-- When requests shall be sent: intended moments, in seconds from the start, by rate and kind of
-- arrival. Rates may change in stages. The moments depend on the settings and the seed alone, never
-- on how the answers come. Pure; called by load_engine.lua.
local base = require "luaworker.base"
local limits = require "luaworker.load_limits"
local random = require "luaworker.random"

local schedule = {}

-- Each draws the next gap in units of the mean gap.
local gaps = {}

function gaps.constant()
  return function() return 1 end
end

function gaps.poisson(uniform)
  return function() return random.exponential(uniform) end
end

--- burstiness is the shape: 1 is poisson, less comes in bursts, more is more even.
function gaps.gamma(uniform, burstiness)
  return function() return random.gamma(uniform, burstiness) / burstiness end
end

schedule.arrivals = gaps

-- How long after a stage's begin `count` requests of it are due. Its rate goes evenly from `from`
-- to `to`, so count = from * t + (to - from) / (2 * seconds) * t^2; nil: not within this stage.
local function moment_in(stage, count)
  local from, slope = stage.from, (stage.to - stage.from) / stage.seconds
  local root = from * from + 2 * slope * count
  if root < 0 then return nil end
  local divisor = from + math.sqrt(root)
  local t = divisor > 0 and 2 * count / divisor or slope > 0 and 0 or stage.seconds
  return t < stage.seconds and t or nil -- at its end the next one has begun
end

local function stage_count(stage)
  return (stage.from + stage.to) / 2 * stage.seconds
end

local function parse_stage(text)
  local duration, rates = text:match "^%s*([%d.]+%a*):([%d.-]+)%s*$"
  local seconds = duration and limits.seconds_of(duration)
  local from, to = (rates or ""):match "^([%d.]+)%-([%d.]+)$"
  from = tonumber(from or rates)
  to = to and tonumber(to) or from
  if not (seconds and from and to) or seconds <= 0 or from < 0 then
    return nil, "expected DURATION:RATE or DURATION:FROM-TO, got "
  elseif seconds > limits.TIME_MOST_S or math.max(from, to) > limits.RATE_MOST then
    return nil, ("at most 168h and %d a second, got "):format(limits.RATE_MOST)
  end
  return { seconds = seconds, from = from, to = to }
end

--- Parses "10s:1,60s:1-20": for 10 s 1 a second, then within 60 s from 1 to 20. Returns
--- { { seconds, from, to } }, or nil and what is wrong.
function schedule.parse_stages(text)
  local stages, total = {}, 0
  for part in (text .. ","):gmatch "([^,]*)," do
    local stage, wrong = parse_stage(part)
    if not stage then return nil, wrong .. base.quote(part) end
    stages[#stages + 1], total = stage, total + stage.seconds
  end
  if total > limits.TIME_MOST_S then return nil, "more than 168h in all" end
  return stages
end

--- Whether anything at all is sent in these stages.
function schedule.has_some(stages)
  local sum = 0
  for _, stage in ipairs(stages) do
    sum = sum + stage_count(stage)
  end
  return sum > 0
end

local function total_seconds(stages)
  local sum = 0
  for _, stage in ipairs(stages) do
    sum = sum + stage.seconds
  end
  return sum
end

-- An endless steady rate, or as long as it shall last.
local function stages_of(settings)
  if settings.stages then return settings.stages end
  local rps = settings.rps
  return { { seconds = settings.duration_s or math.huge, from = rps, to = rps } }
end

-- The moment at which the rates have brought `count` requests.
local function find_moment(state, count)
  while true do
    local stage = state.stages[state.i]
    if not stage then return nil end
    local within = count - state.counted
    local t
    if stage.seconds == math.huge then
      t = within / stage.from
    else
      t = moment_in(stage, within)
    end
    if t then return state.begun + t end
    state.counted = state.counted + stage_count(stage)
    state.begun = state.begun + stage.seconds
    state.i = state.i + 1
  end
end

--- settings: rps or stages, n and duration_s (each may be nil), arrival, burstiness, seed. Returns
--- a function that gives the next intended moment, nil after the last one. The first is at 0 when
--- arrivals are constant. A moment at the very end of the time belongs no more to it.
function schedule.moments(settings)
  local next_gap = gaps[settings.arrival or "constant"](random.source(settings.seed or 1),
    settings.burstiness or 1)
  local state = { stages = stages_of(settings), i = 1, counted = 0, begun = 0 }
  local ending = schedule.seconds(settings) or math.huge
  local count, left = 0, settings.n or math.huge
  local first = settings.arrival == nil or settings.arrival == "constant"
  return function()
    if left <= 0 then return nil end
    left = left - 1
    if not first then count = count + next_gap() end
    first = false
    local moment = find_moment(state, count)
    if not moment or moment >= ending then
      left = 0
      return nil
    end
    return moment
  end
end

--- How long it lasts, seconds; nil: until n requests were sent.
function schedule.seconds(settings)
  if settings.stages then return total_seconds(settings.stages) end
  return settings.duration_s
end

--- The first rate of these stages that is above 0.
function schedule.first_rate(stages)
  for _, stage in ipairs(stages) do
    if stage.from > 0 or stage.to > 0 then return stage.from > 0 and stage.from or stage.to end
  end
end

--- The rate asked for at this moment, requests a second.
function schedule.rate_at(settings, moment)
  if not settings.stages then return settings.rps end
  for _, stage in ipairs(settings.stages) do
    if moment < stage.seconds then
      return stage.from + (stage.to - stage.from) * moment / stage.seconds
    end
    moment = moment - stage.seconds
  end
  return 0
end

return schedule

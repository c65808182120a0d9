-- SPDX-License-Identifier: MIT
-- The result table of a load test, which --json writes and all reports are made from: what the
-- recorder has, what was asked for, whether the client kept up, what a comparison adds, the
-- verdict. docs/load-testing.md lists its members. Called by load.lua.
local base = require "luaworker.base"
local json = require "luaworker.json"
local limits = require "luaworker.load_limits"
local schedule = require "luaworker.load_schedule"
local text = require "luaworker.load_text"

local result = {}

local LATE_S, SHORT, BUSY = 0.010, 0.98, 0.9

-- A second, of so many of which the first came at `first`; nil: there is none.
local function rate(count, first, last)
  return count > 1 and last > first and (count - 1) / (last - first) or nil
end

-- What the flags ask for; of a run that was stopped, as far as it came.
local function asked_of(run)
  local settings = run.settings
  local seconds = schedule.seconds(settings) or settings.rps and run.begun / settings.rps
  local rps = settings.rps or seconds and seconds > 0 and run.begun / seconds or nil
  if settings.stages and run.stopping then rps = rate(run.begun, run.first_due, run.last_due) end
  return { requests = run.begun, seconds = seconds, rps = rps }
end

local function held_text(run)
  return ("%s requests were held back, at most %d at once, up to %s"):format(
    text.number(run.recorder.held), run.limit, text.seconds(run.recorder.longest_held))
end

-- Whether the client itself was what limited the run, and why one can tell.
local function find_saturation(run, reached, delay)
  local reasons = {}
  local own = run.recorder.outcomes.client or 0
  if own > 0 then reasons[1] = text.number(own) .. " requests failed within this machine" end
  if run.recorder.held > 0 then reasons[#reasons + 1] = held_text(run) end
  local due_rate = rate(run.begun, run.first_due or 0, run.last_due or 0)
  local is_open = not run.settings.concurrency
  if is_open and delay and delay.p99 > LATE_S then
    reasons[#reasons + 1] = ("requests left late, p99 %s, at worst %s"):format(
      text.seconds(delay.p99), text.seconds(delay.max))
  elseif is_open and due_rate and reached.rps < due_rate * SHORT
    and run.last_begun - run.last_due > LATE_S then
    reasons[#reasons + 1] = ("%.4g requests/s were reached of %.4g"):format(reached.rps, due_rate)
  end
  if run.cpu_share > BUSY and (#reasons > 0 or not is_open) then
    reasons[#reasons + 1] = ("this program used %.0f %% of a core"):format(run.cpu_share * 100)
  end
  reached.saturated = #reasons > 0
  reached.why = #reasons > 0 and table.concat(reasons, "; ") or nil
end

--- Of a run that is over.
function result.of(run)
  local one = run.recorder:result()
  one.asked = asked_of(run)
  one.reached.rps = rate(run.begun, run.first_due or 0, run.last_begun or 0)
  if not one.reached.rps then one.reached.rps = run.begun == 0 and 0 or one.asked.rps end
  one.reached.cpu_share = run.cpu_share
  find_saturation(run, one.reached, one.latency.schedule_delay)
  return one
end

local added_names = { "ttfb", "ttft", "itl", "service", "e2e" }

--- Adds the comparison with `other`, the result of the same schedule at url: the differences of the
--- same statistics are what the worker adds.
function result.compare(one, other, url)
  local added = {}
  for _, name in ipairs(added_names) do
    local a, b = one.latency[name], other.latency[name]
    if a and b then
      added[name] = {}
      for stat, value in pairs(a) do
        if stat ~= "count" then added[name][stat] = value - b[stat] end
      end
    end
  end
  one.compare = {
    url = text.without_password(url), latency = other.latency, throughput = other.throughput,
    outcomes = other.outcomes, curves = other.curves, reached = other.reached,
    errors = other.errors, added = added,
  }
end

local shown = {
  "script", "route", "n", "rps", "duration_s", "warmup_s", "arrival", "burstiness", "stages",
  "concurrency", "max_concurrency", "seed", "payloads", "timeout_s", "route_timeout_s", "stream",
  "slo", "session", "insecure", "ca", "target", "url", "compare", "endpoint", "command",
}

local function shown_settings(settings, started_at)
  local out = { started_at = started_at, thresholds = json.array {} }
  for _, name in ipairs(shown) do
    local value = settings[name]
    out[name] = type(value) == "string" and text.without_password(value) or value
  end
  for i, one in ipairs(settings.thresholds) do
    out.thresholds[i] = one.text
  end
  return out
end

local function has_failed(one)
  return (one.outcomes.ok or 0) == 0
end

--- Adds what is said of the whole test. exit: 0 good, 1 without a good answer, 99 threshold missed.
function result.close(one, settings, started_at, is_interrupted)
  local all
  one.version, one.program = 1, "luaworker " .. base.ffi.string(base.C.lw_api_version())
  one.settings = shown_settings(settings, started_at)
  one.interrupted = is_interrupted
  one.thresholds, all = limits.judge(settings.thresholds, one)
  local failed = has_failed(one) or one.compare ~= nil and has_failed(one.compare)
  one.exit = failed and 1 or all and 0 or 99
end

return result

-- SPDX-License-Identifier: MIT
-- What a load test's result is held against: the SLO, which tells good requests from others, and
-- thresholds, which tell a good run from a failed one. Reads their texts and judges. Pure.
local base = require "luaworker.base"
local json = require "luaworker.json"

local limits = {
  TIME_MOST_S = 168 * 3600, -- a week; the result has an entry for each second
  RATE_MOST = 1e6, RATE_LEAST = 1 / (168 * 3600), -- requests a second
}

local units = { ms = 1e-3, s = 1, m = 60, h = 3600, us = 1e-6, [""] = 1 }

--- Seconds from "250ms", "1.5s", "2m", "1h" or "10"; nil for anything else.
function limits.seconds_of(text)
  local number, unit = text:match "^%s*(%d*%.?%d+)%s*(%a*)%s*$"
  return number and units[unit] and tonumber(number) * units[unit]
end

-- As above, but with its unit: who means 200 ms and writes 200 would get 200 s, which always hold.
local function limit_of(text)
  local seconds = text:find "%a%s*$" and limits.seconds_of(text)
  return seconds and seconds <= limits.TIME_MOST_S and seconds or nil
end

limits.slo_names = { ttft = true, itl = true, e2e = true }

local function each_part(text)
  return (text .. ","):gmatch "%s*([^,]*),"
end

--- "ttft:200ms,itl:50ms,e2e:2s" → { ttft_s = 0.2, ... }, or nil and what is wrong.
function limits.parse_slo(text)
  local slo = {}
  for part in each_part(text) do
    local name, value = part:match "^(%w+):(.+)$"
    local seconds = value and limit_of(value)
    if not (limits.slo_names[name] and seconds and seconds > 0) then
      return nil, ("expected ttft:TIME, itl:TIME or e2e:TIME, times above 0 with a unit, such as "
        .. "ttft:200ms, got %s"):format(base.quote(part))
    elseif slo[name .. "_s"] then
      return nil, name .. " stands there twice"
    end
    slo[name .. "_s"] = seconds
  end
  return slo
end

--- Whether a request is good: its answer came whole, within every limit. itl is the longest gap
--- between two tokens of it. What came without a token came when it ended.
function limits.is_good(slo, record)
  if record.class ~= "ok" then return false end
  if slo.ttft_s and (record.ttft or record.e2e) > slo.ttft_s then return false end
  if slo.itl_s and record.longest_gap > slo.itl_s then return false end
  return not slo.e2e_s or record.e2e <= slo.e2e_s
end

-- Thresholds --

limits.stats = {
  mean = true, min = true, p50 = true, p90 = true, p95 = true, p99 = true, ["p99.9"] = true,
  max = true,
}
limits.latencies = {
  schedule_delay = true, route = true, queue = true, connect = true, tls = true, ttfb = true,
  ttft = true, itl = true, e2e = true, service = true,
}

-- Those that are no latency: what they are in the result.
limits.figures = {}

local function share(part, result)
  return result.reached.ended > 0 and part / result.reached.ended or 0
end

function limits.figures.errors(result)
  return share(result.reached.ended - (result.outcomes.ok or 0), result)
end
function limits.figures.ok(result)
  return share(result.outcomes.ok or 0, result)
end
function limits.figures.goodput(result)
  return result.goodput and result.goodput.share
end
function limits.figures.rps(result)
  return result.throughput.requests_per_s
end
function limits.figures.tokens_per_s(result)
  return result.throughput.tokens_per_s
end
function limits.figures.workload_per_s(result)
  return result.throughput.workload_per_s
end

local compare = {
  ["<"] = function(a, b) return a < b end,
  ["<="] = function(a, b) return a <= b end,
  [">"] = function(a, b) return a > b end,
  [">="] = function(a, b) return a >= b end,
}

limits.shares = { errors = true, ok = true, goodput = true }

-- Of a figure: "1%" or "0.01" of a share, else a number.
local function value_of(name, text)
  local number, percent = text:match "^(%d*%.?%d+)(%%?)$"
  number = tonumber(number)
  if not number or number > 1e15 then return nil end
  if not limits.shares[name] then return percent == "" and number or nil end
  if percent ~= "" then number = number / 100 end
  return number <= 1 and number or nil
end

local function parse_threshold(text)
  local left, operator, right = text:match "^%s*([%w_.]+)%s*([<>]=?)%s*(.-)%s*$"
  if not left then return nil end
  local name, stat = left:match "^([%w_]+)%.(p?[%w.]+)$"
  if name and limits.latencies[name] and limits.stats[stat] then
    local value = limit_of(right)
    return value and { text = text, name = name, stat = stat, operator = operator, limit = value }
  elseif limits.figures[left] then
    local value = value_of(left, right)
    return value and { text = text, figure = left, operator = operator, limit = value }
  end
end

--- "ttft.p95<200ms,errors<1%" → a list for limits.judge, or nil and what is wrong.
function limits.parse_thresholds(text)
  local thresholds = {}
  for part in each_part(text) do
    local threshold = parse_threshold(part)
    if not threshold then
      return nil, ("expected LATENCY.STATISTIC<TIME with a unit, such as ttft.p95<200ms, or "
        .. "errors, ok, goodput with a share, such as errors<1%%, or rps, tokens_per_s, "
        .. "workload_per_s with a number, got %s"):format(base.quote(part))
    end
    thresholds[#thresholds + 1] = threshold
  end
  return thresholds
end

local function value_in(result, threshold)
  if threshold.figure then return limits.figures[threshold.figure](result) end
  local latency = result.latency[threshold.name]
  return latency and latency[(threshold.stat:gsub("%.", "_"))]
end

--- { { text, value, ok } }, and whether all hold. One about what was not measured does not hold.
function limits.judge(thresholds, result)
  local out, all = json.array {}, true
  for i, threshold in ipairs(thresholds or {}) do
    local value = value_in(result, threshold)
    local ok = value ~= nil and compare[threshold.operator](value, threshold.limit)
    out[i] = { text = threshold.text, value = value, ok = ok }
    all = all and ok
  end
  return out, all
end

return limits

-- SPDX-License-Identifier: MIT
-- The closing report of a load test, for people: text from the result table (load.lua). Pure.
local limits = require "luaworker.load_limits"
local text = require "luaworker.load_text"

local report = {}

local seconds, number, percent = text.seconds, text.number, text.percent

local latency_rows = {
  { "schedule_delay", "sent late by" }, { "route", "route" }, { "queue", "route and wait" },
  { "connect", "connect" }, { "tls", "TLS" }, { "ttfb", "first byte" }, { "ttft", "first token" },
  { "itl", "between tokens" }, { "service", "post to end" }, { "e2e", "end to end" },
}
local stats = { "mean", "p50", "p90", "p95", "p99", "p99_9", "max" }

local function each_line(out, lines, indent)
  for _, line in ipairs(lines) do
    out[#out + 1] = (indent or "") .. line
  end
end

local function latency_table(latency)
  local head = { "latency", "count" }
  for _, stat in ipairs(stats) do
    head[#head + 1] = (stat:gsub("_", "."))
  end
  local rows = { head }
  for _, one in ipairs(latency_rows) do
    local found = latency[one[1]]
    if found then
      local row = { one[2], number(found.count) }
      for _, stat in ipairs(stats) do
        row[#row + 1] = seconds(found[stat])
      end
      rows[#rows + 1] = row
    end
  end
  return text.columns(rows)
end

local function load_line(result)
  local s, asked = result.settings, result.asked
  if s.concurrency then
    return ("CLOSED LOOP: %d clients, each waiting for its answer before its next request: of a "
      .. "slow server they ask less, and these latencies hide what others would have waited"
      ):format(s.concurrency)
  end
  return ("open loop: %s, %s/s asked (%s), %s/s reached, seed %s"):format(
    text.count(asked.requests, "request"), number(asked.rps), s.arrival,
    number(result.reached.rps), s.seed)
end

local function outcome_line(result)
  local parts = {}
  for _, name in ipairs(text.outcome_names(result.outcomes)) do
    parts[#parts + 1] = name .. " " .. number(result.outcomes[name])
  end
  local line = "outcomes: " .. (#parts > 0 and table.concat(parts, ", ") or "none")
  if result.reached.retries > 0 then
    line = line .. "; tried again " .. text.count(result.reached.retries, "time")
  end
  return line
end

local function throughput_line(result)
  local t = result.throughput
  local parts = { ("%s good requests/s"):format(number(t.requests_per_s)) }
  if t.tokens > 0 then
    parts[#parts + 1] = ("%s tokens/s (counted by %s)"):format(number(t.tokens_per_s),
      t.tokens_from == "usage" and "the model's usage" or t.tokens_from == "events"
      and "events of the stream" or "usage where given, else events")
  end
  if t.workload > 0 then parts[#parts + 1] = number(t.workload_per_s) .. " workload/s" end
  return "throughput: " .. table.concat(parts, ", ")
end

local function slo_line(result)
  local parts = {}
  for _, name in ipairs { "ttft", "itl", "e2e" } do
    local limit = result.settings.slo[name .. "_s"]
    if limit then parts[#parts + 1] = name .. " " .. seconds(limit) end
  end
  local goodput = result.goodput
  return ("goodput: %s of all requests within %s, %s/s"):format(percent(goodput.share),
    table.concat(parts, ", "), number(goodput.per_s))
end

local function worker_lines(out, workers)
  if #workers < 2 then return end
  local rows = {
    { "worker", "requests", "good", "failed", "first token p50", "end to end p50", "tokens/s" },
  }
  for _, one in ipairs(workers) do
    rows[#rows + 1] = {
      one.url, number(one.requests), number(one.ok), number(one.failed), seconds(one.ttft_p50),
      seconds(one.e2e_p50), number(one.tokens_per_s),
    }
  end
  out[#out + 1] = ""
  each_line(out, text.columns(rows))
end

local function error_lines(out, errors)
  if #errors == 0 then return end
  out[#out + 1] = ""
  out[#out + 1] = "errors:"
  for i = 1, math.min(#errors, 10) do
    local one = errors[i]
    out[#out + 1] = ("  %sx %s, first after %s: %s"):format(number(one.count), one.class,
      seconds(one.first_at), one.text)
  end
  if #errors > 10 then out[#out + 1] = ("  and %d other kinds"):format(#errors - 10) end
end

local added_rows = {
  { "ttfb", "first byte" }, { "ttft", "first token" }, { "itl", "between tokens" },
  { "service", "post to end" }, { "e2e", "end to end" },
}

local function compare_lines(out, result)
  local compare = result.compare
  if not compare then return end
  out[#out + 1] = ""
  out[#out + 1] = "the same schedule straight to " .. compare.url .. ": "
    .. outcome_line(compare) .. "; " .. throughput_line(compare)
  each_line(out, latency_table(compare.latency))
  local rows = { { "what the worker adds", "p50", "p90", "p95", "p99", "p99.9", "max" } }
  for _, one in ipairs(added_rows) do
    local added = compare.added[one[1]]
    if added then
      local row = { one[2] }
      for i = 2, #stats do
        local value = added[stats[i]]
        row[i] = (value < 0 and "-" or "") .. seconds(math.abs(value))
      end
      rows[#rows + 1] = row
    end
  end
  out[#out + 1] = ""
  each_line(out, text.columns(rows))
end

local function threshold_value(one)
  local name, stat = one.text:match "^%s*([%w_]+)(%.?)"
  if stat == "." then return seconds(one.value) end
  return limits.shares[name] and percent(one.value) or number(one.value)
end

local function threshold_lines(out, thresholds)
  if #thresholds > 0 then out[#out + 1] = "" end
  for _, one in ipairs(thresholds) do
    out[#out + 1] = ("threshold %s: %s (%s)"):format(one.text, one.ok and "holds" or "MISSED",
      one.value == nil and "not measured" or threshold_value(one))
  end
end

--- What can mislead is said first and loudly.
local function warning_lines(out, result)
  if result.interrupted then
    out[#out + 1] = "INTERRUPTED: this is what was measured until then."
  end
  if result.asked.requests == 0 and not result.interrupted then
    out[#out + 1] = "NOTHING WAS SENT: no request was due in this time."
  end
  if result.reached.saturated then
    out[#out + 1] = "SATURATED CLIENT: " .. result.reached.why
  end
  if result.compare and result.compare.reached.saturated then
    out[#out + 1] = "SATURATED CLIENT in the comparison: " .. result.compare.reached.why
  end
end

--- The whole report, lines ending with a newline.
function report.of(result)
  local out, s = {}, result.settings
  local where = s.target == "direct" and "straight to " .. s.url
    or ("endpoint %s by %s"):format(s.endpoint, s.url)
  out[1] = ("%s, %s, %s"):format(s.route, where, seconds(result.reached.seconds))
  warning_lines(out, result)
  out[#out + 1] = load_line(result)
  out[#out + 1] = outcome_line(result)
  out[#out + 1] = throughput_line(result)
  if result.goodput then out[#out + 1] = slo_line(result) end
  out[#out + 1] = ""
  if next(result.latency) then each_line(out, latency_table(result.latency)) end
  worker_lines(out, result.workers)
  error_lines(out, result.errors)
  compare_lines(out, result)
  threshold_lines(out, result.thresholds)
  return table.concat(out, "\n") .. "\n"
end

return report

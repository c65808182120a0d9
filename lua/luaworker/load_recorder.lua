-- SPDX-License-Identifier: MIT
-- What a load test measured: takes one record for each request that has ended, keeps sums,
-- percentiles, and a line for each second, and makes the result of them. Knows nothing of clocks or
-- requests: moments are seconds since the first intended send. Called by load_engine.lua.
--
-- A record: index, intended, sent (the post; nil: never), ended, class ("ok" or what failed),
-- error, worker (URL), workload, tokens, tokens_from, bytes, retries, and durations in seconds, nil
-- when there was none: schedule_delay, route, queue, connect, tls, ttfb, ttft, e2e, service,
-- longest_gap.
local json = require "luaworker.json"
local limits = require "luaworker.load_limits"
local quantile = require "luaworker.quantile"

local recorder = {}

local Recorder = {}
Recorder.__index = Recorder

-- Of every request, and of those whose answer was whole and good.
local LATENCIES_OF_ALL = { "schedule_delay", "route", "queue", "connect", "tls" }
local LATENCIES_OF_GOOD = { "ttfb", "ttft", "service", "e2e" }
local ERRORS_MAX, WORKERS_MAX = 50, 200
local OTHERS = "others"

local function new_quantiles(names, into)
  for _, name in ipairs(names) do
    into[name] = quantile.new()
  end
end

--- gaps: the quantile in which the requests note the gaps between their tokens.
function recorder.new(settings, gaps)
  local self = setmetatable({
    slo = settings.slo, sent = 0, ended = 0, in_flight = 0, waiting = 0,
    held = 0, longest_held = 0,
    good = 0, tokens = 0, workload = 0, bytes = 0, retries = 0,
    outcomes = {}, tokens_from = {}, errors = {}, error_list = json.array {},
    workers = {}, worker_list = {}, latency = { itl = gaps }, timeline = json.array {},
    last_end = 0,
    second_e2e = quantile.new(), second_ttft = quantile.new(),
  }, Recorder)
  new_quantiles(LATENCIES_OF_ALL, self.latency)
  new_quantiles(LATENCIES_OF_GOOD, self.latency)
  self.second = self:_new_second(0)
  return self
end

-- Seconds --

function Recorder:_new_second(t)
  return {
    t = t, asked = 0, sent = 0, ended = 0, ok = 0, failed = 0, tokens = 0, outcomes = {},
  }
end

local function close_second(self)
  local second = self.second
  second.in_flight, second.waiting = self.in_flight, self.waiting
  second.workers_eligible = self.workers_eligible
  if self.second_e2e:count() > 0 then
    second.e2e_p50, second.e2e_p95 = self.second_e2e:at(0.5), self.second_e2e:at(0.95)
    self.second_e2e:clear()
  end
  if self.second_ttft:count() > 0 then
    second.ttft_p50, second.ttft_p95 = self.second_ttft:at(0.5), self.second_ttft:at(0.95)
    self.second_ttft:clear()
  end
  self.timeline[#self.timeline + 1] = second
  self.second = self:_new_second(second.t + 1)
end

--- It is this moment now: seconds before it are over.
function Recorder:advance(moment)
  while moment >= self.second.t + 1 do
    close_second(self)
  end
end

-- Requests --

--- A request that was due at this moment begins now, which may be later.
function Recorder:begin(moment)
  self:advance(moment)
  local second = self.timeline[math.floor(moment) + 1] or self.second
  second.asked = second.asked + 1
  self.in_flight = self.in_flight + 1
end

--- One is posted for the first time.
function Recorder:post(moment)
  self:advance(moment)
  self.sent = self.sent + 1
  self.second.sent = self.second.sent + 1
end

--- It was held back this long by --max-concurrency.
function Recorder:hold(seconds)
  self.held = self.held + 1
  self.longest_held = math.max(self.longest_held, seconds)
end

-- The worker of this URL; beyond so many all are one.
local function find_worker(self, url)
  if not self.workers[url] and #self.worker_list >= WORKERS_MAX then url = OTHERS end
  local one = self.workers[url]
  if not one then
    one = {
      url = url, requests = 0, ok = 0, failed = 0, tokens = 0,
      e2e = quantile.new(), ttft = quantile.new(),
    }
    self.workers[url] = one
    self.worker_list[#self.worker_list + 1] = one
  end
  return one
end

local function note_worker(self, record)
  if not record.worker then return end
  local one = find_worker(self, record.worker)
  one.requests = one.requests + 1
  if record.class ~= "ok" then
    one.failed = one.failed + 1
    return
  end
  one.ok = one.ok + 1
  one.tokens = one.tokens + (record.tokens or 0)
  one.e2e:note(record.e2e)
  if record.ttft then one.ttft:note(record.ttft) end
end

-- Texts that differ in numbers only are one; beyond so many, all of a class are.
local function note_error(self, record)
  local text = record.error or ""
  local key = record.class .. "\0" .. text:gsub("%d+", "#")
  if not self.errors[key] and #self.error_list >= ERRORS_MAX then
    text, key = OTHERS, record.class
  end
  local one = self.errors[key]
  if not one then
    one = { class = record.class, text = text, count = 0, first_at = record.ended }
    self.errors[key] = one
    self.error_list[#self.error_list + 1] = one
  end
  one.count = one.count + 1
end

local function note_good(self, record)
  local second = self.second
  self.workload = self.workload + (record.workload or 0)
  self.tokens = self.tokens + (record.tokens or 0)
  second.tokens = second.tokens + (record.tokens or 0)
  if record.tokens_from then self.tokens_from[record.tokens_from] = true end
  for _, name in ipairs(LATENCIES_OF_GOOD) do
    if record[name] then self.latency[name]:note(record[name]) end
  end
  self.second_e2e:note(record.e2e)
  if record.ttft then self.second_ttft:note(record.ttft) end
end

--- A request has ended.
function Recorder:note(record)
  self:advance(record.ended)
  local second, class = self.second, record.class
  self.in_flight = self.in_flight - 1
  self.ended = self.ended + 1
  self.last_end = math.max(self.last_end, record.ended)
  self.bytes = self.bytes + (record.bytes or 0)
  self.retries = self.retries + (record.retries or 0)
  self.outcomes[class] = (self.outcomes[class] or 0) + 1
  second.outcomes[class] = (second.outcomes[class] or 0) + 1
  second.ended = second.ended + 1
  for _, name in ipairs(LATENCIES_OF_ALL) do
    if record[name] then self.latency[name]:note(record[name]) end
  end
  if class == "ok" then
    second.ok = second.ok + 1
    note_good(self, record)
  else
    second.failed = second.failed + 1
    note_error(self, record)
  end
  note_worker(self, record)
  if self.slo and limits.is_good(self.slo, record) then self.good = self.good + 1 end
end

-- The result --

local function source_of_tokens(found)
  if found.usage and found.events then return "mixed" end
  return found.usage and "usage" or found.events and "events" or "none"
end

local function sorted_workers(self, seconds)
  local out = json.array {}
  for i, one in ipairs(self.worker_list) do
    local counted = one.ok > 0
    out[i] = {
      url = one.url, requests = one.requests, ok = one.ok, failed = one.failed,
      e2e_p50 = counted and one.e2e:at(0.5) or nil,
      ttft_p50 = one.ttft:count() > 0 and one.ttft:at(0.5) or nil,
      tokens_per_s = one.tokens / seconds,
    }
  end
  table.sort(out, function(a, b)
    if a.requests ~= b.requests then return a.requests > b.requests end
    return a.url < b.url
  end)
  return out
end

local function totals(self, seconds)
  local ok = self.outcomes.ok or 0
  return {
    requests_per_s = ok / seconds, tokens_per_s = self.tokens / seconds,
    workload_per_s = self.workload / seconds, bytes_per_s = self.bytes / seconds,
    tokens = self.tokens, workload = self.workload,
    tokens_from = source_of_tokens(self.tokens_from),
  }
end

--- All that was measured, as --json writes it, but for settings, asked and what is judged later.
--- The recorder is at its end.
function Recorder:result()
  self:advance(self.last_end)
  close_second(self)
  local seconds = math.max(self.last_end, 1e-9)
  local result = {
    outcomes = self.outcomes, latency = {}, histograms = {}, curves = {},
    throughput = totals(self, seconds), workers = sorted_workers(self, seconds),
    timeline = self.timeline, errors = self.error_list,
    reached = {
      sent = self.sent, ended = self.ended, seconds = self.last_end, retries = self.retries,
    },
  }
  for name, one in pairs(self.latency) do
    if one:count() > 0 then result.latency[name] = one:summary() end
  end
  for _, name in ipairs { "e2e", "ttft", "itl" } do
    result.histograms[name] = json.array(self.latency[name]:buckets())
    result.curves[name] = json.array(self.latency[name]:curve())
  end
  if self.slo then
    local share = self.ended > 0 and self.good / self.ended or 0
    result.goodput = { good = self.good, share = share, per_s = self.good / seconds }
  end
  table.sort(result.errors, function(a, b) return a.count > b.count end)
  return result
end

return recorder

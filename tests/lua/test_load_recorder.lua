-- SPDX-License-Identifier: MIT
-- What load tests keep of their requests, and how they print numbers.
local check = dofile((arg[0]:match "^(.*)/" or ".") .. "/check.lua")
local quantile = require "luaworker.quantile"
local recorder = require "luaworker.load_recorder"
local text = require "luaworker.load_text"

local function good(ended, more)
  local one = {
    class = "ok", ended = ended, worker = "http://a", workload = 3, tokens = 4, bytes = 10,
    tokens_from = "usage", schedule_delay = 0, queue = 0, ttfb = 0.1, ttft = 0.1, e2e = 0.2,
    service = 0.2, longest_gap = 0,
  }
  for key, value in pairs(more or {}) do
    one[key] = value
  end
  return one
end

local function failed(ended, class, why, worker)
  return { class = class, error = why, ended = ended, e2e = 1, longest_gap = 0, worker = worker }
end

-- Seconds --
local r = recorder.new({}, quantile.new())
r:begin(0.1)
r:post(0.2)
r:advance(3.5)
r:begin(1.9) -- late: asked for in its own second
r:note(good(3.6))
r:note(failed(4.2, "http 500", "no"))
local result = r:result()
local asked, ended = {}, {}
for i, second in ipairs(result.timeline) do
  asked[i], ended[i] = second.asked, second.ended
  check.eq(second.t, i - 1, "seconds in order")
end
check.eq(table.concat(asked, " "), "1 1 0 0 0", "asked by the schedule")
check.eq(table.concat(ended, " "), "0 0 0 1 1", "ended when they ended")
check.eq(result.timeline[4].in_flight, 1, "one still in flight")
check.eq(result.timeline[5].in_flight, 0, "none")
check.eq(result.reached.sent, 1, "posted")
check.eq(result.reached.ended, 2, "ended")
check.eq(result.outcomes.ok, 1, "outcomes")
check.eq(result.outcomes["http 500"], 1, "outcomes")
check.eq(result.latency.e2e.count, 1, "latency is of good answers")
check.eq(result.latency.tls, nil, "what there was none of")
check.eq(result.throughput.tokens, 4, "tokens")
check.eq(result.throughput.tokens_from, "usage", "and whose they are")
check.ok(math.abs(result.throughput.requests_per_s - 1 / 4.2) < 1e-9, "good ones a second")

-- Nothing at all --
local nothing = recorder.new({ slo = { e2e_s = 1 } }, quantile.new()):result()
check.eq(next(nothing.outcomes), nil, "no outcome")
check.eq(nothing.goodput.share, 0, "no goodput")
check.eq(nothing.throughput.tokens_from, "none", "no tokens")

-- Goodput --
local s = recorder.new({ slo = { ttft_s = 0.15, e2e_s = 0.5 } }, quantile.new())
for _, one in ipairs {
  good(1), good(1, { ttft = 0.2 }), good(1, { e2e = 0.6 }), failed(1, "timeout", "late"),
} do
  s:begin(0)
  s:note(one)
end
check.eq(s:result().goodput.share, 0.25, "failures count against it")

-- Bounds --
local many = recorder.new({}, quantile.new())
for i = 1, 500 do
  local letters = string.char(97 + i % 26, 97 + math.floor(i / 26))
  many:begin(i / 1000)
  many:note(failed(i / 1000, "http 500", "of kind " .. letters, "http://w" .. i))
end
local bounded = many:result()
check.eq(#bounded.errors, 51, "kinds of errors")
check.eq(bounded.errors[1].text, "others", "the rest in one")
local sum = 0
for _, one in ipairs(bounded.errors) do
  sum = sum + one.count
end
check.eq(sum, 500, "none is forgotten")
check.eq(#bounded.workers, 201, "workers")
check.eq(bounded.workers[1].requests, 300, "the rest in one")

-- Numbers --
for value, shown in pairs {
  [0] = "0", [1.5e-5] = "15 us", [0.0025] = "2.5 ms", [0.9996] = "1000 ms", [1.234] = "1.23 s",
  [119.96] = "120 s", [125] = "2:05", [3725] = "1:02:05",
} do
  check.eq(text.seconds(value), shown, "seconds " .. value)
end
for value, shown in pairs {
  [0.5] = "0.5", [12.34] = "12.3", [999.7] = "1000", [1234] = "1,234", [1234567] = "1,234,567",
  [12345] = "12,345", [123456] = "123,456",
} do
  check.eq(text.number(value), shown, "number " .. value)
end
check.eq(text.percent(0.99987), "99.99 %", "percent")
check.eq(text.number(nil), "-", "no number")
check.done()

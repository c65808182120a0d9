-- SPDX-License-Identifier: MIT
-- One request of a load test as load_recorder.lua takes it, filled in from what a shot measured.
-- Moments are seconds since the first intended send. Called by load_target.lua.
local base = require "luaworker.base"
local text = require "luaworker.load_text"

local record = {}

local now = base.C.lw_api_now
local BROKEN_MOST = 8

-- No connection, and the server is not to blame: files or ports of this machine are used up.
local function is_own_fault(said)
  return said:find("Too many open files", 1, true)
    or said:find("Cannot assign requested address", 1, true)
end

local function class_of(result)
  if result.outcome == "connect" and is_own_fault(result.error) then return "client" end
  if result.outcome ~= "ok" then return result.outcome end
  local status = result.status
  return status >= 200 and status < 300 and "ok" or "http " .. status
end

-- The last `"usage": {...}` of the answer; streams may say `"usage": null` in all events but one.
-- Those that are never closed cost a look at all behind them: after some of them it is no JSON.
local function last_usage(answer)
  local places, at = {}, answer:find('"usage"', 1, true)
  while at do
    places[#places + 1] = at + 7
    at = answer:find('"usage"', at + 7, true)
  end
  local broken = 0
  for i = #places, 1, -1 do
    local usage = answer:match('^%s*:%s*(%b{})', places[i])
    if usage or broken == BROKEN_MOST then return usage end
    if answer:find('^%s*:%s*{', places[i]) then broken = broken + 1 end
  end
end

-- None where it says more than doubles count to: the result must stay one that JSON can hold.
local function tokens_in(usage)
  local count = tonumber(usage:match '"completion_tokens"%s*:%s*(%d+)'
    or usage:match '"output_tokens"%s*:%s*(%d+)')
  return count and count <= 2 ^ 53 and count or nil
end

-- What the model counted itself, or the events that came.
local function fill_tokens(one, result)
  local usage = last_usage(result:tail())
  local counted = usage and tokens_in(usage)
  if counted then
    one.tokens, one.tokens_from = counted, "usage"
  elseif result.is_stream then
    one.tokens, one.tokens_from = result.events, "events"
  end
end

local function error_of(result, class)
  if class:sub(1, 4) ~= "http" then return text.plain(result.error) end
  local said = text.plain(result:tail())
  return said ~= "" and said or "(an empty body)"
end

--- How the request ended, by its last post. `one` has index, intended, workload, schedule_delay,
--- route, retries already; due: its intended moment.
function record.fill(one, run, result, due)
  local class, started = class_of(result), result.started
  one.class, one.status = class, result.status
  one.sent, one.ended = started - run.start, result.ended - run.start
  one.queue, one.bytes, one.longest_gap = started - due, result.bytes, result.longest_gap
  one.e2e, one.service = result.ended - due, result.ended - started
  if not result.reused and result.sent > 0 then
    one.connect = result.dns_s + result.connect_s
    if result.tls_s > 0 then one.tls = result.tls_s end
  end
  if result.retried then one.retries = (one.retries or 0) + 1 end
  if result.head > 0 then one.ttfb = result.head - started end
  if result.first > 0 then one.ttft = result.first - due end
  if class == "ok" then
    fill_tokens(one, result)
  else
    one.error = error_of(result, class)
  end
end

--- There is no answer: why, as a class of outcomes and a sentence.
function record.fail(one, run, due, class, why)
  local moment = now()
  one.class, one.error = class, text.plain(why)
  one.ended, one.e2e, one.longest_gap = moment - run.start, moment - due, 0
end

return record

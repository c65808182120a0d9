-- SPDX-License-Identifier: MIT
-- One request of a load test as load_recorder.lua takes it, filled in from what a shot measured.
-- Moments are seconds since the first intended send. Called by load_target.lua.
local base = require "luaworker.base"

local record = {}

local now = base.C.lw_api_now
local ERROR_MOST = 200

-- No connection, and the server is not to blame: files or ports of this machine are used up.
local function is_own_fault(text)
  return text:find("Too many open files", 1, true)
    or text:find("Cannot assign requested address", 1, true)
end

local function class_of(result)
  if result.outcome == "connect" and is_own_fault(result.error) then return "client" end
  if result.outcome ~= "ok" then return result.outcome end
  local status = result.status
  return status >= 200 and status < 300 and "ok" or "http " .. status
end

-- The last `"usage": {...}` of the text; streams may say `"usage": null` in all events but one.
local function last_usage(text)
  local usage, from = nil, 1
  while true do
    local at, stop = text:find('"usage"', from, true)
    if not at then return usage end
    usage, from = text:match('^%s*:%s*(%b{})', stop + 1) or usage, stop + 1
  end
end

local function tokens_in(usage)
  return tonumber(usage:match '"completion_tokens"%s*:%s*(%d+)'
    or usage:match '"output_tokens"%s*:%s*(%d+)')
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

-- What others sent is shown on terminals.
local function error_of(result, class)
  if class:sub(1, 4) ~= "http" then return result.error end
  return (result:tail():sub(1, ERROR_MOST):gsub("%s+", " "):gsub("%c", "?"))
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
function record.fail(one, run, due, class, text)
  local moment = now()
  one.class, one.error = class, text
  one.ended, one.e2e, one.longest_gap = moment - run.start, moment - due, 0
end

return record

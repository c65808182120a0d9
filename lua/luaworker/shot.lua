-- SPDX-License-Identifier: MIT
-- One measured request, for load tests; exchange/shot.h says what is measured, and how honestly.
--
--   local result = shot.post(url, '{"prompt": "hi"}', { gaps = quantile.new(), timeout = 600 })
--   print(result.outcome, result.status, result.first - result.started, result:tail())
local base = require "luaworker.base"
local await = require "luaworker.await"

local C, AGAIN = base.C, base.AGAIN
local text, span = base.text, base.span
local ffi = base.ffi
local ffi_string = ffi.string
local wait = await.wait
-- Loops that yield are never compiled, and there each look into C costs as much as the call.
local shot_wait = C.lw_api_shot_wait

local shot = {}

local outcomes = {
  [C.LW_SHOT_OK] = "ok", [C.LW_SHOT_CONNECT] = "connect", [C.LW_SHOT_TLS] = "tls",
  [C.LW_SHOT_TIMEOUT] = "timeout", [C.LW_SHOT_BROKEN] = "broken",
  [C.LW_SHOT_PROTOCOL] = "protocol", [C.LW_SHOT_CANCELLED] = "cancelled",
}
local WHOLE = C.LW_SHOT_WHOLE

local Result = {}
Result.__index = Result

--- The body: all of it, or its last 16 KB.
function Result:tail()
  return self._tail
end

--- A field named in options.keep; with statuses from 300 on "retry-after" and "content-type", too.
--- nil when there was none.
function Result:header(name)
  return self._fields[name]
end

-- Moments are those of base.C.lw_api_now(), 0 when it did not come to that.
local function result_of(handle, r, fields)
  C.lw_api_shot_tail(handle, span)
  return setmetatable({
    outcome = outcomes[r.outcome], status = r.status, is_stream = r.kind ~= WHOLE,
    started = r.started, sent = r.sent, head = r.head, first = r.first, last = r.last,
    ended = r.ended, dns_s = r.dns_s, connect_s = r.connect_s, tls_s = r.tls_s,
    bytes = r.bytes, events = r.events, gaps = r.gaps, longest_gap = r.max_gap_s,
    reused = r.reused ~= 0, retried = r.retried ~= 0,
    error = r.outcome ~= C.LW_SHOT_OK and ffi_string(C.lw_api_shot_error(handle)) or nil,
    _tail = text(span), _fields = fields,
  }, Result)
end

local kept_of_failures, none = { "retry-after", "content-type" }, {}

local function add_fields(handle, names, into)
  for i = 1, #names do
    local name = names[i]
    if C.lw_api_shot_header_get(handle, name, #name, span) ~= 0 then into[name] = text(span) end
  end
  return into
end

local function headers_of(plan, options)
  for name, value in pairs(options.headers or { ["Content-Type"] = "application/json" }) do
    value = tostring(value)
    if C.lw_api_plan_header(plan, name, #name, value, #value) ~= base.OK then
      error("not a legal header field: " .. name, 4)
    end
  end
end

local function timeouts_of(plan, timeout)
  if type(timeout) ~= "table" then timeout = { total = timeout } end
  C.lw_api_plan_timeouts(plan, timeout.connect or 0, timeout.first_byte or 0, timeout.idle or 0,
    timeout.total or 0)
end

local function plan_of(method, options)
  local plan = ffi.gc(C.lw_api_plan_new(method, #method), C.lw_api_plan_free)
  headers_of(plan, options)
  if options.timeout then timeouts_of(plan, options.timeout) end
  if options.gaps then C.lw_api_plan_note_gaps(plan, options.gaps.handle) end
  if options.stream then C.lw_api_plan_expect_stream(plan) end
  return plan
end

-- Plans by their options, by method.
local plans = setmetatable({}, { __mode = "k" })

local function find_plan(method, options)
  local by_method = plans[options]
  if not by_method then
    by_method = {}
    plans[options] = by_method
  end
  local plan = by_method[method] or plan_of(method, options)
  by_method[method] = plan
  return plan
end

local function fire(method, url, body, options)
  return C.lw_api_shot_fire(find_plan(method, options), url, #url, body, body and #body or 0)
end

-- In a function of its own, since nothing with a loop that yields is compiled.
local function finish(handle, options)
  local r = C.lw_api_shot_result(handle)
  local fields = none
  if r.status >= 300 then fields = add_fields(handle, kept_of_failures, {}) end
  if options.keep then
    fields = add_fields(handle, options.keep, fields == none and {} or fields)
  end
  local result = result_of(handle, r, fields)
  C.lw_api_shot_free(handle)
  return result
end

--- Sends a request and waits for its end. body: a string or nil. options, which many requests
--- share and which stay as they are after the first: headers (else a body is said to be JSON),
--- timeout (seconds for all of it, or { connect, first_byte, idle, total }), gaps (a quantile, for
--- the gaps between events), stream (one is expected), keep (names of fields, in lower case).
function shot.request(method, url, body, options)
  options = options or none
  await.task()
  local handle = fire(method, url, body, options)
  local code = shot_wait(handle)
  while code == AGAIN do
    wait()
    code = shot_wait(handle)
  end
  local result = finish(handle, options)
  await.check_cancel(code)
  return result
end

function shot.post(url, body, options)
  return shot.request("POST", url, body, options)
end

return shot

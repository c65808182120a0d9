-- SPDX-License-Identifier: MIT
-- Where a load test's requests go: straight to a URL, or to the workers that an autoscaler names,
-- with all that clients do there: polling for a route, trying again after 429 and after a worker
-- that died. A target sends one request and fills in its record. Called by load_engine.lua.
local base = require "luaworker.base"
local await = require "luaworker.await"
local http = require "luaworker.http"
local json = require "luaworker.json"
local shot = require "luaworker.shot"

local target = {}

local now = base.C.lw_api_now
local POLL_S, ROUTE_CALL_S, RETRY_AFTER_S = 1, 10, 1
local DEAD_WORKERS_MAX = 3

-- Filling a record --

local function class_of(result)
  if result.outcome ~= "ok" then return result.outcome end
  return result.status >= 200 and result.status < 300 and "ok" or "http " .. result.status
end

-- The last `"usage": {...}` of the text. Nothing here looks at a byte more than a few times.
local function last_usage(text)
  local at, from = nil, 1
  while true do
    local found, stop = text:find('"usage"', from, true)
    if not found then break end
    at, from = found, stop + 1
  end
  return at and text:match('^"usage"%s*:%s*(%b{})', at)
end

-- What the model counted itself, or the events that came.
local function fill_tokens(record, result)
  local usage = last_usage(result:tail())
  local counted = usage and tonumber(usage:match '"completion_tokens"%s*:%s*(%d+)')
  if counted then
    record.tokens, record.tokens_from = counted, "usage"
  elseif result.is_stream then
    record.tokens, record.tokens_from = result.events, "events"
  end
end

local function error_of(result, class)
  if class:find "^http" then
    return (result:tail():sub(1, 200):gsub("%s+", " "))
  end
  return result.error
end

-- run.start: the clock when the first request was due.
local function fill(run, record, result, due)
  local class = class_of(result)
  record.class, record.status = class, result.status
  record.sent, record.ended = result.started - run.start, result.ended - run.start
  record.queue, record.bytes = result.started - due, result.bytes
  record.connect = not result.reused and result.dns_s + result.connect_s or nil
  record.tls = result.tls_s > 0 and result.tls_s or nil
  record.longest_gap = result.longest_gap
  if result.retried then record.retries = (record.retries or 0) + 1 end
  record.e2e, record.service = result.ended - due, result.ended - result.started
  if result.head > 0 then record.ttfb = result.head - result.started end
  if result.first > 0 then record.ttft = result.first - due end
  if class == "ok" then
    fill_tokens(record, result)
  else
    record.error = error_of(result, class)
  end
end

--- There is no answer: why, as a class of outcomes and a sentence.
function target.fail(run, record, due, class, text)
  local moment = now()
  record.class, record.error = class, text
  record.ended, record.e2e, record.longest_gap = moment - run.start, moment - due, 0
end

local function post(run, record, due, url, body)
  run.recorder:post(now() - run.start)
  record.worker = url:match "^(%a+://[^/]+)" or url
  local result = shot.post(url, body, run.shot_options)
  fill(run, record, result, due)
  return result
end

-- Straight --

local Direct = {}
Direct.__index = Direct

--- To `url`. is_bare: the payload alone; else in an envelope with an empty signature, for workers
--- that check none. body_of: the member of a payload that is sent.
function target.direct(url, is_bare, body_of)
  return setmetatable({ url = url, is_bare = is_bare, body_of = body_of or "json" }, Direct)
end

local ENVELOPE = '{"auth_data":{"cost":%.17g,"endpoint":"load","reqnum":%d,"request_idx":%d,'
  .. '"signature":"","url":""},"payload":%s}'

function Direct:send(run, record, one, due)
  local body = one[self.body_of]
  if not self.is_bare then
    body = ENVELOPE:format(one.workload, record.index, record.index, body)
  end
  post(run, record, due, self.url, body)
end

-- By an autoscaler --

local Autoscaled = {}
Autoscaled.__index = Autoscaled

--- settings: url, key, endpoint, route_timeout_s; path: the workers' route.
function target.autoscaled(settings, path)
  return setmetatable({
    url = settings.url, key = settings.key, endpoint = settings.endpoint, path = path,
    patience_s = settings.route_timeout_s,
  }, Autoscaled)
end

function Autoscaled:ask(path, body)
  local response, err = http.post(self.url .. path, {
    headers = { Authorization = "Bearer " .. self.key }, json = body,
    timeout = { connect = 5, total = ROUTE_CALL_S },
  })
  if not response then return nil, err end
  local ok, text = pcall(response.body, response)
  if not ok then return nil, tostring(text) end
  if response.status ~= 200 then
    return nil, ("the autoscaler answered %d: %s"):format(response.status, text:sub(1, 200))
  end
  return text
end

-- One look: the route and its text as it came (some signatures are over its numbers as they are
-- spelled), or nil, why, and perhaps that it is final.
local function look_for_route(self, body)
  local text, err = self:ask("/route/", body)
  if not text then return nil, err, true end
  local route, wrong = json.decode(text)
  if type(route) ~= "table" then
    return nil, "the autoscaler's answer is not a JSON object: " .. tostring(wrong), true
  end
  if type(route.url) == "string" then return route, text end
  body.request_idx = route.request_idx or body.request_idx
  return nil, "no worker is free: " .. tostring(route.status)
end

--- Polls until a worker is free, at the longest until `deadline`.
function Autoscaled:get_route(run, cost, deadline)
  local body = {
    endpoint = self.endpoint, api_key = self.key, cost = cost, request_idx = 0,
    replay_timeout = 60,
  }
  local is_waiting = false
  while true do
    local route, text, is_final = look_for_route(self, body)
    if route or is_final or now() > deadline then
      if is_waiting then run.recorder.waiting = run.recorder.waiting - 1 end
      return route, text
    end
    if not is_waiting then
      is_waiting = true
      run.recorder.waiting = run.recorder.waiting + 1
    end
    await.sleep(POLL_S)
  end
end

-- Whether a client would try again: told to come later, or the worker is gone and had not begun.
local function wants_retry(result, deaths)
  if result.outcome == "ok" then return result.status == 429 end
  return (result.outcome == "connect" or result.outcome == "broken") and result.head == 0
    and deaths < DEAD_WORKERS_MAX
end

local function wait_before_retry(result)
  if result.outcome ~= "ok" then return end
  await.sleep(tonumber(result:header "retry-after") or RETRY_AFTER_S)
end

local function envelope(text, one, session_id)
  local session = session_id and ',"session_id":' .. json.encode(session_id) or ""
  return ('{"auth_data":%s,"payload":%s%s}'):format(text, one.json, session)
end

function Autoscaled:send(run, record, one, due)
  local deadline, deaths = now() + self.patience_s, 0
  record.route = 0
  while true do
    local begun, session = now(), self.session
    local route, text = session and session.route, session and session.text
    if not route then route, text = self:get_route(run, one.workload, deadline) end
    record.route = record.route + now() - begun
    if not route then return target.fail(run, record, due, "route", text) end
    local result = post(run, record, due, route.url .. self.path,
      envelope(text, one, session and session.id))
    if not wants_retry(result, deaths) or now() > deadline then return end
    if result.outcome ~= "ok" then deaths = deaths + 1 end
    record.retries = (record.retries or 0) + 1
    wait_before_retry(result)
  end
end

-- Sessions --

--- Opens a session for all requests to come. True, or nil and why not.
function Autoscaled:open_session(run, lifetime_s)
  local route, text = self:get_route(run, 100, now() + self.patience_s)
  if not route then return nil, text end
  local body = ('{"auth_data":%s,"payload":{"lifetime":%d}}'):format(text, lifetime_s)
  local result = shot.post(route.url .. "/session/create", body, run.shot_options)
  local answer = result.outcome == "ok" and json.decode(result:tail())
  if result.status ~= 201 or type(answer) ~= "table" then
    return nil, ("no session at %s: %s"):format(route.url,
      result.outcome == "ok" and result:tail():sub(1, 200) or result.error)
  end
  self.session = { id = answer.session_id, route = route, text = text }
  return true
end

function Autoscaled:close_session(run)
  local session = self.session
  if not session then return end
  self.session = nil
  local body = ('{"session_id":%s,"session_auth":%s}'):format(json.encode(session.id), session.text)
  shot.post(session.route.url .. "/session/end", body, run.shot_options)
end

-- What autoscalers say of a worker that has come up and not failed.
local able = { idle = true, ready = true, active = true, loaded = true, working = true }

--- How many workers could take work, as far as the autoscaler tells: nil when it does not.
function Autoscaled:count_workers()
  local text = self:ask("/get_endpoint_workers/", { id = self.endpoint, api_key = self.key })
  local list = text and json.decode(text)
  if type(list) ~= "table" then return nil end
  local count = 0
  for _, one in ipairs(list) do
    if type(one) == "table" and able[tostring(one.status):lower()] then count = count + 1 end
  end
  return count
end

return target

-- SPDX-License-Identifier: MIT
-- Where a load test's requests go: straight to a URL, or to the workers that an autoscaler names,
-- with all that clients do there: polling for a route, trying again after 429 and after a worker
-- that died, sessions. A target sends one request and fills in its record. Called by
-- load_engine.lua.
local base = require "luaworker.base"
local await = require "luaworker.await"
local client_route = require "luaworker.client_route"
local http = require "luaworker.http"
local json = require "luaworker.json"
local record = require "luaworker.load_record"
local shot = require "luaworker.shot"
local text = require "luaworker.load_text"

local target = {}

local now = base.C.lw_api_now
local CALL_S, SLICE_S = 10, 0.2
local DEAD_WORKERS_MAX, AFTER_DEATH_S = 3, 0.25
local SESSION_S, SESSION_WORKLOAD = 600, 100

-- Names of servers, by URL. An autoscaler that names ever others does not fill the memory.
local origins, origin_count, ORIGINS_MOST = {}, 0, 10000

local function origin_of(url)
  local origin = origins[url]
  if not origin then
    if origin_count >= ORIGINS_MOST then origins, origin_count = {}, 0 end
    origin = url:match "^%a+://[^/]+" or url:match "^unix:[^:]*" or url
    origin = text.plain(text.without_password(origin))
    origins[url], origin_count = origin, origin_count + 1
  end
  return origin
end

local function join(url, path)
  return (url:find "^unix:[^:]*$" and url .. ":" or url) .. path
end

local function post(run, one, due, url, body)
  if not one.worker then run.recorder:post(now() - run.start) end
  one.worker = origin_of(url)
  local result = shot.post(url, body, run.shot_options)
  record.fill(one, run, result, due)
  return result
end

-- Straight --

local Direct = {}
Direct.__index = Direct

--- To `path` at `url`. is_bare: the payload alone; else in an envelope with an empty signature, for
--- workers that check none. body_of: the member of a payload that is sent.
function target.direct(url, path, is_bare, body_of)
  return setmetatable({ url = join(url, path), is_bare = is_bare, body_of = body_of or "json" },
    Direct)
end

local AUTH = '{"cost":%.17g,"endpoint":"load","reqnum":%d,"request_idx":%d,"signature":"","url":""}'

function Direct.open()
  return true
end

function Direct.close() end

function Direct:send(run, one, payload, due)
  local body = payload[self.body_of]
  if not self.is_bare then
    local auth = AUTH:format(payload.workload, one.index, one.index)
    body = client_route.envelope(auth, body)
  end
  post(run, one, due, self.url, body)
end

-- By an autoscaler --

local Autoscaled = {}
Autoscaled.__index = Autoscaled

--- settings: url, endpoint_key, endpoint, route_timeout_s, session; path: the workers' route;
--- is_bare: they want the payload alone.
function target.autoscaled(settings, path, is_bare)
  return setmetatable({
    url = settings.url, key = settings.endpoint_key,
    id = settings.endpoint_id or settings.endpoint, path = path, is_bare = is_bare,
    patience_s = settings.route_timeout_s, in_session = settings.session,
    asker = client_route.new(settings.url, settings.endpoint_key, settings.endpoint),
    session_options = { timeout = { connect = 5, total = CALL_S } },
  }, Autoscaled)
end

-- Polls until a worker is free or the run is stopped.
local function get_route(self, run, cost, deadline)
  local is_waiting = false
  local route, route_text = self.asker:get(cost, deadline, function()
    if not is_waiting then
      is_waiting = true
      run.recorder.waiting = run.recorder.waiting + 1
    end
    return run.stopping
  end)
  if is_waiting then run.recorder.waiting = run.recorder.waiting - 1 end
  return route, route_text
end

-- Sessions: all requests have one; it ends with its worker, and then the next request opens another

local function open_session(self, run, deadline)
  local route, route_text = get_route(self, run, SESSION_WORKLOAD, deadline)
  if not route then return nil, route_text end
  local body = ('{"auth_data":%s,"payload":{"lifetime":%d}}'):format(route_text, SESSION_S)
  local result = shot.post(route.url .. "/session/create", body, self.session_options)
  local answer = result.outcome == "ok" and json.decode(result:tail())
  if result.status ~= 201 or type(answer) ~= "table" or type(answer.session_id) ~= "string" then
    return nil, ("no session at %s: %s"):format(origin_of(route.url), result.outcome == "ok"
      and ("it answered %d: %s"):format(result.status, text.plain(result:tail())) or result.error)
  end
  return { id = answer.session_id, route = route, text = route_text }
end

-- The session that all share; one opens it, others wait for that. Or nil and why not.
local function need_session(self, run, deadline)
  while self.opening do
    await.sleep(SLICE_S / 10)
  end
  if self.session then return self.session end
  self.opening = true
  local session, why = open_session(self, run, deadline)
  self.opening, self.session = false, session
  return session, why
end

--- Before the first request, if there is something to open: true, or nil and why it can't be.
function Autoscaled:open(run)
  if not self.in_session then return true end
  local session, why = need_session(self, run, now() + self.patience_s)
  return session and true, why
end

--- At the end of all.
function Autoscaled:close()
  local session = self.session
  if not session then return end
  self.session = nil
  local body = ('{"session_id":%s,"session_auth":%s}'):format(json.encode(session.id), session.text)
  shot.post(session.route.url .. "/session/end", body, self.session_options)
end

-- The request itself

-- Where to post to, and with what: { url, text, session }; or nil and why not.
local function find_worker(self, run, one, cost, deadline)
  if not self.in_session then
    local begun = now()
    local route, route_text = get_route(self, run, cost, deadline)
    one.route = (one.route or 0) + now() - begun
    return route and { url = route.url, text = route_text }, route_text
  end
  local session, why = need_session(self, run, deadline)
  return session and { url = session.route.url, text = session.text, session = session }, why
end

local function is_dead(result)
  return (result.outcome == "connect" or result.outcome == "broken") and result.head == 0
end

-- Whether a client would try again, after how many seconds: when it was told to come later, when
-- the worker is gone and had not begun, when its session has ended.
local function retry_after(result, deaths)
  if is_dead(result) then
    return deaths <= DEAD_WORKERS_MAX and AFTER_DEATH_S * 2 ^ (deaths - 1) or nil
  elseif result.outcome ~= "ok" then
    return nil
  elseif result.status == 429 then
    return client_route.retry_after(result)
  end
end

-- False when the run was stopped meanwhile.
local function sleep(run, seconds)
  local ending = now() + seconds
  while not run.stopping and now() < ending do
    await.sleep(math.min(SLICE_S, math.max(ending - now(), 0)))
  end
  return not run.stopping
end

local function body_for(self, worker, payload)
  if self.is_bare then return payload.json end
  return client_route.envelope(worker.text, payload.json, worker.session and worker.session.id)
end

-- One try. How long to wait before the next one; nil: it is over.
local function try(self, run, one, payload, due, deadline)
  local worker, why = find_worker(self, run, one, payload.workload, deadline)
  if not worker then
    record.fail(one, run, due, run.stopping and "cancelled" or "route", why)
    return nil
  end
  local result = post(run, one, due, worker.url .. self.path, body_for(self, worker, payload))
  local lost = worker.session and (is_dead(result) or result.status == 410)
  if lost and self.session == worker.session then self.session = nil end
  if is_dead(result) or lost then one.deaths = (one.deaths or 0) + 1 end
  if lost and result.status == 410 and one.deaths <= DEAD_WORKERS_MAX then return 0 end
  return retry_after(result, one.deaths)
end

function Autoscaled:send(run, one, payload, due)
  local deadline = now() + self.patience_s
  while true do
    local wait_s = try(self, run, one, payload, due, deadline)
    if not wait_s or now() + wait_s > deadline or not sleep(run, wait_s) then return end
    one.retries = (one.retries or 0) + 1
  end
end

-- Its workers --

-- What autoscalers say of a worker that has come up and not failed.
local able = { idle = true, ready = true, active = true, loaded = true, working = true }

--- How many workers could take work, as far as the autoscaler tells: nil when it does not.
function Autoscaled:count_workers()
  local response = http.post(self.url .. "/get_endpoint_workers/", {
    headers = { Authorization = "Bearer " .. self.key }, timeout = { connect = 5, total = CALL_S },
    json = { id = self.id, api_key = self.key },
  })
  if not response then return nil end
  local ok, list = pcall(response.json, response)
  if not ok or response.status ~= 200 or type(list) ~= "table" then return nil end
  local count = 0
  for _, one in ipairs(list) do
    if type(one) == "table" and able[tostring(one.status):lower()] then count = count + 1 end
  end
  return count
end

return target

-- SPDX-License-Identifier: MIT
-- A small autoscaler for one machine: what it knows of workers and requests, and its answers
-- (protocol.md §3, §4, §7). Speaks decoded values only; program/autoscaler.lua puts it on a port.
-- Both tables are bounded: workers that fall silent are dropped, the oldest requests are forgotten.
local base = require "luaworker.base"
local json = require "luaworker.json"

local autoscaler = {}

local STALE_AFTER_S = 60
local MAX_WORKERS = 1000
local MAX_REQUESTS = 10000
local MIN_PERF = 1e-5

local Autoscaler = {}
Autoscaler.__index = Autoscaler

--- A new RSA key: its public half (PEM) and a function for `sign` below. Takes about 0.1 s.
function autoscaler.new_key()
  local signer = base.C.lw_api_signer_new()
  if signer == nil then error("could not make an RSA key", 2) end
  signer = base.ffi.gc(signer, base.C.lw_api_signer_free)
  local span = base.span
  if base.C.lw_api_signer_public_pem(signer, span) ~= base.OK then
    error("could not print the RSA key", 2)
  end
  return base.text(span), function(text)
    if base.C.lw_api_signer_sign(signer, text, #text, span) ~= base.OK then
      return nil, "could not sign"
    end
    return base.text(span)
  end
end

--- options: endpoint (its name), sign (text → base64 or nil, err), now (→ seconds, monotonic),
--- scheme ("url" when nil).
function autoscaler.new(options)
  return setmetatable({
    endpoint = options.endpoint,
    sign = options.sign,
    now = options.now,
    scheme = options.scheme or "url",
    workers = {}, -- key → { key, report, seen_at, assigned }
    worker_count = 0,
    requests = {}, -- request_idx → { routed_at, cost }
    oldest_request_idx = 1,
    last_request_idx = 0,
    last_reqnum = 0,
  }, Autoscaler)
end

--- "ready", "loading" or "error", as the report tells it.
function autoscaler.status_of(report)
  if report.error_msg and report.error_msg ~= "" then return "error" end
  if (report.loadtime or 0) > 0 then return "ready" end
  return "loading"
end

function Autoscaler:drop_stale()
  local oldest = self.now() - STALE_AFTER_S
  for key, one in pairs(self.workers) do
    if one.seen_at < oldest then
      self.workers[key] = nil
      self.worker_count = self.worker_count - 1
    end
  end
end

-- Seconds until this worker would have done what it has. What was routed to it since its last
-- report counts, or a burst would go to one worker whole.
local function estimated_wait(one)
  local load = (one.report.cur_load or 0) + one.assigned
  return load / math.max(one.report.max_perf or 0, MIN_PERF)
end

local function is_routable(report)
  return report.url ~= "" and autoscaler.status_of(report) == "ready"
end

local function goes_before(a, b)
  local wait_a, wait_b = estimated_wait(a), estimated_wait(b)
  if wait_a ~= wait_b then return wait_a < wait_b end
  if a.picked ~= b.picked then return a.picked < b.picked end
  return a.key < b.key
end

function Autoscaler:pick_worker()
  self:drop_stale()
  local best
  for _, one in pairs(self.workers) do
    if is_routable(one.report) and (not best or goes_before(one, best)) then best = one end
  end
  return best
end

local function describe_absence(self)
  local count = { loading = 0, error = 0, ready = 0 }
  for _, one in pairs(self.workers) do
    local status = autoscaler.status_of(one.report)
    count[status] = count[status] + 1
  end
  if self.worker_count == 0 then return "no worker has reported yet" end
  local text = ("no worker is ready: %d loading, %d in error"):format(count.loading, count.error)
  if count.ready > 0 then text = ("%s, %d without a URL"):format(text, count.ready) end
  return text
end

-- Keeps the client's own number when it polls again; else the next one.
function Autoscaler:request_idx_for(asked)
  if type(asked) == "number" and asked > 0 and asked % 1 == 0 then return asked end
  self.last_request_idx = self.last_request_idx + 1
  return self.last_request_idx
end

function Autoscaler:remember_request(request_idx, cost)
  -- Other numbers are not ours, or were forgotten: nothing would ever clear them away.
  if request_idx > self.last_request_idx or request_idx < self.oldest_request_idx then return end
  self.requests[request_idx] = { routed_at = self.now(), cost = cost }
  while self.last_request_idx - self.oldest_request_idx >= MAX_REQUESTS do
    self.requests[self.oldest_request_idx] = nil
    self.oldest_request_idx = self.oldest_request_idx + 1
  end
end

--- What each scheme signs of a route.
autoscaler.schemes = {
  url = { "url" },
  sorted = { "cost", "endpoint", "reqnum", "request_idx", "url" },
  legacy = { "cost", "endpoint", "reqnum", "url" },
}

--- The text that is signed of a route: what Python's json.dumps(indent=4) prints of these fields.
function autoscaler.signed_text(scheme, route)
  local members = {}
  for i, key in ipairs(autoscaler.schemes[scheme]) do
    members[i] = json.encode(key) .. ":" .. json.encode(route[key])
  end
  local text = "{" .. table.concat(members, ",") .. "}"
  local sort_keys = scheme == "sorted" and 1 or 0
  if base.C.lw_api_canon(text, #text, sort_keys, base.span) ~= base.OK then
    return nil, "could not print the message to sign"
  end
  return base.text(base.span)
end

--- POST /route/ → status, answer.
function Autoscaler:route(body)
  if type(body.endpoint) ~= "string" then return 422, { endpoint = "field missing" } end
  if body.endpoint ~= self.endpoint then
    local text = "no endpoint is called %q here; this one is %q"
    return 404, { error = text:format(body.endpoint, self.endpoint) }
  end
  local cost = tonumber(body.cost) or 0
  local request_idx = self:request_idx_for(body.request_idx)
  local one = self:pick_worker()
  if not one then return 200, { request_idx = request_idx, status = describe_absence(self) } end
  local route = {
    url = one.report.url,
    cost = body.cost or 0,
    endpoint = self.endpoint,
    reqnum = self.last_reqnum + 1,
    request_idx = request_idx,
    __request_id = ("local-%d-%d"):format(request_idx, self.last_reqnum + 1),
  }
  local text, wrong = autoscaler.signed_text(self.scheme, route)
  local signature, err = self.sign(text or "")
  if not text or not signature then return 500, { error = wrong or err } end
  route.signature = signature
  self.last_reqnum = route.reqnum
  one.assigned = one.assigned + cost
  one.picked = route.reqnum
  self:remember_request(request_idx, cost)
  return 200, route
end

local function check_report(report)
  if type(report.id) ~= "number" then return { id = "expected integer" } end
  local url = report.url
  if type(url) ~= "string" or url ~= "" and not url:find "^https?://[^%s%c\"\\\127-\255]+$" then
    return { url = "expected an http:// or https:// URL" }
  end
  for _, field in ipairs { "loadtime", "cur_load", "max_perf" } do
    local kind = type(report[field])
    if kind ~= "number" and kind ~= "nil" then return { [field] = "expected number" } end
  end
  if report.error_msg ~= nil and type(report.error_msg) ~= "string" then
    return { error_msg = "expected string" }
  end
end

--- POST /worker_status/ → status, answer. Stores the report.
function Autoscaler:worker_status(report)
  local wrong = check_report(report)
  if wrong then return 422, wrong end
  -- Off the cloud every worker is number 0: there the URL tells them apart.
  local key = report.id ~= 0 and tostring(report.id) or report.url
  local one = self.workers[key]
  if not one then
    self:drop_stale()
    if self.worker_count >= MAX_WORKERS then return 503, { error = "too many workers" } end
    one = { key = key, picked = 0 }
    self.workers[key] = one
    self.worker_count = self.worker_count + 1
  end
  one.report, one.seen_at, one.assigned = report, self.now(), 0
  return 200, { ok = true }
end

local function list_of(value)
  return type(value) == "table" and value or {}
end

--- The ended requests in either form of the body: a list of { request_idx, status, seconds }.
--- seconds: from routing to now, nil for requests not routed here.
function Autoscaler:delete_requests(body)
  local ended = {}
  local function note(request_idx, status)
    local known = self.requests[request_idx]
    self.requests[request_idx] = nil
    local seconds = known and self.now() - known.routed_at
    ended[#ended + 1] = { request_idx = request_idx, status = status, seconds = seconds }
  end
  for _, one in ipairs(list_of(body.requests)) do
    if type(one) == "table" and type(one.request_idx) == "number" then
      note(one.request_idx, tostring(one.status or (one.success and "Success" or "Error")))
    end
  end
  for _, request_idx in ipairs(list_of(body.request_idxs)) do
    if type(request_idx) == "number" then
      note(request_idx, body.success == true and "Success" or "Error")
    end
  end
  return ended
end

--- POST /get_endpoint_workers/ → a list.
function Autoscaler:list_workers()
  self:drop_stale()
  local out = {}
  for _, one in pairs(self.workers) do
    local report = one.report
    out[#out + 1] = {
      id = report.id,
      status = autoscaler.status_of(report),
      url = report.url,
      cur_load = report.cur_load or 0,
      max_perf = report.max_perf or 0,
      error_msg = report.error_msg or "",
      seconds_since_report = math.floor((self.now() - one.seen_at) * 1000) / 1000,
    }
  end
  table.sort(out, function(a, b) return a.url < b.url end)
  return out
end

--- GET /api/v0/endptjobs/ → the look-up of an endpoint's own key. Any key is good here.
function Autoscaler:list_endpoints()
  local one = { id = 1, endpoint_name = self.endpoint, api_key = "local", user_id = 0,
    created_at = 0, max_workers = MAX_WORKERS }
  return { results = { one } }
end

--- One readable line of a report.
function autoscaler.describe_report(report)
  local function number(field)
    return ("%.6g"):format(tonumber(report[field]) or 0)
  end
  local status = autoscaler.status_of(report)
  if status == "error" then status = "error: " .. report.error_msg end
  local text = "worker %d %s | load %s (new %s, rejected %s) | perf %s of %s"
    .. " | working %s, received %s | %s"
  local line = text:format(report.id, status,
    number "cur_load", number "new_load", number "rej_load", number "cur_perf", number "max_perf",
    number "num_requests_working", number "num_requests_recieved",
    report.url ~= "" and report.url or "no URL")
  return (line:gsub("%c", " "))
end

--- One readable line of one of delete_requests()'s results.
function autoscaler.describe_ended(body, ended)
  local took = ended.seconds and (", told %.3f s after its route"):format(ended.seconds) or ""
  local id = body.worker_id
  local where = type(id) == "number" and (" on worker %d"):format(id) or ""
  local line = ("request %d ended: %s%s%s"):format(ended.request_idx, ended.status, where, took)
  return (line:gsub("%c", " "))
end

return autoscaler

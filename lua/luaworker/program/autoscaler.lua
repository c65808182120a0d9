-- SPDX-License-Identifier: MIT
-- `luaworker run @autoscaler`: the local autoscaler on a port, to try workers without the cloud.
-- Any API key is good. Prints what workers report. What it knows and answers is autoscaler.lua's.
local worker = require "luaworker"
local autoscaler = require "luaworker.autoscaler"
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local http = require "luaworker.http"

local options = cli.parse(arg, {
  usage = "luaworker run @autoscaler",
  about = "A local autoscaler: signs routes, takes the reports of workers, prints them.",
  { "port", "N", "where to listen", type = "integer", min = 0, max = 65535, default = 8081 },
  { "host", "ADDRESS", "on which address", default = "127.0.0.1" },
  { "endpoint", "NAME", "the endpoint's name", alias = "e", default = "hello_world" },
  { "auth-scheme", "NAME", "what it signs: url, sorted or legacy", default = "url" },
  { "quiet", nil, "don't print reports and ended requests" },
  { "verbose", nil, "print reports as the full JSON", alias = "v" },
})

if not autoscaler.schemes[options.auth_scheme] then
  cli.fail(2, "--auth-scheme is url, sorted or legacy, not %s", base.show(options.auth_scheme))
end

local public_key, sign = autoscaler.new_key()
local scaler = autoscaler.new {
  endpoint = options.endpoint,
  sign = sign,
  scheme = options.auth_scheme,
  now = base.C.lw_api_now,
}

local function print_line(text)
  if options.quiet then return end
  io.stdout:write(os.date "%H:%M:%S ", text, "\n")
  io.stdout:flush()
end

--- A handler for a POST of a JSON object: answer(value) → status, value to send.
local function json_post(answer)
  return function(request)
    local body, err = request:json()
    if type(body) ~= "table" then
      return worker.json({ error = "invalid JSON: " .. (err or "expected an object") }, 422)
    end
    local status, value = answer(body)
    return worker.json(value, status)
  end
end

local function take_report(report)
  local status, value = scaler:worker_status(report)
  if status ~= 200 then
    print_line("report refused: " .. worker.json.encode(value))
  elseif options.verbose then
    print_line(worker.json.encode(report))
  else
    print_line(autoscaler.describe_report(report))
  end
  return status, value
end

local function list_workers()
  return 200, scaler:list_workers()
end

local function take_deletions(body)
  for _, ended in ipairs(scaler:delete_requests(body)) do
    print_line(autoscaler.describe_ended(body, ended))
  end
  return 200, { ok = true }
end

local _, server = cli.check(pcall(http.serve, {
  host = options.host,
  port = options.port,
  routes = {
    worker.post("/route/", json_post(function(body) return scaler:route(body) end)),
    worker.post("/worker_status/", json_post(take_report)),
    worker.post("/delete_requests/", json_post(take_deletions)),
    worker.post("/get_endpoint_workers/", json_post(list_workers)),
    worker.get("/pubkey/", function() return public_key end),
    worker.get("/api/v0/endptjobs/", function() return worker.json(scaler:list_endpoints()) end),
  },
}))

io.stdout:write(("autoscaler of endpoint %s on http://%s:%d\n"):format(options.endpoint,
  options.host, server.port))
io.stdout:flush()

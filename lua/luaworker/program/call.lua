-- SPDX-License-Identifier: MIT
-- `luaworker call SCRIPT ROUTE`: one request, the way a client makes it. Asks the autoscaler for a
-- worker, posts the payload there and writes the answer to standard output as it comes.
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local client_payloads = require "luaworker.client_payloads"
local client_route = require "luaworker.client_route"
local console = require "luaworker.client_console"
local failure = require "luaworker.failure"
local http = require "luaworker.http"

local WAIT_FOR_WORKER_S = 60
local AUTOSCALER = "http://127.0.0.1:8081"

local options = cli.parse(arg, {
  usage = "luaworker call",
  strict = true,
  about = "Asks an autoscaler for a worker, as clients do, sends it one request and prints\n"
    .. "the answer as it comes. Ends with 0 when that is a 2xx.",
  operands = { "SCRIPT", "ROUTE" },
  { "json", "PAYLOAD", "the payload, or @FILE (default: the script's sample for that route)" },
  { "stream", nil, 'ask for a stream: "stream": true in the payload' },
  { "autoscaler", "URL", "whom to ask for a worker (default: " .. AUTOSCALER .. ")" },
  { "cloud", nil, "ask " .. console.AUTOSCALER .. ", with an account's key" },
  { "console", "URL", "where an account's key is exchanged for the endpoint's" },
  { "endpoint", "NAME", "the endpoint's name (default: the script's file name)", alias = "e" },
  { "key", "KEY", "the API key (default: VAST_API_KEY, API_KEY)", alias = "k" },
  { "insecure", nil, "don't check certificates" },
  { "ca", "FILE", "PEM certificates to check with, besides the system's" },
})
local script, path = options[1], options[2]
if path:sub(1, 1) ~= "/" then path = "/" .. path end

--- Ends the program with one line on standard error.
local function fail(format, ...)
  cli.fail(1, format, ...)
end

local function choose_payload()
  local given, wrong
  if options.json then
    given, wrong = client_payloads.parse(options.json)
    if not given then cli.fail(2, "--json: %s", wrong) end
  end
  local source, err = client_payloads.open(script, path, given)
  if not source then fail("%s", err) end
  local ok, payload = pcall(source.make, source, options.stream)
  if not ok then fail("%s: %s", script, tostring(payload)) end
  if source.complaint then io.stderr:write(source.complaint, "\n") end
  return payload, source.is_bare
end

--- Whom to ask, with which key, for which endpoint.
local function read_target()
  local target = {
    production = options.cloud, insecure = options.insecure, ca = options.ca,
    url = options.cloud and console.AUTOSCALER or options.autoscaler or AUTOSCALER,
    console = options.console or options.cloud and console.URL or nil,
    key = options.key or console.key_of_environment(),
    endpoint = options.endpoint or client_payloads.endpoint_of(script),
  }
  local wrong = options.cloud and options.autoscaler and "one of --cloud and --autoscaler"
    or console.mistake(target, { ["--autoscaler"] = target.url, ["--console"] = target.console })
  if wrong then cli.fail(2, "%s", wrong) end
  target.url = target.url:gsub("/+$", "")
  target.console = target.console and target.console:gsub("/+$", "")
  target.key = target.key or "local"
  return target
end

local function get_route(target, cost)
  cli.check(console.set_trust(target))
  target.key = cli.check(console.endpoint_key(target))
  local said
  local asker = client_route.new(target.url, target.key, target.endpoint)
  local deadline = base.C.lw_api_now() + WAIT_FOR_WORKER_S
  local route, text = asker:get(cost, deadline, function(why)
    if why ~= said then io.stderr:write(why, "\n") end
    said = why
  end)
  if not route then fail("%s", text) end
  return route, text
end

local function post_to_worker(url, body)
  local response, err = http.post(url .. path, {
    headers = { ["Content-Type"] = "application/json" }, body = body, timeout = { connect = 5 },
  })
  if not response then fail("%s", err) end
  return response
end

--- Writes the answer as it comes. Standard output gets its bytes and nothing else; a line that they
--- leave open is ended on standard error.
local function print_answer(response)
  local last_byte = "\n"
  local ok, err = pcall(function()
    for chunk in response:chunks() do
      io.stdout:write(chunk)
      io.stdout:flush()
      last_byte = chunk:sub(-1)
    end
  end)
  if last_byte ~= "\n" then io.stderr:write "\n" end
  if ok then return end
  if failure.is_ending(err) then error(err, 0) end
  fail("the answer broke off: %s", tostring(err))
end

local target = read_target()
local payload, is_bare = choose_payload()
local route, text = get_route(target, payload.workload)
local body = is_bare and payload.json or client_route.envelope(text, payload.json)
local response = post_to_worker(route.url, body)
print_answer(response)
if response.status == 429 then
  local after = response.headers["retry-after"]
  fail("%s has too much to do (429)%s", path, after and "; come again in " .. after .. " s" or "")
elseif response.status < 200 or response.status > 299 then
  fail("%s answered with status %d", path, response.status)
end
cli.exit(0)

-- SPDX-License-Identifier: MIT
-- `luaworker call SCRIPT ROUTE`: one request, the way a client makes it. Asks the autoscaler for a
-- worker, posts the payload there and writes the answer to standard output as it comes.
local worker = require "luaworker"
local now = require("luaworker.base").C.lw_api_now
local cli = require "luaworker.cli"
local failure = require "luaworker.failure"
local http = require "luaworker.http"
local sandbox = require "luaworker.sandbox"

local DEFAULT_WORKLOAD = 100
local WAIT_FOR_WORKER_S = 60
local POLL_S = 1

local options = cli.parse(arg, {
  usage = "luaworker call",
  about = "Asks an autoscaler for a worker, as clients do, sends it one request and prints\n"
    .. "the answer as it comes. Ends with 0 when that is a 2xx.",
  operands = { "SCRIPT", "ROUTE" },
  { "json", "PAYLOAD", "the payload (default: the script's for_test of that route)" },
  { "autoscaler", "URL", "whom to ask for a worker", default = "http://127.0.0.1:8081" },
  { "endpoint", "NAME", "the endpoint's name (default: the script's file name)", alias = "e" },
  { "key", "KEY", "the API key", alias = "k", default = "local" },
})
local script, path = options[1], options[2]
if path:sub(1, 1) ~= "/" then path = "/" .. path end
local endpoint = options.endpoint or script:match "[^/]*$":gsub("%.lua$", "")

--- Ends the program with one line on standard error.
local function fail(format, ...)
  cli.fail(1, format, ...)
end

--- What the script gave to worker.backend. Runs the script, offers nothing.
local function read_script()
  local text, err = worker.file.read(script)
  if not text then fail("%s", err) end
  local chunk, wrong = sandbox.compile(script, text, "serve")
  if not chunk then fail("%s", wrong) end
  local definition = chunk()
  if type(definition) ~= "table" or not definition.opts then
    fail("%s does not return worker.backend { ... }", script)
  end
  return definition.opts
end

--- The options of the script's POST route at `path`.
local function find_route(definition)
  local known = {}
  for _, route in ipairs(definition.routes) do
    if route.method == "POST" and route.path == path then return route.opts end
    if route.method == "POST" then known[#known + 1] = route.path end
  end
  fail("%s has no POST route %s; it has %s", script, path, table.concat(known, ", "))
end

--- What the route would be benchmarked with; nil when it names nothing.
local function test_payload(route)
  local bench = route.benchmark or {}
  local make = route.make_benchmark_payload or bench.generator
    or route.payload and route.payload.for_test
  if make then return make() end
  return bench.dataset and bench.dataset[1]
end

local function workload_of(definition, route, payload)
  local count = route.count_workload or route.payload and route.payload.count_workload
    or definition.count_workload
  if type(count) == "number" then return count end
  local workload = count and count(payload)
  return type(workload) == "number" and workload or DEFAULT_WORKLOAD
end

--- The payload to send and its workload.
local function choose_payload()
  if options.json then
    local payload, err = worker.json.decode(options.json)
    if payload == nil then fail("--json is not JSON: %s", err) end
    return payload, DEFAULT_WORKLOAD
  end
  local definition = read_script()
  local route = find_route(definition)
  local payload = type(route) == "table" and test_payload(route)
  if not payload then fail("%s has no test payload for %s; give one with --json", script, path) end
  return payload, workload_of(definition, route, payload)
end

local function ask_route(body)
  local response, err = http.post(options.autoscaler .. "/route/", {
    headers = { Authorization = "Bearer " .. options.key },
    json = body,
    timeout = { connect = 5, total = 10 },
  })
  if not response then fail("%s", err) end
  if response.status ~= 200 then
    fail("the autoscaler answered %d: %s", response.status, response:body())
  end
  local text = response:body()
  local route, wrong = worker.json.decode(text)
  if type(route) == "table" then return route, text end
  fail("the autoscaler's answer is not a JSON object: %s", tostring(wrong))
end

--- Polls until a worker is free; its auth_data, and the text of it as it came: some signatures are
--- over its numbers as they are spelled.
local function get_route(cost)
  local body = { endpoint = endpoint, api_key = options.key, cost = cost, request_idx = 0 }
  local deadline = now() + WAIT_FOR_WORKER_S
  local said
  repeat
    local route, text = ask_route(body)
    if route.url then return route, text end
    body.request_idx = route.request_idx or body.request_idx
    if route.status ~= said then
      said = route.status
      io.stderr:write("waiting for a worker: ", tostring(said), "\n")
    end
    worker.sleep(POLL_S)
  until now() > deadline
  fail("no worker became free in %d s (%s)", WAIT_FOR_WORKER_S, tostring(said))
end

local function post_to_worker(payload, route, route_text)
  local response, err = http.post(route.url .. path, {
    headers = { ["Content-Type"] = "application/json" },
    body = ('{"auth_data":%s,"payload":%s}'):format(route_text, worker.json.encode(payload)),
    timeout = { connect = 5 },
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

local payload, cost = choose_payload()
local response = post_to_worker(payload, get_route(cost))
print_answer(response)
if response.status < 200 or response.status > 299 then
  fail("%s answered with status %d", path, response.status)
end
cli.exit(0)

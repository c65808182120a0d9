-- SPDX-License-Identifier: MIT
-- What a backend and its routes may say: the rules by which the tables of a script are checked.
-- Notes every mistake with its path; changes nothing.
local address = require "luaworker.address"
local base = require "luaworker.base"
local definition = require "luaworker.definition"
local payload = require "luaworker.payload"
local schema = require "luaworker.schema"

local show = base.show

local ROUTES_MOST = 1024 -- as in runtime/worker/route.c

local options = {}

local seconds = schema.number { min = 0 }

local function marker(value, path, note)
  schema.text(value, path, note)
  if type(value) == "string" and value:find "[\n%z]" then
    note(path, "expected one line, got " .. show(value))
  end
end

local markers = schema.either(marker, schema.list(marker))

local function file_rule(value, path, note)
  schema.string(value, path, note)
  if type(value) == "string" and value:find "%z" then note(path, "holds a NUL byte") end
end

local function workload(value, path, note)
  if type(value) == "function" then return end
  if type(value) ~= "number" then
    return note(path, "expected function or number, got " .. show(value))
  end
  seconds(value, path, note)
end

local function payload_class(value, path, note)
  if not payload.is_class(value) then
    return note(path, "expected what worker.payload returns, got " .. show(value))
  end
  for _, mistake in ipairs(payload.mistakes(value)) do
    note(path .. "." .. mistake.field, mistake.text)
  end
end

local benchmark = schema.record {
  dataset = schema.list(schema.table),
  generator = schema.fn,
  runs = schema.number { integer = true, min = 1, max = 1000 },
  concurrency = schema.number { integer = true, min = 1, max = 10000 },
  warmup = schema.boolean,
  timeout = schema.number { above = 0 },
  max_perf = schema.number { above = 0 },
}

-- For one route, or on the backend for all.
local shared = {
  allow_parallel_requests = schema.boolean,
  max_queue_time = seconds,
  count_workload = workload,
  request_parser = schema.fn,
  generate_client_response = schema.fn,
  connect = seconds, first_byte = seconds, idle = seconds, total = seconds,
  on_disconnect = schema.one_of("abort", "drain"),
  envelope = schema.boolean,
}
options.shared = schema.sorted_keys(shared)

local function with_shared(fields)
  for name, rule in pairs(shared) do
    fields[name] = rule
  end
  return schema.record(fields)
end

local forward = schema.record {
  connect = seconds, first_byte = seconds, idle = seconds, total = seconds,
  on_disconnect = schema.one_of("abort", "drain"),
}

local work = with_shared {
  payload = payload_class,
  endpoint = address.path,
  generate_payload_json = schema.fn,
  make_benchmark_payload = schema.fn,
  remote = schema.fn,
  benchmark = benchmark,
}

local log_actions = schema.record {
  model_loaded = markers, model_error = markers, info = markers,
}

local backend = with_shared {
  model_server_url = address.base_url,
  model_log_file = file_rule,
  model_healthcheck_url = address.url_or_path,
  max_sessions = schema.number { integer = true, min = 0 },
  log_actions = log_actions,
  start = schema.fn,
  routes = schema.any,
}

-- By name, for whoever asks what can be said: schema.fields(rule).
options.rules = {
  backend = backend, work = work, forward = forward, benchmark = benchmark,
  log_actions = log_actions,
}

-- Of these the first that is there counts: another beside it would not be looked at.
local function check_sources(opts, path, note)
  local bench = opts.benchmark
  local first = bench.generator and "generator" or bench.dataset and "dataset"
  local text = first and "is not used beside benchmark." .. first .. ": leave out one of them"
  if bench.generator and bench.dataset then note(path .. ".benchmark.dataset", text) end
  if first and opts.make_benchmark_payload then note(path .. ".make_benchmark_payload", text) end
end

local function check_benchmark(opts, path, note)
  local bench = opts.benchmark
  if not schema.is_plain(bench) then return end
  check_sources(opts, path, note)
  if bench.max_perf or bench.generator or opts.make_benchmark_payload then return end
  if bench.dataset then
    if type(bench.dataset) == "table" and #bench.dataset == 0 then
      note(path .. ".benchmark.dataset", "expected at least one payload")
    end
    return
  end
  local class = opts.payload
  local for_test = payload.is_class(class) and rawget(class, "for_test")
  if for_test then return schema.fn(for_test, path .. ".payload.for_test", note) end
  note(path .. ".benchmark", "has no payloads: give generator or dataset here, "
    .. "make_benchmark_payload on the route, or for_test() on its payload")
end

-- What is said of the call to the model, where none is made.
local of_model_call = {
  "endpoint", "generate_payload_json", "connect", "first_byte", "idle", "total",
}

local function check_remote(opts, path, note)
  if opts.remote == nil then return end
  if opts.generate_client_response then
    note(path .. ".remote", "leaves no model answer for generate_client_response")
  end
  for _, key in ipairs(of_model_call) do
    if opts[key] ~= nil then
      note(path .. "." .. key, "is not used beside remote, which stands in place of the model")
    end
  end
end

local function check_work(route, path, note)
  if route.method ~= "POST" then
    return note(path, "expected a function or worker.forward(): only POST routes have hooks")
  end
  work(route.opts, path, note)
  if not schema.is_plain(route.opts) then return end
  check_benchmark(route.opts, path, note)
  check_remote(route.opts, path, note)
end

--- One route.
function options.check_route(route, path, note)
  if not definition.is_route(route) then
    return note(path, "expected worker.get, worker.post or the like, got " .. show(route))
  end
  address.route_path(route.path, path .. ".path", note)
  local kind = type(route.opts)
  if route.opts == definition.forward then
    return note(path, "worker.forward is to be called: worker.forward()")
  end
  if kind == "function" then return end
  if kind ~= "table" then
    return note(path, "expected function, table or worker.forward(), got " .. show(route.opts))
  end
  if not definition.is_forward(route.opts) then return check_work(route, path, note) end
  if route.opts.path ~= nil then address.path(route.opts.path, path .. ".forward", note) end
  if route.opts.options ~= nil then forward(route.opts.options, path .. ".forward", note) end
end

local methods = {
  GET = true, HEAD = true, POST = true, PUT = true, DELETE = true, PATCH = true, OPTIONS = true,
}

-- Each method and path once, known methods only.
local function check_names(routes, note)
  local taken = {}
  for i, one in ipairs(routes) do
    local at = "routes[" .. i .. "]"
    local has_method = definition.is_route(one) and methods[one.method]
    if definition.is_route(one) and not has_method then
      note(at, "unknown method: " .. show(one.method))
    elseif has_method and type(one.path) == "string" then
      local name = one.method .. " " .. one.path
      if taken[name] then note(at, name .. " is taken by " .. taken[name], taken[name]) end
      taken[name] = taken[name] or at
    end
  end
end

local function check_benchmarks(routes, note)
  local first
  for i, one in ipairs(routes) do
    if definition.is_route(one) and schema.is_plain(one.opts) and one.opts.benchmark ~= nil then
      local at = "routes[" .. i .. "]"
      if first then
        note(at .. ".benchmark", "only one route can have it, and " .. first .. " does", first)
      end
      first = first or at
    end
  end
  return first ~= nil
end

local function show_no_list(routes)
  if definition.is_route(routes) then return "one route: put it in { }" end
  if type(routes) ~= "table" then return show(routes) end
  return next(routes) == nil and "an empty one" or "a table with keys: a route has its path in it"
end

--- The list of routes of a worker or a program; whether one of them is measured.
function options.check_routes(routes, note)
  if type(routes) ~= "table" or #routes == 0 then
    return note("routes", "expected a list of routes, got " .. show_no_list(routes))
  end
  if #routes > ROUTES_MOST then
    note("routes", ("expected at most %d, got %d"):format(ROUTES_MOST, #routes))
  end
  schema.list(function(route, at, note_of)
    options.check_route(route, at, note_of)
  end)(routes, "routes", note)
  check_names(routes, note)
  return check_benchmarks(routes, note)
end

-- A worker's unsigned routes only read: whoever reaches the port could use others for free.
local function check_signed(routes, note)
  for i, one in ipairs(routes) do
    local unsigned = definition.is_route(one)
      and (type(one.opts) == "function" or definition.is_forward(one.opts))
    if unsigned and methods[one.method] and one.method ~= "GET" then
      note("routes[" .. i .. "]", one.method .. " with a function or worker.forward() would serve "
        .. "requests that nobody signed: " .. (one.method == "POST"
        and "give a table of hooks, which may be empty" or "only GET and POST can be here"))
    end
  end
end

-- The worker itself answers these at the same port, in C: worker/session_routes.c, worker/update.c.
local function check_own_paths(routes, note)
  for i, one in ipairs(routes) do
    local path = definition.is_route(one) and type(one.path) == "string" and one.path or ""
    if path:find "^/session/" or path == "/pyworker/update" then
      note("routes[" .. i .. "].path", "the worker itself answers at " .. path
        .. " (at all of /session/ and at /pyworker/update): choose another path")
    end
  end
end

local function has_work(routes)
  for _, one in ipairs(routes) do
    if definition.is_route(one) and one.method == "POST" then return true end
  end
end

--- The table given to worker.backend; whether it has routes. model_url: what the operator gave in
--- place of its own, or nil. warn takes what may be meant so.
function options.check_backend(opts, note, model_url, warn)
  backend(opts, "", note)
  if not schema.is_plain(opts) then return false end
  if model_url then
    address.base_url(model_url, "--model-url", note)
  elseif opts.model_server_url == nil then
    note("model_server_url", "is missing")
  end
  local is_measured = options.check_routes(opts.routes, note)
  if type(opts.routes) ~= "table" then return false end
  check_signed(opts.routes, note)
  check_own_paths(opts.routes, note)
  if not is_measured and has_work(opts.routes) then
    warn("routes", "none has a benchmark: max_perf 0 is reported, and the autoscaler can't know "
      .. "how much this worker does")
  end
  return true
end

return options

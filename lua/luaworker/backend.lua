-- SPDX-License-Identifier: MIT
-- From a script's definition to routes in C: for serve, when nothing is wrong with it (check.lua),
-- and for the servers of programs.
local base = require "luaworker.base"
local await = require "luaworker.await"
local definition = require "luaworker.definition"
local job = require "luaworker.job"
local model = require "luaworker.model"
local options = require "luaworker.options"
local route = require "luaworker.route"

local C = base.C

local backend = { is_work = definition.is_work }

local function same(value)
  return value
end

--- What is called to make the model's body; nil: the payload's own bytes are sent.
local function body_hook(opts, class)
  if opts.generate_payload_json then return opts.generate_payload_json end
  if class and class.generate_payload_json then return class.generate_payload_json end
  return (class or opts.request_parser) and same or nil
end

local function entry_of_work(opts, label)
  local class, count, workload = opts.payload, opts.count_workload, route.DEFAULT_WORKLOAD
  if type(count) == "number" then
    count, workload = nil, count
  end
  local entry = {
    label = label,
    walk = route.work,
    request_parser = opts.request_parser,
    from_json_msg = class and class.from_json_msg,
    count_workload = count,
    workload = workload,
    generate_payload_json = not opts.remote and body_hook(opts, class) or nil,
    generate_client_response = opts.generate_client_response,
    remote = opts.remote,
  }
  entry.has_payload_hook = (class or count or entry.request_parser or entry.generate_payload_json
    or entry.remote) and true or false
  return entry
end

local function note_failed(code, path, note)
  if code ~= base.OK then note(path, base.last_error()) end
end

local timeouts = { connect = 5, first_byte = 0, idle = 0, total = 0 }

-- What holds for each call to the model.
local function set_call(added, opts, endpoint, path, note)
  local function number(name, value)
    note_failed(C.lw_api_route_number(added, name, value), path .. "." .. name, note)
  end
  number("drain_on_disconnect", opts.on_disconnect == "drain" and 1 or 0)
  for name, default in pairs(timeouts) do
    number(name, opts[name] or default)
  end
  if endpoint then
    local code = C.lw_api_route_text(added, "endpoint", endpoint, #endpoint)
    note_failed(code, path .. ".endpoint", note)
  end
end

local function set_work(added, opts, entry, path, note)
  local function number(name, value)
    note_failed(C.lw_api_route_number(added, name, value), path .. "." .. name, note)
  end
  number("parallel", opts.allow_parallel_requests and 1 or 0)
  number("payload_hook", entry.has_payload_hook and 1 or 0)
  number("response_hook", (entry.generate_client_response or entry.remote) and 1 or 0)
  number("workload", entry.workload)
  number("bare", opts.envelope == false and 1 or 0)
  if opts.max_queue_time then number("max_queue_time", opts.max_queue_time) end
  set_call(added, opts, opts.endpoint, path, note)
end

-- The route's own options over those set for all.
local function merge(opts, shared_opts)
  local out = {}
  for key, value in pairs(opts) do
    out[key] = value
  end
  local class = opts.payload
  out.count_workload = opts.count_workload or (class and class.count_workload)
  for _, key in ipairs(options.shared) do
    if out[key] == nil then out[key] = shared_opts[key] end
  end
  return out
end

local function label_of(one)
  return one.method .. " " .. one.path
end

--- What holds for a route of work, and its hooks as route.lua walks through them.
function backend.work_of(one, shared_opts)
  local opts = merge(one.opts, shared_opts)
  return opts, entry_of_work(opts, label_of(one))
end

local function kind_and_entry(one, opts)
  local label = label_of(one)
  if type(opts) == "function" then
    return C.LW_ROUTE_HANDLER, { label = label, walk = route.handle, handler = opts }
  elseif definition.is_forward(opts) then
    return C.LW_ROUTE_FORWARD, { label = label }
  end
  return C.LW_ROUTE_WORK, entry_of_work(opts, label)
end

-- The route whose speed is reported: told in the script, or to be measured. What measures is read
-- when it is to run: every start would be longer by it.
local function set_benchmark(router, added, path, opts, entry, note)
  local fixed = opts.benchmark.max_perf
  local name = fixed and "max_perf" or "benchmark_job"
  local function find_url()
    C.lw_api_route_url(added, base.span)
    return base.text(base.span)
  end
  local function measure()
    return require("luaworker.benchmark").run(path, opts, entry, find_url)
  end
  local number = fixed or job.keep("benchmark", measure, "benchmark: ")
  note_failed(C.lw_api_router_number(router, name, number), "benchmark", note)
  note_failed(C.lw_api_router_text(router, "benchmark_route", path, #path), "benchmark", note)
end

local function add_route(router, one, shared_opts, path, note)
  local opts = one.opts
  if definition.is_work(one) then opts = merge(opts, shared_opts) end
  local kind, entry = kind_and_entry(one, opts)
  local number = route.add_entry(entry)
  local added = C.lw_api_route_add(router, kind, one.method, #one.method, one.path, #one.path,
    number)
  if added == nil then return note(path, base.last_error()) end
  if kind == C.LW_ROUTE_WORK then
    set_work(added, opts, entry, path, note)
    if opts.benchmark then set_benchmark(router, added, one.path, opts, entry, note) end
  elseif kind == C.LW_ROUTE_FORWARD then
    set_call(added, merge(opts.options or {}, shared_opts), opts.path, path, note)
  end
end

local function add_routes(router, routes, shared_opts, note)
  for i, one in ipairs(routes) do
    add_route(router, one, shared_opts, "routes[" .. i .. "]", note)
  end
end

local marker_kinds = {
  model_loaded = C.LW_LOG_MODEL_LOADED, model_error = C.LW_LOG_MODEL_ERROR,
  info = C.LW_LOG_INFO_LINE,
}

local function set_markers(router, actions, note)
  for name, texts in pairs(actions) do
    if type(texts) == "string" then texts = { texts } end
    for _, text in ipairs(texts) do
      local code = C.lw_api_router_marker(router, marker_kinds[name], text, #text)
      note_failed(code, "log_actions." .. name, note)
    end
  end
end

-- `return worker.model.get(path)` of a model that is not there has failed, too.
local function start_job(start)
  return function()
    local value, err = start()
    if not value and err ~= nil then error(tostring(err), 0) end
  end
end

local function set_backend(router, opts, note)
  local function number(name, value)
    if value == nil then return end
    note_failed(C.lw_api_router_number(router, name, value), name, note)
  end
  local function text(name, value)
    if value == nil then return end
    note_failed(C.lw_api_router_text(router, name, value, #value), name, note)
  end
  text("model_server_url", model.url)
  text("model_log_file", opts.model_log_file)
  text("model_healthcheck_url", opts.model_healthcheck_url)
  number("max_sessions", opts.max_sessions)
  set_markers(router, opts.log_actions or {}, note)
  if opts.start then number("start_job", job.keep("start", start_job(opts.start))) end
end

--- serve: makes what options.check_backend found to be right the worker. note takes what can't be.
function backend.offer(opts, model_url, note)
  model.set_url(model_url or opts.model_server_url)
  local router = C.lw_api_router_new()
  local is_good = true
  local function note_bad(...)
    is_good = false
    note(...)
  end
  set_backend(router, opts, note_bad)
  add_routes(router, opts.routes, opts, note_bad)
  if is_good and C.lw_api_router_publish(router) ~= base.OK then
    note("", "only serve takes in a worker, and one only")
  end
end

local port_out = base.ffi.new "int[1]"

-- A note(path, text) that gathers, and a function that raises what was gathered.
local function gather()
  local found = {}
  return function(path, text)
    found[#found + 1] = "listen: " .. (path == "" and text or path .. ": " .. text)
  end, function()
    if #found > 0 then error(table.concat(found, "\n"), 0) end
  end
end

--- run: answers these routes at a port of this program. { host = "127.0.0.1", port = 0 for any free
--- one, routes }. Returns the port, or nil and why not. Raises mistakes in the routes.
function backend.listen(opts)
  if not await.current() then -- a worker's script is loaded, perhaps to be checked
    return nil, "only programs started by luaworker run may listen"
  end
  local note, raise = gather()
  options.check_routes(opts.routes, note)
  raise()
  local router = C.lw_api_router_new()
  add_routes(router, opts.routes, opts, note)
  raise()
  local host = opts.host or "127.0.0.1"
  if C.lw_api_router_listen(router, host, #host, opts.port or 0, port_out) ~= base.OK then
    return nil, base.last_error()
  end
  return port_out[0]
end

return backend

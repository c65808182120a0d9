-- SPDX-License-Identifier: MIT
-- From a script's tables to routes in C: worker.backend, worker.get, worker.post and the like. A
-- mistake raises nothing where it is made; all of them come out together when the script is loaded.
local base = require "luaworker.base"
local job = require "luaworker.job"
local model = require "luaworker.model"
local options = require "luaworker.options"
local route = require "luaworker.route"

local C = base.C

local backend = {}

local Route = {}
local Backend = {}

local function has_meta(value, meta)
  return type(value) == "table" and getmetatable(value) == meta
end

local function is_route(value)
  return has_meta(value, Route)
end

--- worker.route(method, path, what): what is a function(request), worker.forward(), or for POST a
--- table of hooks.
function backend.route(method, path, what)
  return setmetatable({ method = method, path = path, opts = what }, Route)
end

function backend.get(path, what)
  return backend.route("GET", path, what)
end

--- worker.post(path, { ... }): a signed envelope for the model; without a table, all is passed on.
function backend.post(path, ...)
  if select("#", ...) == 0 then return backend.route("POST", path, {}) end
  return backend.route("POST", path, (...))
end

--- worker.forward(path, opts), both may be left out: the model server answers, at this path or the
--- route's own. opts: connect, first_byte, idle, total, on_disconnect.
function backend.forward(path, opts)
  if type(path) == "table" and opts == nil then
    path, opts = nil, path
  end
  return { is_forward = true, path = path, options = opts }
end

--- worker.backend { ... }: what a worker script returns.
function backend.new(opts)
  return setmetatable({ opts = opts }, Backend)
end

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

local function kind_and_entry(one, opts)
  local label = one.method .. " " .. one.path
  if type(opts) == "function" then
    return C.LW_ROUTE_HANDLER, { label = label, walk = route.handle, handler = opts }
  elseif opts.is_forward then
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
  if type(opts) == "table" and not opts.is_forward then opts = merge(opts, shared_opts) end
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

--- A note(path, text) that gathers, and a function that raises what was gathered.
local function mistakes_of(where)
  local found = {}
  return function(path, text)
    found[#found + 1] = where .. ": " .. (path == "" and text or path .. ": " .. text)
  end, function()
    if #found > 0 then error(table.concat(found, "\n"), 0) end
  end
end

--- serve: makes `value`, which the script at `path` returned, the worker. Raises every mistake.
function backend.offer(value, path)
  if not has_meta(value, Backend) then
    error(path .. ": expected the script to return worker.backend { ... }, got "
      .. base.show(value), 0)
  end
  local opts = value.opts
  local note, raise = mistakes_of(path)
  options.check_backend(opts, note, is_route)
  raise()
  C.lw_api_model_url(base.span)
  local url = base.span.n > 0 and base.text(base.span) or opts.model_server_url
  options.check_url(url, "the model server's URL", note)
  raise()
  model.set_url(url)
  local router = C.lw_api_router_new()
  set_backend(router, opts, note)
  add_routes(router, opts.routes, opts, note)
  raise()
  if C.lw_api_router_publish(router) ~= base.OK then error(path .. ": " .. base.last_error(), 0) end
end

local port_out = base.ffi.new "int[1]"

--- run: answers these routes at a port of this program. { host = "127.0.0.1", port = 0 for any free
--- one, routes }. Returns the port, or nil and why not. Raises mistakes in the routes.
function backend.listen(opts)
  local note, raise = mistakes_of "listen"
  options.check_routes(opts.routes, "routes", note, is_route)
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

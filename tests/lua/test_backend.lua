-- SPDX-License-Identifier: MIT
-- Loading a script: every mistake is found, named by path, and all are told at once; what a script
-- sees of the world.
local check = require "check"
local sandbox = require "luaworker.sandbox"
local task = require "luaworker.task"

--- What loading this text as a worker says. Even what is right fails, at its end: a
--- program can't publish.
local function load_error(text)
  local ok, err = pcall(task.load, "workers/x.lua", text, "serve")
  check.ok(not ok, "a program can't publish routes")
  return tostring(err)
end

local function lines_of(err)
  local lines = {}
  for line in err:gmatch "[^\n]+" do
    lines[line:gsub("^workers/x%.lua:%d*:? ?", "")] = true -- which line: test_check.lua
    lines[#lines + 1] = line
  end
  return lines
end

local function worker_with(fields, routes)
  return ([[
local worker = require "luaworker"
local Input = worker.payload { prompt = "string" }
return worker.backend { model_server_url = "http://127.0.0.1:1", %s routes = { %s } }]]):format(
    fields, routes)
end

--- These mistakes and no others.
local function expect(fields, routes, ...)
  local text = worker_with(fields, routes)
  local lines = lines_of(load_error(text))
  for _, line in ipairs { ... } do
    check.ok(lines[line], line .. "\nis not in\n" .. table.concat(lines, "\n"))
  end
  check.eq(#lines, select("#", ...), table.concat(lines, "\n"))
end

do -- what is no backend
  check.has(load_error "return 1", "the script to return worker.backend { ... }, got number 1")
  check.has(load_error "return", "got nil")
  check.has(load_error "x = = 1", "workers/x.lua:1: unexpected symbol near '='")
  local err = load_error "local t\nlocal function f()\nt.x = 1 end\nf()"
  check.has(err, "workers/x.lua:3: attempt to index upvalue 't' (a nil value)")
  check.has(err, "stack traceback:")
  check.has(load_error 'require("luaworker").sleep(1)', "while the script is loaded")
end

do -- all mistakes at once
  local fields = 'max_sessions = -1, log_actions = { modl_loaded = "x", info = { "a", "" } }, '
  expect(fields, [[
    worker.post("/a", { benchmark = { runs = "3", concurrency = 0, max_perf = 1 } }),
    worker.post("/b", { benchmrk = {}, count_workload = "x" }),
    5]],
    "max_sessions: expected integer of at least 0, got number -1",
    'log_actions.modl_loaded: unknown key, did you mean "model_loaded"?',
    'log_actions.info[2]: expected non-empty string, got string ""',
    'routes[1].benchmark.runs: expected integer, got string "3"',
    "routes[1].benchmark.concurrency: expected integer from 1 to 10000, got number 0",
    'routes[2].benchmrk: unknown key, did you mean "benchmark"?',
    'routes[2].count_workload: expected function or number, got string "x"',
    "routes[3]: expected worker.get, worker.post or the like, got number 5")
end

do -- each kind of option
  expect('model_healthcheck_url = "health", allow_parallel_requests = 1, ',
    'worker.post("/a", { on_disconnect = "abrt", connect = -1, endpoint = "v1", payload = {} })',
    'model_healthcheck_url: expected an http://, https:// or unix: URL, got string "health"',
    "allow_parallel_requests: expected boolean, got number 1",
    'routes[1].on_disconnect: expected "abort" or "drain", got string "abrt", '
      .. 'did you mean "abort"?',
    "routes[1].connect: expected number of at least 0, got number -1",
    'routes[1].endpoint: expected a path that begins with /, got string "v1"',
    "routes[1].payload: expected what worker.payload returns, got table")
end

do -- routes
  expect("", "", "routes: expected a list of routes, got an empty one")
  expect("", 'worker.get("ping", function() end)',
    'routes[1].path: expected a path that begins with /, got string "ping"')
  expect("", 'worker.get("/a", {})',
    "routes[1]: expected a function or worker.forward(): only POST routes have hooks")
  expect("", 'worker.get("/a", worker.forward "b")',
    'routes[1].forward: expected a path that begins with /, got string "b"')
  expect("", 'worker.post("/a", nil)',
    "routes[1]: expected function, table or worker.forward(), got nil")
  local lines = lines_of(load_error(worker_with("",
    'worker.get("/a", function() end), worker.get("/a", function() end)')))
  check.eq(lines[1], "workers/x.lua:3: routes[2]: GET /a is taken by routes[1] (line 3)")
  check.eq(#lines, 1)
end

do -- benchmarks
  expect("", 'worker.post("/a", { payload = Input, benchmark = {} })',
    "routes[1].benchmark: has no payloads: give generator or dataset here, "
    .. "make_benchmark_payload on the route, or for_test() on its payload")
  expect("", [[worker.post("/a", { benchmark = { dataset = { {} } } }),
    worker.post("/b", { benchmark = { max_perf = 5 } })]],
    "routes[2].benchmark: only one route can have it, and routes[1] (line 3) does")
  expect("", 'worker.post("/a", { benchmark = { dataset = {} } })',
    "routes[1].benchmark.dataset: expected at least one payload")
  expect("", 'worker.post("/a", { benchmark = { dataset = { {}, 5 }, timeout = 0, warmup = 1 } })',
    "routes[1].benchmark.dataset[2]: expected table, got number 5",
    "routes[1].benchmark.timeout: expected number above 0, got number 0",
    "routes[1].benchmark.warmup: expected boolean, got number 1")
  expect("start = 5,", 'worker.get("/a", worker.forward())',
    "start: expected function, got number 5")
  local class = "(function() local P = worker.payload {} P.for_test = 5 return P end)()"
  expect("", ('worker.post("/a", { payload = %s, benchmark = {} })'):format(class),
    "routes[1].payload.for_test: expected function, got number 5")
end

do -- nobody signed what a plain function or a forward would take by POST
  local text = "with a function or worker.forward() would serve requests that nobody signed: "
  expect("", 'worker.post("/a", function() end)',
    "routes[1]: POST " .. text .. "give a table of hooks, which may be empty")
  expect("", 'worker.get("/a", worker.forward()), worker.route("PUT", "/b", worker.forward())',
    "routes[2]: PUT " .. text .. "only GET and POST can be here")
end

do -- the paths of the worker's own answers
  local text = " (at all of /session/ and at /pyworker/update): choose another path"
  expect("", [[worker.post("/session/create", {}), worker.get("/session/x", worker.forward()),
    worker.get("/pyworker/update", function() end), worker.post("/session", {}),
    worker.post("/sessions/create", {}), worker.post("/pyworker", {})]],
    "routes[1].path: the worker itself answers at /session/create" .. text,
    "routes[2].path: the worker itself answers at /session/x" .. text,
    "routes[3].path: the worker itself answers at /pyworker/update" .. text)
end

do -- mistakes in payload classes come with their route
  expect("", 'worker.post("/a", { payload = worker.payload { x = "strin" } })',
    'routes[1].payload.x: unknown type "strin", did you mean "string"?')
end

do -- what is right gets as far as being published
  local err = load_error(worker_with([[max_queue_time = 5, count_workload = 7,
      log_actions = { model_loaded = "a", model_error = { "b", "c" } }, on_disconnect = "drain",
      model_healthcheck_url = "/h", ]],
    [[worker.post("/a", { payload = Input, endpoint = "/v1/a", total = 60 }),
      worker.post "/b", worker.get("/c", worker.forward "/health"),
      worker.route("GET", "/d", function() return "" end) ]]))
  check.eq(#lines_of(err), 1, err)
  check.ok(not err:find("routes[", 1, true), err)
end

--- The value of an expression inside a script.
local function seen(expression, mode)
  local chunk = assert(sandbox.compile("tests/lua/x.lua", "return " .. expression, mode or "serve"))
  return chunk()
end

do -- what scripts see
  for _, name in ipairs { "ffi", "jit", "newproxy", "getfenv", "setfenv", "LW_CDEF" } do
    check.eq(seen(name), nil, name)
  end
  for _, name in ipairs {
    "debug.getinfo", "string.dump", "os.execute", "os.exit", "io.popen", "package.loadlib",
  } do
    local err = check.raises(seen, "(" .. name .. "(print))")
    check.has(err, "tests/lua/x.lua:1: " .. name .. " is not offered to workers: ")
  end
  local in_program = check.raises(seen, 'os.execute "true"', "run")
  check.has(in_program, "os.execute is not offered to scripts: ")
  check.eq(type(seen "debug.traceback"), "function")
  check.eq(type(seen("os.exit", "run")), "function")
  check.eq(seen('pcall(require, "ffi")'), false)
  check.eq(seen('pcall(require, "luaworker.base")'), false)
  check.eq(seen 'require("luaworker") == require("luaworker")', true)
  check.eq(seen('load("\\27LJ")'), nil, "no bytecode")
  check.eq(seen('(function() shared = 5 return load("return shared")() end)()'), 5)
  check.eq(seen "shared", nil, "globals are each script's own")
  local wrong = check.raises(seen, 'load("return require", "x", "t", 1)')
  check.has(wrong, "expected a table of globals")
  check.eq(seen 'load("return require", "x", "t", {})()', nil, "no way to the library's globals")
  check.eq(seen 'getmetatable(io.open "/dev/null")', false, "files have one for all")
  check.eq(seen 'getmetatable(require("luaworker").json.decode "{}")', nil, "what JSON remembers")
  check.eq(seen('(function() string.upper = nil return ("a"):upper() end)()'), "A")
  check.eq(type(string.upper), "function", "the standard tables are copies")
  check.eq(type(seen 'require "check"'), "table", "files next to the script")
  local err = check.raises(seen, 'require "no.such"')
  check.has(err, "module 'no.such' not found")
  check.has(err, "tests/lua/no/such.lua")
end

check.done()

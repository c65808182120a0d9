-- SPDX-License-Identifier: MIT
-- Load tests of worker routes: `luaworker load`, and the two lines of a test_load.lua:
--
--   local load = require "luaworker.load"
--   load.main("workers/hello_world.lua", "/generate")
--
-- Payloads come from the worker script's samples, their workload from its count_workload.
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local client_payloads = require "luaworker.client_payloads"
local console = require "luaworker.client_console"
local engine = require "luaworker.load_engine"
local files = require "luaworker.load_files"
local live = require "luaworker.load_live"
local options = require "luaworker.load_options"
local report = require "luaworker.load_report"
local results = require "luaworker.load_result"
local target = require "luaworker.load_target"

local load_test = {}

-- Payloads are made before the start, then sent in turn: at most so many, of so many bytes in all,
-- in so many seconds, since a model's cache knows those that come again.
local PAYLOADS_MOST, PAYLOADS_BYTES, PAYLOADS_S = 10000, 64 * 1024 * 1024, 2

-- Before --

local function make_some(source, settings)
  local list, bytes, ending = {}, 0, base.C.lw_api_now() + PAYLOADS_S
  local most = settings.payload and 1 or math.min(settings.n or PAYLOADS_MOST, PAYLOADS_MOST)
  for i = 1, most do
    local one = source:make(settings.stream, settings.compare ~= nil)
    list[i], bytes = one, bytes + #one.json + #(one.model_body or "")
    if bytes > PAYLOADS_BYTES or base.C.lw_api_now() > ending then break end
  end
  return list
end

--- The payloads, and the route's facts.
local function make_payloads(settings)
  local source, err = client_payloads.open(settings.script, settings.route, settings.payload)
  if not source then cli.fail(1, "%s", err) end
  if settings.compare and not source.has_model_body then
    cli.fail(1, "--compare: %s asks no model with its payload: nothing to compare with",
      settings.route)
  end
  client_payloads.seed(settings.seed)
  local ok, list = pcall(make_some, source, settings)
  if not ok then cli.fail(1, "%s: %s", settings.script, tostring(list)) end
  if source.complaint then io.stderr:write(source.complaint, "\n") end
  settings.payloads = #list
  return list, source
end

local function choose_target(settings, source)
  if settings.target == "direct" then
    return target.direct(settings.url, settings.route, source.is_bare)
  end
  if settings.session and source.is_bare then
    cli.fail(1, "--session: %s takes no envelope, so its requests can't name a session",
      settings.route)
  end
  local key, err = console.endpoint_key(settings)
  if not key then cli.fail(1, "%s", err) end
  settings.endpoint_key = key
  return target.autoscaled(settings, settings.route, source.is_bare)
end

-- Files --

local function tell(result, name, ok, err)
  if ok then return end
  io.stderr:write(("--%s: %s\n"):format(name, tostring(err)))
  result.exit = 1
end

-- Not sooner than now: what stood in the file is gone with it.
local function open_csv(settings)
  if not settings.csv then return nil, function() return true end end
  local on_record, close_csv = files.open_csv(settings.csv)
  if not on_record then cli.fail(1, "--csv: %s", close_csv) end
  return on_record, close_csv
end

local function write_files(settings, result)
  if settings.json then tell(result, "json", files.write_json(settings.json, result)) end
  if settings.html then tell(result, "html", files.write_html(settings.html, result)) end
end

-- The run --

local function run_compare(settings, parts, source, control, result)
  if not settings.compare or control.stopping then return end
  local run = engine.run {
    settings = settings, payloads = parts.payloads, view = parts.view,
    phase = "comparing",
    target = target.direct(settings.compare, source.model_path, true, "model_body"),
  }:go(control)
  results.compare(result, results.of(run), settings.compare)
end

-- settings: as load_options makes them, with script and route; view: of load_live, or nil.
local function run_test(settings, view)
  settings.endpoint = settings.endpoint or client_payloads.endpoint_of(settings.script)
  local payloads, source = make_payloads(settings)
  cli.check(console.set_trust(settings))
  local control = {}
  local parts = {
    settings = settings, payloads = payloads, target = choose_target(settings, source), view = view,
  }
  local run = engine.run(parts)
  cli.check(parts.target:open(run))
  local close_csv
  run.on_record, close_csv = open_csv(settings)
  engine.catch_stop(control)
  local started_at = base.C.lw_api_wall()
  run:go(control)
  parts.target:close()
  local result = results.of(run)
  run_compare(settings, parts, source, control, result)
  engine.release_stop(control)
  if view then view:close() end
  results.close(result, settings, started_at, control.stopping or false)
  tell(result, "csv", close_csv())
  return result
end

local function path_of(route)
  return route:sub(1, 1) == "/" and route or "/" .. route
end

--- Runs a load test, writes its files, returns its result. given: script, route and the flags of
--- the command by name, dashes as underscores, such as { n = 100, rps = 10, direct = "http://...",
--- slo = "ttft:1s" }. A mistake in them, or what can't be begun, ends the program as the command's
--- does.
function load_test.run(given)
  if type(given) ~= "table" or type(given.script) ~= "string" or type(given.route) ~= "string" then
    error("load.run: expected a table with script and route", 2)
  end
  local given_flags = {}
  for name, value in pairs(given) do
    if name ~= "script" and name ~= "route" then given_flags[name] = value end
  end
  local settings = options.of_table(given_flags)
  settings.script, settings.route = given.script, path_of(given.route)
  local result = run_test(settings)
  write_files(settings, result)
  return result
end

-- The command --

local function size_of_view()
  if os.getenv "TERM" == "dumb" then return 0, 0 end
  return base.C.lw_api_stderr_columns(), base.C.lw_api_stderr_rows()
end

-- Reads the command line, runs, reports, writes files, ends the program.
local function run_command(usage, operands, script, route)
  local settings, given = options.read(arg, usage, operands)
  settings.script, settings.route = script or given[1], path_of(route or given[2])
  local view = not settings.quiet and live.open(io.stderr, size_of_view) or nil
  local result = run_test(settings, view)
  local to_stdout = settings.json == "-" or settings.csv == "-" or settings.html == "-"
  local out = to_stdout and io.stderr or io.stdout
  out:write(report.of(result))
  write_files(settings, result)
  cli.exit(result.exit)
end

-- Without the folders that a path goes into only to leave them again.
local function straight(path)
  local parts = { path:sub(1, 1) == "/" and "" or nil }
  for part in path:gmatch "[^/]+" do
    local last = parts[#parts]
    if part == ".." and last and last ~= ".." and last ~= "" then
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  return table.concat(parts, "/")
end

--- For a test_load.lua: tests this route of this worker script, a path from the program's own
--- folder or from where one stands. Without them they stand on the command line.
function load_test.main(script, route)
  if not script then return run_command("luaworker load", { "SCRIPT", "ROUTE" }) end
  if type(script) ~= "string" or type(route) ~= "string" then
    error('load.main: expected a script and a route, such as ("worker.lua", "/generate")', 2)
  end
  local folder = arg[0]:match "^(.*/)" or ""
  local beside = io.open(folder .. script, "rb")
  if beside then
    beside:close()
    script = straight(folder .. script)
  end
  run_command("luaworker run " .. arg[0], {}, script, route)
end

return load_test

-- SPDX-License-Identifier: MIT
-- Load tests of worker routes: `luaworker load`, and the two lines of a test_load.lua:
--
--   local load = require "luaworker.load"
--   load.main("workers/hello_world.lua", "/generate")
--
-- Payloads come from the worker script's for_test, their workload from its count_workload.
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local client_payloads = require "luaworker.client_payloads"
local console = require "luaworker.load_console"
local engine = require "luaworker.load_engine"
local files = require "luaworker.load_files"
local limits = require "luaworker.load_limits"
local live = require "luaworker.load_live"
local options = require "luaworker.load_options"
local report = require "luaworker.load_report"
local schedule = require "luaworker.load_schedule"
local target = require "luaworker.load_target"
local text = require "luaworker.load_text"

local load_test = {}

local PAYLOADS = 100 -- made before the start, then sent in turn
local LATE_S, SHORT = 0.010, 0.98
local SESSION_S = 600

-- Before --

--- Makes the payloads. settings.payload: given text. Returns the list and the route's facts.
local function make_payloads(settings, script, path)
  local given
  if settings.payload then
    local value, err = client_payloads.parse(settings.payload)
    if not value then cli.fail(2, "--payload: %s", err) end
    given = value
  end
  local source, err = client_payloads.open(script, path, given)
  if not source then cli.fail(1, "%s", err) end
  local list = {}
  local ok, wrong = pcall(function()
    for i = 1, math.min(settings.n or PAYLOADS, given and 1 or PAYLOADS) do
      list[i] = source:make(settings.stream)
    end
  end)
  if not ok then cli.fail(1, "%s: %s", script, tostring(wrong)) end
  return list, source
end

local function choose_target(settings, path, source)
  if settings.target == "direct" then
    return target.direct(settings.url .. path, source.is_bare)
  end
  local key, err = console.endpoint_key(settings)
  if not key then cli.fail(1, "%s", err) end
  settings.endpoint_key = key
  return target.autoscaled(settings, path)
end

-- After --

local function asked_of(settings, run)
  local seconds = schedule.seconds(settings) or settings.rps and run.begun / settings.rps
  return {
    requests = run.begun, seconds = seconds,
    rps = settings.rps or seconds and seconds > 0 and run.begun / seconds or nil,
  }
end

local function rate(count, first, last)
  return count > 1 and last > first and (count - 1) / (last - first) or nil
end

-- Whether the client itself was what limited the run, and why one can tell.
local function find_saturation(run, reached, delay)
  local reasons, s = {}, run.settings
  if run.recorder.held > 0 then
    reasons[1] = ("%s requests were held back by --max-concurrency %d, up to %s"):format(
      text.number(run.recorder.held), s.max_concurrency, text.seconds(run.recorder.longest_held))
  end
  local due_rate = rate(run.begun, run.first_due or 0, run.last_due or 0)
  if not s.concurrency and delay and delay.p99 > LATE_S then
    reasons[#reasons + 1] = ("requests left late, p99 %s, at worst %s"):format(
      text.seconds(delay.p99), text.seconds(delay.max))
  elseif not s.concurrency and due_rate and reached.rps and reached.rps < due_rate * SHORT then
    reasons[#reasons + 1] = ("%.4g requests/s were reached of %.4g"):format(reached.rps, due_rate)
  end
  if #reasons > 0 and run.cpu_share > 0.9 then
    reasons[#reasons + 1] = ("this process used %.0f %% of a core"):format(run.cpu_share * 100)
  end
  reached.saturated = #reasons > 0
  reached.why = #reasons > 0 and table.concat(reasons, "; ") or nil
end

local function result_of(run)
  local result = run.recorder:result()
  result.asked = asked_of(run.settings, run)
  result.reached.rps = rate(run.begun, run.first_begun or 0, run.last_begun or 0)
    or result.asked.rps
  result.reached.cpu_share = run.cpu_share
  find_saturation(run, result.reached, result.latency.schedule_delay)
  return result
end

local added_names = { "ttfb", "ttft", "itl", "service", "e2e" }

--- What the worker adds: the same statistics' differences.
local function compare_of(result, other, url)
  local added = {}
  for _, name in ipairs(added_names) do
    local a, b = result.latency[name], other.latency[name]
    if a and b then
      added[name] = {}
      for stat, value in pairs(a) do
        if stat ~= "count" then added[name][stat] = value - b[stat] end
      end
    end
  end
  return {
    url = url, latency = other.latency, throughput = other.throughput, outcomes = other.outcomes,
    curves = other.curves, reached = other.reached, added = added,
  }
end

local shown_settings = {
  "n", "rps", "duration_s", "warmup_s", "arrival", "burstiness", "stages", "concurrency",
  "max_concurrency", "seed", "timeout_s", "stream", "slo", "session", "insecure", "target", "url",
  "endpoint", "command",
}

local function settings_of(settings, script, path, started_at)
  local out = { script = script, route = path, started_at = started_at, thresholds = {} }
  for _, name in ipairs(shown_settings) do
    out[name] = settings[name]
  end
  for i, one in ipairs(settings.thresholds or {}) do
    out.thresholds[i] = one.text
  end
  return out
end

local function judge(result, settings)
  local all
  result.thresholds, all = limits.judge(settings.thresholds, result)
  local failed = (result.outcomes.ok or 0) == 0 or result.compare
    and (result.compare.outcomes.ok or 0) == 0
  result.exit = failed and 1 or all and 0 or 99
end

-- The run --

local function run_compare(settings, parts, source, control, result)
  if not settings.compare or control.stopping then return end
  local run = engine.run {
    settings = settings, payloads = parts.payloads, view = parts.view,
    phase = "comparing with " .. settings.compare,
    target = target.direct(settings.compare .. source.model_path, true, "model_body"),
  }:go(control)
  result.compare = compare_of(result, result_of(run), settings.compare)
end

--- Runs a load test: settings as load_options makes them, a worker script, the path of its route.
--- view: of load_live, or nil; on_record: called with each request's record. Returns the result
--- table. What can't be begun ends the program.
function load_test.run(settings, script, path, view, on_record)
  settings.endpoint = settings.endpoint or script:match("[^/]*$"):gsub("%.lua$", "")
  local payloads, source = make_payloads(settings, script, path)
  console.set_trust(settings)
  local where, control = choose_target(settings, path, source), {}
  engine.catch_stop(control)
  local parts = {
    settings = settings, payloads = payloads, target = where, view = view, on_record = on_record,
  }
  local run = engine.run(parts)
  if settings.session then
    cli.check(where:open_session(run, SESSION_S))
  end
  local started_at = base.C.lw_api_wall()
  run:go(control)
  if where.close_session then where:close_session(run) end
  local result = result_of(run)
  run_compare(settings, parts, source, control, result)
  result.version, result.program = 1, "luaworker " .. base.ffi.string(base.C.lw_api_version())
  result.settings = settings_of(settings, script, path, started_at)
  result.interrupted = control.stopping or false
  judge(result, settings)
  return result
end

local function write_files(settings, result)
  for name, write in pairs { json = files.write_json, html = files.write_html } do
    if settings[name] then
      local ok, err = write(settings[name], result)
      if not ok then
        io.stderr:write(("--%s: %s\n"):format(name, err))
        result.exit = 1
      end
    end
  end
end

--- Reads the command line, runs, reports, writes files, ends the program.
function load_test.command(args, usage, operands, script, path)
  local settings, given = options.read(args, usage, operands)
  script, path = script or given[1], path or given[2]
  if path:sub(1, 1) ~= "/" then path = "/" .. path end
  local on_record, close_csv
  if settings.csv then
    on_record, close_csv = files.open_csv(settings.csv)
    if not on_record then cli.fail(1, "--csv: %s", close_csv) end
  end
  local view = not settings.quiet and live.open(io.stderr, base.C.lw_api_stderr_columns()) or nil
  local result = load_test.run(settings, script, path, view, on_record)
  if view then view:close() end
  local to_stdout = settings.json == "-" or settings.csv == "-" or settings.html == "-"
  local out = to_stdout and io.stderr or io.stdout
  if close_csv then cli.check(close_csv()) end
  out:write(report.of(result))
  write_files(settings, result)
  cli.exit(result.exit)
end

--- For a test_load.lua: tests this route of this worker script, a path from the program's own
--- folder or from where one stands.
function load_test.main(script, path)
  local folder = arg[0]:match "^(.*/)" or ""
  local beside = io.open(folder .. script, "rb")
  if beside then
    beside:close()
    script = folder .. script
  end
  load_test.command(arg, "luaworker run " .. arg[0], {}, script, path)
end

return load_test

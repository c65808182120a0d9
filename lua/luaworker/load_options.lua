-- SPDX-License-Identifier: MIT
-- The command line of load tests: flags to settings. What is wrong is said in a sentence and ends
-- the program with 2. Called by load.lua.
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local limits = require "luaworker.load_limits"
local schedule = require "luaworker.load_schedule"

local options = {}

local PRODUCTION, LOCAL = "https://run.vast.ai", "http://localhost:8081"
local CONSOLE = "https://console.vast.ai"

local flags = {
  about = "Sends requests to workers and measures them. Open loop: each request has its moment,\n"
    .. "however slow the answers are, and latency counts from that moment.\n"
    .. "Ends with 0, 99 when a threshold is missed, 1 when it failed, 2 when used wrongly.",
  { "n", "N", "requests in all", type = "integer", min = 1 },
  { "rps", "R", "requests a second, in all", type = "number", min = 0 },
  { "duration", "TIME", "how long to send: 30s, 5m; with -n, what ends first" },
  { "stages", "LIST", "rates in turn, 10s:1,60s:1-20: 1/s for 10 s, then rising to 20/s" },
  { "arrival", "KIND", "constant, poisson, gamma or gamma:BURSTINESS", default = "constant" },
  { "concurrency", "N", "closed loop: N clients, each sending when its answer is there",
    type = "integer", min = 1 },
  { "max-concurrency", "N", "open loop: at most N at once; others wait, and that counts",
    type = "integer", min = 1 },
  { "warmup", "TIME", "send so long before measuring" },
  { "seed", "S", "of arrivals and chosen payloads", default = "1" },
  { "timeout", "TIME", "for each answer, from the post to its end", default = "10m" },
  { "stream", nil, 'ask for a stream: "stream": true in the payload' },
  { "payload", "JSON", "the payload to send, or @FILE (default: the script's for_test)" },
  { "key", "KEY", "the API key (default: VAST_API_KEY, API_KEY)", alias = "k" },
  { "endpoint", "NAME", "the endpoint's name (default: the script's file name)", alias = "e" },
  { "local", nil, "ask the autoscaler at " .. LOCAL, alias = "l" },
  { "autoscaler", "URL", "ask this one (default: " .. PRODUCTION .. ")" },
  { "console", "URL", "where an account's key is exchanged for the endpoint's" },
  { "route-timeout", "TIME", "for a worker to become free", default = "10m" },
  { "session", nil, "open one session, send all requests in it" },
  { "direct", "URL", "no autoscaler: straight to this worker or model server" },
  { "compare", "URL", "the same schedule once more, straight to the model there" },
  { "insecure", nil, "don't check certificates" },
  { "ca", "FILE", "PEM certificates to check with, besides the system's" },
  { "slo", "LIMITS", "what a good request is: ttft:200ms,itl:50ms,e2e:2s" },
  { "threshold", "LIST", "what a good run is: ttft.p95<200ms,errors<1%; may be repeated",
    list = true },
  { "json", "FILE", "write the result, - for standard output" },
  { "csv", "FILE", "write one line for each request" },
  { "html", "FILE", "write a report to look at, one file" },
  { "quiet", nil, "no progress, only the report at the end" },
}

local function fail(format, ...)
  cli.fail(2, format, ...)
end

local function read_time(given, name)
  local text = given[name]
  if text == nil then return nil end
  local seconds = limits.seconds_of(text)
  if not seconds then
    fail("--%s expects a time, such as 30s or 500ms, got %s", name:gsub("_", "-"), base.show(text))
  end
  return seconds
end

--- parse(text) → value, or nil and what is wrong.
local function read_list(given, name, parse, ...)
  local text = given[name]
  if text == nil then return nil end
  local value, wrong = parse(text, ...)
  if not value then fail("--%s: %s", name, wrong) end
  return value
end

local function read_arrival(text)
  local kind, burstiness = text:match "^(%a+):?([%d.]*)$"
  if not schedule.arrivals[kind or ""] or burstiness ~= "" and kind ~= "gamma" then
    fail("--arrival is constant, poisson, gamma or gamma:BURSTINESS, not %s", base.show(text))
  end
  local shape = tonumber(burstiness) or 1
  if shape <= 0 then fail "--arrival gamma:BURSTINESS: it must be above 0" end
  return kind, kind == "gamma" and shape or nil
end

-- What the two kinds of loops need, and what they can't have.
local function check_loop(s)
  if s.concurrency then
    for _, name in ipairs { "rps", "stages", "max_concurrency" } do
      if s[name] then
        fail("--concurrency is a closed loop: it has no --%s", (name:gsub("_", "-")))
      end
    end
    if not (s.n or s.duration_s) then fail "--concurrency needs -n or --duration" end
    return
  end
  if s.stages and (s.rps or s.duration_s) then
    fail "--stages says rates and times: without -rps and --duration"
  end
  if not s.stages and not s.rps then
    fail "how many requests a second? -rps R, --stages, or --concurrency N for a closed loop"
  end
  if s.rps and s.rps <= 0 then fail "-rps must be above 0" end
  if not (s.n or s.duration_s or s.stages) then fail "how many? -n N, --duration or --stages" end
end

local function check_target(s, given)
  if given.session and given.direct then fail "--session needs an autoscaler, not --direct" end
  local named = (given.direct and 1 or 0) + (given["local"] and 1 or 0)
    + (given.autoscaler and 1 or 0)
  if named > 1 then fail "one of --direct, -l and --autoscaler" end
  for _, name in ipairs { "direct", "compare", "autoscaler", "console" } do
    local url = given[name]
    if url and not (url:find "^https?://[^/]" or url:find "^unix:/") then
      fail("--%s: expected a URL such as http://127.0.0.1:3000, got %s", name, base.show(url))
    end
  end
  if s.target == "direct" then return end
  if not s.key and s.production then
    fail "the autoscaler wants an API key: -k KEY, or VAST_API_KEY in the environment"
  end
end

local function set_target(s, given)
  s.target = given.direct and "direct" or "autoscaler"
  s.production = not (given.direct or given["local"] or given.autoscaler)
  s.url = given.direct or given["local"] and LOCAL or given.autoscaler or PRODUCTION
  s.url = s.url:gsub("/+$", "")
  s.compare = given.compare and given.compare:gsub("/+$", "")
  s.console = given.console or s.production and CONSOLE or nil
  s.key = given.key or os.getenv "VAST_API_KEY" or os.getenv "API_KEY"
  check_target(s, given)
  s.key = s.key or "local"
end

local function settings_from(given)
  local s = {
    n = given.n, rps = given.rps, concurrency = given.concurrency,
    max_concurrency = given.max_concurrency, seed = given.seed, stream = given.stream or false,
    payload = given.payload, endpoint = given.endpoint, session = given.session,
    insecure = given.insecure, ca = given.ca, quiet = given.quiet,
    json = given.json, csv = given.csv, html = given.html,
    duration_s = read_time(given, "duration"), warmup_s = read_time(given, "warmup") or 0,
    timeout_s = read_time(given, "timeout"), route_timeout_s = read_time(given, "route_timeout"),
    stages = read_list(given, "stages", schedule.parse_stages, limits.seconds_of),
    slo = read_list(given, "slo", limits.parse_slo),
  }
  local texts = given.threshold and table.concat(given.threshold, ",")
  s.thresholds = read_list({ threshold = texts }, "threshold", limits.parse_thresholds) or {}
  s.arrival, s.burstiness = read_arrival(given.arrival)
  check_loop(s)
  set_target(s, given)
  return s
end

-- As it can be shown: without the key.
local function command_line(usage, args)
  local words = { usage }
  for i, arg in ipairs(args) do
    local before = args[i - 1] or ""
    if before:find "^%-%-?k$" or before:find "^%-%-?key$" then arg = "***" end
    words[#words + 1] = arg:gsub("^(%-%-?key=).*", "%1***"):gsub("^(%-%-?k=).*", "%1***")
  end
  return table.concat(words, " ")
end

--- Reads `args`. usage: how the program is called; operands: as for cli.parse. Returns the settings
--- and the operands, or ends the program.
function options.read(args, usage, operands)
  local spec = { usage = usage, operands = operands, about = flags.about }
  for i, flag in ipairs(flags) do
    spec[i] = flag
  end
  local given = cli.parse(args, spec)
  local settings = settings_from(given)
  settings.command = command_line(usage, args)
  return settings, given
end

return options

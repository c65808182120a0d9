-- SPDX-License-Identifier: MIT
-- The command line of load tests: flags to settings. What is wrong is said in a sentence and ends
-- the program with 2. Called by load.lua.
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local client_payloads = require "luaworker.client_payloads"
local console = require "luaworker.client_console"
local limits = require "luaworker.load_limits"
local schedule = require "luaworker.load_schedule"

local options = {}

local flags = {
  about = "Sends requests to workers and measures them. Open loop: each request has its moment,\n"
    .. "however slow the answers are, and latency counts from that moment.\n"
    .. "Ends with 0, 99 when a threshold is missed, 1 when it failed, 2 when used wrongly.",
  { "n", "N", "requests in all", type = "integer", min = 1 },
  { "rps", "R", "requests a second, in all", type = "number", min = 0 },
  { "duration", "TIME", "how long to send: 30s, 5m; with -n, what ends first" },
  { "stages", "LIST", "rates in turn, 10s:1,60s:1-20: 1/s for 10 s, then rising to 20/s" },
  { "arrival", "KIND", "constant (default), poisson, gamma or gamma:BURSTINESS" },
  { "concurrency", "N", "closed loop: N clients, each sending when its answer is there",
    type = "integer", min = 1 },
  { "max-concurrency", "N", "open loop: at most N at once; others wait, and that counts",
    type = "integer", min = 1 },
  { "warmup", "TIME", "send so long before measuring" },
  { "seed", "S", "of arrivals and payloads", default = "1" },
  { "timeout", "TIME", "for each answer, from the post to its end", default = "10m" },
  { "stream", nil, 'ask for a stream: "stream": true in the payload' },
  { "payload", "JSON", "the payload to send, or @FILE (default: the script's own samples)" },
  { "key", "KEY", "the API key (default: VAST_API_KEY, API_KEY)", alias = "k" },
  { "endpoint", "NAME", "the endpoint's name (default: the script's file name)", alias = "e" },
  { "local", nil, "ask the autoscaler at " .. console.LOCAL, alias = "l" },
  { "autoscaler", "URL", "ask this one (default: " .. console.AUTOSCALER .. ")" },
  { "console", "URL", "where an account's key is exchanged for the endpoint's" },
  { "route-timeout", "TIME", "for a worker to become free (default 10m)" },
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

local function flag_of(name)
  return name == "n" and "-n" or name == "rps" and "-rps" or "--" .. name:gsub("_", "-")
end

local function read_time(given, name, least)
  local text = given[name]
  if text == nil then return nil end
  local seconds = limits.seconds_of(tostring(text))
  if not seconds then
    fail("%s expects a time, such as 30s or 500ms, got %s", flag_of(name), base.show(text))
  elseif seconds < (least or 0.001) then
    fail("%s is too short: %s", flag_of(name), text)
  end
  return seconds
end

--- parse(text) → value, or nil and what is wrong.
local function read_text(given, name, parse, ...)
  local text = given[name]
  if text == nil then return nil end
  local value, wrong = parse(text, ...)
  if not value then fail("%s: %s", flag_of(name), wrong) end
  return value
end

local function read_arrival(text)
  local kind, burstiness = (text or "constant"):match "^(%a+):?([%d.]*)$"
  if not schedule.arrivals[kind or ""] or burstiness ~= "" and kind ~= "gamma" then
    fail("--arrival is constant, poisson, gamma or gamma:BURSTINESS, not %s", base.show(text))
  end
  local shape = burstiness == "" and 1 or tonumber(burstiness) or 0
  if shape <= 0 then fail("--arrival gamma:BURSTINESS: it must be above 0") end
  return kind, kind == "gamma" and shape or nil
end

-- What the two kinds of loops need, and what they can't have.
local function check_closed_loop(s, given)
  for _, name in ipairs { "rps", "stages", "max_concurrency", "arrival" } do
    if given[name] then fail("--concurrency is a closed loop: it has no %s", flag_of(name)) end
  end
  if not (s.n or s.duration_s) then fail "--concurrency needs -n or --duration" end
end

local function check_open_loop(s)
  if s.stages and (s.rps or s.duration_s) then
    fail "--stages says rates and times: without -rps and --duration"
  elseif s.stages and not schedule.has_some(s.stages) then
    fail "--stages: no rate in it is above 0"
  elseif not s.stages and not s.rps then
    fail "how many requests a second? -rps R, --stages, or --concurrency N for a closed loop"
  elseif s.rps and s.rps <= 0 then
    fail "-rps must be above 0"
  elseif not (s.n or s.duration_s or s.stages) then
    fail "how many? -n N, --duration or --stages"
  end
end

local function check_target(s, given)
  local named = 0
  for _, name in ipairs { "direct", "local", "autoscaler" } do
    if given[name] then named = named + 1 end
  end
  if named > 1 then fail "one of --direct, -l and --autoscaler" end
  for _, name in ipairs { "session", "console", "route_timeout" } do
    if given.direct and given[name] then
      fail("%s needs an autoscaler, not --direct", flag_of(name))
    end
  end
  for _, name in ipairs { "direct", "compare", "autoscaler", "console" } do
    local url = given[name]
    if url and not (url:find "^https?://[^/]" or url:find "^unix:/") then
      fail("--%s: expected a URL such as http://127.0.0.1:3000, got %s", name, base.show(url))
    end
  end
  if given.insecure and given.ca then fail "--insecure looks at no certificate: without --ca" end
  if not s.key and s.console then
    fail "the autoscaler wants an API key: -k KEY, or VAST_API_KEY in the environment"
  end
end

local function set_target(s, given)
  s.target = given.direct and "direct" or "autoscaler"
  s.production = not (given.direct or given["local"] or given.autoscaler)
  s.url = given.direct or given["local"] and console.LOCAL or given.autoscaler
    or console.AUTOSCALER
  s.url = s.url:gsub("/+$", "")
  s.compare = given.compare and given.compare:gsub("/+$", "")
  s.console = (given.console or s.production and console.URL or nil)
  s.key = given.key or console.key_of_environment()
  check_target(s, given)
  s.console = s.console and s.console:gsub("/+$", "")
  s.key = s.key or "local"
end

local function check_files(s)
  local first
  for _, name in ipairs { "json", "csv", "html" } do
    if s[name] == "-" then
      if first then fail("--%s and --%s can't both be standard output", first, name) end
      first = name
    end
  end
end

local function read_thresholds(given, slo)
  local texts = given.threshold
  if type(texts) == "table" then texts = table.concat(texts, ",") end
  local thresholds = read_text({ threshold = texts }, "threshold", limits.parse_thresholds) or {}
  for _, one in ipairs(thresholds) do
    if one.figure == "goodput" and not slo then fail "--threshold goodput needs --slo" end
  end
  return thresholds
end

local copied = {
  "n", "rps", "concurrency", "max_concurrency", "endpoint", "session", "insecure", "ca", "quiet",
  "json", "csv", "html",
}

--- The settings of a load test from its flags, by name; what is wrong with them ends the program.
function options.settings(given)
  local s = {
    seed = tostring(given.seed or 1), stream = given.stream or false,
    payload = read_text(given, "payload", client_payloads.parse),
    duration_s = read_time(given, "duration"), warmup_s = read_time(given, "warmup", 0) or 0,
    timeout_s = read_time(given, "timeout") or 600,
    route_timeout_s = read_time(given, "route_timeout", 0) or 600,
    stages = read_text(given, "stages", schedule.parse_stages, limits.seconds_of),
    slo = read_text(given, "slo", limits.parse_slo),
  }
  for _, name in ipairs(copied) do
    s[name] = given[name]
  end
  s.thresholds = read_thresholds(given, s.slo)
  s.arrival, s.burstiness = read_arrival(given.arrival)
  if s.concurrency then check_closed_loop(s, given) else check_open_loop(s) end
  set_target(s, given)
  check_files(s)
  return s
end

-- The command line --

local function quoted(word)
  if word:find "^[%w_@%%+=:,./-]+$" then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- As it can be shown: without the key.
local function command_line(usage, args)
  local words = { usage }
  for i, arg in ipairs(args) do
    local before = args[i - 1] or ""
    if before:find "^%-%-?k$" or before:find "^%-%-?key$" then arg = "***" end
    arg = arg:gsub("^(%-%-?key=).*", "%1***"):gsub("^(%-%-?k=).*", "%1***")
    words[#words + 1] = arg == "***" and arg or quoted(arg)
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
  local settings = options.settings(given)
  settings.command = command_line(usage, args)
  return settings, given
end

return options

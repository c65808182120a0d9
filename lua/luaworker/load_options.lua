-- SPDX-License-Identifier: MIT
-- The command line of load tests: flags to settings. What is wrong is said in a sentence and ends
-- the program with 2. Called by load.lua.
local cli = require "luaworker.cli"
local client_payloads = require "luaworker.client_payloads"
local console = require "luaworker.client_console"
local files = require "luaworker.load_files"
local limits = require "luaworker.load_limits"
local schedule = require "luaworker.load_schedule"
local without_password = require("luaworker.load_text").without_password

local options = {}

local AT_ONCE_MOST = 50000 -- requests; memory, and tasks that a program can have

local flags = {
  strict = true,
  about = "Sends requests to workers and measures them. Open loop: each request has its moment,\n"
    .. "however slow the answers are, and latency counts from that moment.\n"
    .. "Ends with 0, 99 when a threshold is missed, 1 when it failed, 2 when used wrongly.",
  { "n", "N", "requests in all", type = "integer", min = 1, max = 1e9, dash = "-" },
  { "rps", "R", "requests a second, in all", type = "number", max = limits.RATE_MOST, dash = "-" },
  { "duration", "TIME", "how long to send: 30s, 5m; with -n, what ends first" },
  { "stages", "LIST", "rates in turn, 10s:1,60s:1-20: 1/s for 10 s, then rising to 20/s" },
  { "arrival", "KIND", "constant (default), poisson, gamma or gamma:BURSTINESS" },
  { "concurrency", "N", "closed loop: N clients, each sending when its answer is there",
    type = "integer", min = 1, max = AT_ONCE_MOST },
  { "max-concurrency", "N", "open loop: at most N at once; others wait, and that counts",
    type = "integer", min = 1, max = AT_ONCE_MOST },
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
  local seconds = limits.seconds_of(text)
  if not seconds then
    fail("%s expects a time, such as 30s or 500ms, got %s", flag_of(name), cli.quote(text))
  elseif seconds < (least or 0.001) then
    fail("%s is too short: %s", flag_of(name), text)
  elseif seconds > limits.TIME_MOST_S then
    fail("%s is too long: %s, at most 168h", flag_of(name), cli.quote(text))
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
  local kind, burstiness = text:match "^(%a+):([%d.]+)$"
  kind = kind or text
  if not schedule.arrivals[kind] or burstiness and kind ~= "gamma" then
    fail("--arrival is constant, poisson, gamma or gamma:BURSTINESS, not %s", cli.quote(text))
  end
  local shape = tonumber(burstiness or 1)
  if not shape or shape < 0.01 or shape > 1000 then
    fail("--arrival gamma:BURSTINESS: from 0.01 to 1000, not %s", cli.quote(burstiness))
  end
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
  elseif s.rps and s.rps < limits.RATE_LEAST then
    fail("-rps must be above 0%s", s.rps > 0 and ", at least one in 168h" or "")
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
  local urls = {}
  for _, name in ipairs { "direct", "compare", "autoscaler", "console" } do
    urls[flag_of(name)] = given[name]
  end
  local wrong = console.mistake(s, urls)
  if wrong then fail("%s", wrong) end
end

local function set_target(s, given)
  s.target = given.direct and "direct" or "autoscaler"
  s.production = not (given.direct or given["local"] or given.autoscaler)
  s.url = given.direct or given["local"] and console.LOCAL or given.autoscaler
    or console.AUTOSCALER
  s.compare, s.console = given.compare, given.console or s.production and console.URL or nil
  s.key = given.key or console.key_of_environment()
  check_target(s, given)
  for _, name in ipairs { "url", "compare", "console" } do
    s[name] = s[name] and s[name]:gsub("/+$", "")
  end
  s.key = s.key or "local"
end

-- Better now than when all is over.
local function check_files(s)
  local first = {}
  for _, name in ipairs { "json", "csv", "html" } do
    local path = s[name]
    if path and first[path] then
      fail("--%s and --%s can't both be %s", first[path], name,
        path == "-" and "standard output" or path)
    elseif path then
      first[path] = name
      local ok, err = files.try(path)
      if not ok then fail("--%s can't be written: %s", name, err) end
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

--- The settings of a load test from its flags, as cli.parse gives them; what is wrong with them
--- ends the program.
local function settings_of(given)
  local s = {
    seed = given.seed, stream = given.stream or false,
    payload = read_text(given, "payload", client_payloads.parse),
    duration_s = read_time(given, "duration"), warmup_s = read_time(given, "warmup", 0) or 0,
    timeout_s = read_time(given, "timeout") or 600,
    route_timeout_s = read_time(given, "route_timeout", 0) or 600,
    stages = read_text(given, "stages", schedule.parse_stages),
    slo = read_text(given, "slo", limits.parse_slo),
  }
  for _, name in ipairs(copied) do
    s[name] = given[name]
  end
  s.thresholds = read_thresholds(given, s.slo)
  s.arrival, s.burstiness = read_arrival(given.arrival or "constant")
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
    words[#words + 1] = arg == "***" and arg or quoted(without_password(arg))
  end
  return table.concat(words, " ")
end

local function spec_of(usage, operands)
  local spec = { usage = usage, operands = operands, about = flags.about, strict = flags.strict }
  for i, flag in ipairs(flags) do
    spec[i] = flag
  end
  return spec
end

--- Reads `args`. usage: how the program is called; operands: as for cli.parse. Returns the settings
--- and the operands, or ends the program.
function options.read(args, usage, operands)
  local given = cli.parse(args, spec_of(usage, operands))
  local settings = settings_of(given)
  settings.command = command_line(usage, args)
  return settings, given
end

-- { n = 10, stream = true, threshold = { "a", "b" } } → { "--n=10", "--stream", ... }
local function args_of(given)
  local args = {}
  for name, value in pairs(given) do
    local flag = "--" .. tostring(name):gsub("_", "-")
    if value == true then
      args[#args + 1] = flag
    elseif value then
      for _, one in ipairs(type(value) == "table" and value or { value }) do
        args[#args + 1] = flag .. "=" .. tostring(one)
      end
    end
  end
  table.sort(args)
  return args
end

--- The same from a table of flags by name, dashes as underscores.
function options.of_table(given)
  return settings_of(cli.parse(args_of(given), spec_of("load.run", {})))
end

return options

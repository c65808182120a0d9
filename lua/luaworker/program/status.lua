-- SPDX-License-Identifier: MIT
-- `luaworker status`: asks /status of a running worker and prints it for a person. Ends with 0 when
-- the worker is ready, 1 when it is not, 2 when used wrongly, 3 when it can't be asked.
local worker = require "luaworker"
local cli = require "luaworker.cli"
local http = require "luaworker.http"

local null = worker.json.null
local DEFAULT_WORKER_PORT = 3000

local options = cli.parse(arg, {
  usage = "luaworker status",
  about = "Asks a running worker how it is, on its internal port (default: 127.0.0.1, port\n"
    .. "WORKER_HTTP_PORT, else the one after WORKER_PORT, else 3001). Ends with 0 when it is\n"
    .. "ready, 1 when it is not, 3 when it can't be asked.",
  operands = { "[URL]" },
  { "internal-addr", "HOST:PORT", "its internal port; also PORT or HOST alone, or a URL" },
  { "json", nil, "print /status as it came" },
})

-- Where to ask --

local function read_port(text, from)
  local port = text:find "^%d+$" and tonumber(text)
  if port and port >= 1 and port <= 65535 then return port end
  cli.fail(2, "status: %s is no port: %q", from, text)
end

local function default_port()
  local http_port = os.getenv "WORKER_HTTP_PORT"
  if http_port and http_port ~= "" and http_port ~= "-1" then
    return read_port(http_port, "WORKER_HTTP_PORT")
  end
  local port = os.getenv "WORKER_PORT"
  if not port or port == "" then return DEFAULT_WORKER_PORT + 1 end
  return read_port(port, "WORKER_PORT") + 1
end

local function status_url(address)
  if address:find "^https?://" then
    return (address:gsub("/+$", ""):gsub("/status$", "")) .. "/status"
  end
  if address:find "^%d+$" then address = ":" .. address end
  local host, port = address:match "^(.*):([^:%]]*)$"
  host = host or address
  if host == "" then host = "127.0.0.1" end
  if host:find "[/%s]" or host:find(":", 1, true) and not host:find "^%[.*%]$" then
    cli.fail(2, "status: %q is no address; expected HOST:PORT or a URL", address)
  end
  port = port and read_port(port, "the port of --internal-addr") or default_port()
  return ("http://%s:%d/status"):format(host, port)
end

local function fail(url, format, ...)
  cli.fail(3, "status: can't ask %s: %s. Does the worker run on this machine? Its log says where "
    .. "its internal port is; name that with --internal-addr HOST:PORT", url, format:format(...))
end

--- The answer's text and what it says.
local function ask(url)
  local response, err = http.get(url, { timeout = { connect = 5, total = 10 } })
  if not response then fail(url, "%s", err) end
  local ok, text = pcall(response.body, response)
  if not ok then fail(url, "%s", tostring(text)) end
  local status = response.status == 200 and worker.json.decode(text)
  if type(status) ~= "table" or type(status.gates) ~= "table" then
    fail(url, "what answers there (status %d) is no worker's internal port", response.status)
  end
  return text, status
end

-- For a person --

local function duration(seconds)
  local s = math.max(seconds, 0)
  if s < 60 then return ("%.1f s"):format(s) end
  if s < 3600 then return ("%d min %d s"):format(s / 60, s % 60) end
  if s < 86400 then return ("%d h %d min"):format(s / 3600, s % 3600 / 60) end
  return ("%d d %d h"):format(s / 86400, s % 86400 / 3600)
end

--- By the worker's own clock.
local function since(status, moment)
  return moment ~= null and duration(status.now - moment) or ""
end

--- What others wrote, in one line and without control characters.
local function plain(text)
  return (text:gsub("%c+", " "))
end

--- The first closed gate with its reason, and the names of the others. One that failed goes first.
local function closed_gates(status)
  local first, names = nil, {}
  for _, state in ipairs { "failed", "waiting" } do
    for _, gate in ipairs(status.gates) do
      if gate.state == state and first then names[#names + 1] = gate.name end
      if gate.state == state then first = first or gate.name .. ": " .. plain(gate.why) end
    end
  end
  if not first or #names == 0 then return first end
  return first .. "; also " .. table.concat(names, ", ")
end

local function headline(status)
  if status.ready then
    local at = os.date("%Y-%m-%d %H:%M:%S", status.since)
    return ("ready since %s (%s)"):format(at, since(status, status.since))
  end
  local reasons = {}
  if status.draining then
    local long = since(status, status.since)
    reasons[1] = "draining for " .. long .. ", until it is started anew"
  end
  reasons[#reasons + 1] = closed_gates(status)
  return "not ready: " .. table.concat(reasons, "; ")
end

local function print_row(name, format, ...)
  print(("%-10s %s"):format(name, format:format(...)))
end

local function print_gates(status)
  for _, gate in ipairs(status.gates) do
    local used = gate.state ~= "unused"
    local row = ("  %-9s %-8s %-12s %s"):format(gate.name, gate.state,
      used and since(status, gate.since) or "", plain(gate.why))
    print((row:gsub("%s+$", "")))
  end
end

local function print_load(status)
  local perf = status.max_perf > 0 and ("%.6g/s at most"):format(status.max_perf)
    or "no max_perf yet"
  print_row("load", "%d in flight, %d queued, %d sessions; workload %.6g, %s", status.in_flight,
    status.queued, status.sessions, status.workload, perf)
  local totals = status.totals
  print_row("requests", "%d received: %d success, %d error, %d cancelled, %d rejected",
    totals.received.requests, totals.success.requests, totals.error.requests,
    totals.cancelled.requests, totals.rejected.requests)
end

local function print_reports(status)
  local reports = status.reports
  if status.report_addr == null then
    print_row("reports", "none: REPORT_ADDR is not set")
    return
  end
  local last = reports.last_taken ~= null
    and (", the last %s ago"):format(since(status, reports.last_taken))
  print_row("reports", "to %s: %d taken%s, %d failed", plain(status.report_addr), reports.taken,
    last or "", reports.failures)
  if reports.error ~= "" then print_row("", "%s", plain(reports.error)) end
end

local function print_status(status)
  print(headline(status))
  print_gates(status)
  print_load(status)
  print_reports(status)
  print_row("signatures", status.unsecured and "not checked: UNSECURED"
    or status.key_present and "checked" or "all refused: there is no key")
  if status.certificate_expiry ~= null then
    print_row("TLS", "certificate good until %s", os.date("%Y-%m-%d", status.certificate_expiry))
  end
  print_row("model", "%s", status.model_url ~= null and plain(status.model_url) or "none")
  print_row("script", "%s, generation %d, luaworker %s, up %s", plain(status.script),
    status.generation, status.version, duration(status.uptime))
  if status.reload_error ~= null then
    print_row("reload", "failed: %s", plain(status.reload_error))
  end
end

local url = status_url(options[1] or options.internal_addr or "127.0.0.1")
local text, status = ask(url)
if options.json then
  io.stdout:write(text)
else
  print_status(status)
end
cli.exit(status.ready and 0 or 1)

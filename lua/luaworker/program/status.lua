-- SPDX-License-Identifier: MIT
-- `luaworker status`: asks /status of a running worker and prints it for a person. Ends with 0 when
-- the worker is ready, 1 when it is not, 2 when used wrongly, 3 when it can't be asked.
local worker = require "luaworker"
local cli = require "luaworker.cli"
local internal_port = require "luaworker.internal_port"

local null, plain = worker.json.null, internal_port.plain

local options = cli.parse(arg, {
  usage = "luaworker status",
  about = "Asks a running worker how it is, on its internal port " .. internal_port.DEFAULT .. ".\n"
    .. "Ends with 0 when it is ready, 1 when it is not, 3 when it can't be asked.",
  operands = { "[URL]" },
  internal_port.OPTION,
  { "json", nil, "print /status as it came" },
})

--- The answer's text and what it says.
local function ask(url)
  local text, status = internal_port.ask("GET", url)
  if type(status) == "table" and type(status.gates) == "table" then return text, status end
  internal_port.fail_foreign(url)
end

-- For a person --

local lines = {} -- printed at the end: half of them would be no answer

local function put_line(line)
  lines[#lines + 1] = line
end

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
  local reasons = { status.stopping and "stopping: SIGTERM has come" or nil }
  if status.draining then
    local long = since(status, status.since)
    reasons[#reasons + 1] = "draining for " .. long .. ", until it is started anew"
  end
  reasons[#reasons + 1] = closed_gates(status)
  return "not ready: " .. table.concat(reasons, "; ")
end

local function put_row(name, format, ...)
  put_line(("%-10s %s"):format(name, format:format(...)))
end

local function put_gates(status)
  for _, gate in ipairs(status.gates) do
    local used = gate.state ~= "unused"
    local row = ("  %-9s %-8s %-12s %s"):format(gate.name, gate.state,
      used and since(status, gate.since) or "", plain(gate.why))
    put_line((row:gsub("%s+$", "")))
  end
end

local function put_load(status)
  local perf = status.max_perf > 0 and ("%.6g/s at most"):format(status.max_perf)
    or "no max_perf yet"
  put_row("load", "%d in flight, %d queued, %d sessions; workload %.6g, %s", status.in_flight,
    status.queued, status.sessions, status.workload, perf)
  local totals = status.totals
  put_row("requests", "%d received: %d success, %d error, %d cancelled, %d rejected",
    totals.received.requests, totals.success.requests, totals.error.requests,
    totals.cancelled.requests, totals.rejected.requests)
end

local function put_reports(status)
  local reports = status.reports
  if status.report_addr == null then
    put_row("reports", "none: REPORT_ADDR is not set")
    return
  end
  put_row("advertised", "%s", plain(status.url))
  local last = reports.last_taken ~= null
    and (", the last %s ago"):format(since(status, reports.last_taken))
  put_row("reports", "to %s: %d taken%s, %d failed", plain(status.report_addr), reports.taken,
    last or "", reports.failures)
  if reports.error ~= "" then put_row("", "%s", plain(reports.error)) end
end

local function put_status(status)
  put_line(headline(status))
  put_gates(status)
  put_load(status)
  put_reports(status)
  put_row("signatures", status.unsecured and "not checked: UNSECURED"
    or status.key_present and "checked" or "all refused: there is no key")
  if status.certificate_expiry ~= null then
    put_row("TLS", "certificate good until %s", os.date("%Y-%m-%d", status.certificate_expiry))
  end
  put_row("model", "%s", status.model_url ~= null and plain(status.model_url) or "none")
  put_row("script", "%s, generation %d, luaworker %s, up %s", plain(status.script),
    status.generation, status.version, duration(status.uptime))
  if status.reload_error ~= null then
    local first, rest = status.reload_error:match "^([^\n]*)(.*)$"
    put_row("reload", "failed: %s", plain(first))
    local _, more = rest:gsub("\n+[^\n]", "")
    if more > 0 then put_row("", "and %d more lines: see the log", more) end
  end
end

local url = internal_port.url(options[1] or options.internal_addr or "", "/status")
local text, status = ask(url)
if options.json then
  io.stdout:write(text)
else
  if not pcall(put_status, status) then internal_port.fail_foreign(url) end
  print(table.concat(lines, "\n"))
end
cli.exit(status.ready and 0 or 1)

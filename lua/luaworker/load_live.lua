-- SPDX-License-Identifier: MIT
-- The view of a running load test. On a terminal a few lines that are drawn over each other, each
-- time in one write, so that nothing flickers; elsewhere a plain line now and then. Called by
-- load_engine.lua twice a second.
local schedule = require "luaworker.load_schedule"
local text = require "luaworker.load_text"

local live = {}

local seconds, number = text.seconds, text.number
local BAR, PLAIN_EVERY_S = 30, 5

-- How long the flags say that the sending lasts; nil: nobody knows, or -n may cut stages short.
local function planned_seconds(s)
  local total = schedule.seconds(s)
  if not s.n then return total end
  return s.rps and math.min(total or math.huge, s.n / s.rps) or nil
end

--- How far: 0 to 1, and the seconds that are left, nil when nobody knows.
local function progress(run)
  local s, planned = run.settings, planned_seconds(run.settings)
  local by_count = s.n and run.begun / s.n or 0
  local total = schedule.seconds(s)
  local by_time = total and run.elapsed / total or 0
  local share = math.min(math.max(by_count, by_time), 1)
  if planned and run.elapsed < planned then return share, planned - run.elapsed end
  return share, share > 0 and run.elapsed / share * (1 - share) or nil
end

local function bar(share)
  local full = math.floor(share * BAR + 0.5)
  return "[" .. ("#"):rep(full) .. ("."):rep(BAR - full) .. "]"
end

local function latency_row(name, one)
  if one:count() == 0 then return { name, "-", "-", "-", "-", "-" } end
  return {
    name, seconds(one:at(0.5)), seconds(one:at(0.9)), seconds(one:at(0.95)), seconds(one:at(0.99)),
    seconds(one:max()),
  }
end

local function outcome_text(recorder)
  local parts = {}
  for i, name in ipairs(text.outcome_names(recorder.outcomes)) do
    if i > 6 then break end
    parts[i] = name .. " " .. number(recorder.outcomes[name])
  end
  return #parts > 0 and table.concat(parts, "  ") or "no answer yet"
end

local function rate_text(run)
  local last = run.recorder.timeline[#run.recorder.timeline]
  local s = run.settings
  local asked = s.concurrency and "closed loop"
    or number(schedule.rate_at(s, run.elapsed)) .. "/s asked"
  local reached = last and last.sent or 0
  local ended = last and last.ended or 0
  return ("%s, %s/s sent, %s/s ended"):format(asked, number(reached), number(ended))
end

local function state_text(run, share, left)
  local in_flight = number(run.recorder.in_flight)
  if run.stopping then
    return ("stopped: %s still running (Ctrl-C again ends at once)"):format(in_flight)
  end
  local state = left and share < 1 and text.clock(left) .. " left"
    or share >= 1 and in_flight .. " still running" or ""
  return run.phase and state .. " (" .. run.phase .. ")" or state
end

local function progress_text(run)
  local share, left = progress(run)
  return ("%s %3.0f %%  %s  %s"):format(bar(share), share * 100, text.clock(run.elapsed),
    state_text(run, share, left))
end

local function count_text(recorder)
  local parts = {
    number(recorder.sent) .. " sent", number(recorder.in_flight) .. " in flight",
    number(recorder.waiting) .. " waiting for a worker",
    recorder.retries == 1 and "1 retry" or number(recorder.retries) .. " retries",
    text.count(recorder.tokens, "token"),
  }
  if recorder.workers_eligible then
    parts[#parts + 1] = text.count(recorder.workers_eligible, "worker")
  end
  return table.concat(parts, ", ")
end

--- The lines of the view.
function live.lines(run)
  local recorder = run.recorder
  local lines = {
    progress_text(run), rate_text(run), count_text(recorder), outcome_text(recorder),
  }
  local rows = {
    { "", "p50", "p90", "p95", "p99", "max" },
    latency_row("sent late by", recorder.latency.schedule_delay),
    latency_row("first token", recorder.latency.ttft),
    latency_row("between tokens", recorder.latency.itl),
    latency_row("end to end", recorder.latency.e2e),
  }
  for _, line in ipairs(text.columns(rows, "   ")) do
    lines[#lines + 1] = line
  end
  return lines
end

--- The same in one line.
function live.line(run)
  local recorder, latency = run.recorder, run.recorder.latency
  local e2e = latency.e2e:count() > 0
    and ("p50 %s p99 %s"):format(seconds(latency.e2e:at(0.5)), seconds(latency.e2e:at(0.99))) or "-"
  return ("%s%s  %s; %s in flight; %s; end to end %s"):format(text.clock(run.elapsed),
    run.phase and " " .. run.phase or "", rate_text(run), number(recorder.in_flight),
    outcome_text(recorder), e2e)
end

local View = {}
View.__index = View

--- out: a file; size_of(): the terminal's columns and rows now, 0 when it is none.
function live.open(out, size_of)
  return setmetatable({ out = out, size_of = size_of, drawn = {} }, View)
end

local function draw_plain(self, run)
  if self.run == run and run.elapsed < self.next_plain then return end
  self.run, self.next_plain = run, run.elapsed + PLAIN_EVERY_S
  self.out:write(live.line(run), "\n")
  self.out:flush()
end

-- Up to the first line that was drawn. In a terminal that has become narrower a line is several.
local function way_back(self, columns)
  local rows = 0
  for _, line in ipairs(self.drawn) do
    rows = rows + math.max(math.ceil(#line / math.max(columns, 1)), 1)
  end
  return rows > 0 and ("\27[%dF"):format(rows) or ""
end

function View:draw(run)
  local columns, rows = self.size_of()
  if columns == 0 then return draw_plain(self, run) end
  local parts, drawn = { way_back(self, columns) }, {}
  for i, line in ipairs(live.lines(run)) do
    if i >= rows and i > 1 then break end -- or it would scroll away from what it is drawn over
    drawn[i] = line:sub(1, columns - 1)
    parts[#parts + 1] = drawn[i] .. "\27[K\n"
  end
  parts[#parts + 1] = #drawn < #self.drawn and "\27[J" or nil
  self.drawn = drawn
  self.out:write(table.concat(parts))
  self.out:flush()
end

--- Wipes the view away: the report comes in its place.
function View:close()
  if #self.drawn == 0 then return end
  self.out:write(way_back(self, (self.size_of())), "\27[J")
  self.out:flush()
  self.drawn = {}
end

return live

-- SPDX-License-Identifier: MIT
-- What a test run prints: lines for a person, or TAP version 13 for programs (testanything.org),
-- which prove of Debian 12 takes, too.
local failure = require "luaworker.failure"

local report = {}

local write = function(...) io.stdout:write(...) end

local colours = { red = "\27[31m", green = "\27[32m", yellow = "\27[33m", dim = "\27[2m" }

local Plain = {}
Plain.__index = Plain

local function paint(self, colour, text)
  if not self.in_colour then return text end
  return colours[colour] .. text .. "\27[0m"
end

--- The place of a failure and its lines, of what kernel.fail took.
local function describe(one)
  if type(one) ~= "table" then return nil, { tostring(one) }, {} end
  if one.is_unmet then return one.place, one.lines, one.callers end
  if not one.is_error then return nil, { failure.text_of(one) }, {} end
  local text, places = one.text, { unpack(one.places or {}) }
  local at, rest = text:match "^([^\n:]+:%d+): (.*)$"
  if at and places[1] == at then table.remove(places, 1) end
  if not at then
    at, rest = table.remove(places, 1), text
  end
  local lines = {}
  for line in (rest .. "\n"):gmatch "(.-)\n" do
    lines[#lines + 1] = line
  end
  return at, lines, places
end
report.describe = describe

-- For a person --

function Plain:begin_file(file)
  write(file.path, "\n")
  self.open = {}
end

-- The names of the describes around a test, those that were not printed with the one before.
local function open_groups(self, names)
  for i = 1, #names - 1 do
    if self.open[i] ~= names[i] then
      write(("  "):rep(i), names[i], "\n")
      for j = i, #self.open do
        self.open[j] = nil
      end
      self.open[i] = names[i]
    end
  end
  for j = #names, #self.open do
    self.open[j] = nil
  end
end

local words = {
  passed = { "ok", "green" }, failed = { "FAILED", "red" }, skipped = { "skipped", "yellow" },
}

function Plain:test(test, state)
  open_groups(self, test.names)
  local word = words[state]
  local name = test.names[#test.names]
  if state == "skipped" then name = name .. ": " .. test.skip end
  write(("  "):rep(#test.names), paint(self, word[2], ("%-7s"):format(word[1])), " ", name, "\n")
  if state == "failed" then self:keep(test.name, test) end
end

function Plain:keep(name, owner)
  self.failed[#self.failed + 1] = { name = name, owner = owner }
end

function Plain:broken_file(file)
  write("  ", paint(self, "red", "FAILED "), " the file itself\n")
  self:keep("the file itself", file)
end

local function print_failure(self, one)
  local at, lines, callers = describe(one)
  if at then write("   ", paint(self, "dim", at .. ":"), "\n") end
  for _, line in ipairs(lines) do
    write("     ", line, "\n")
  end
  for i, caller in ipairs(callers) do
    if i <= 5 then write("     ", paint(self, "dim", "called from " .. caller), "\n") end
  end
end

local function print_log(self, logs)
  local first = math.max(1, #logs - 19)
  for i = first, #logs do
    local text = logs[i].level .. " " .. logs[i].text:gsub("\n", "\n     |   ")
    write("     ", paint(self, "dim", "| " .. text), "\n")
  end
end

function Plain:finish(counts)
  for i, one in ipairs(self.failed) do
    write("\n", ("%d) "):format(i), paint(self, "red", one.owner.file or one.owner.path),
      ": ", one.name, "\n")
    for _, what in ipairs(one.owner.failures) do
      print_failure(self, what)
    end
    if #one.owner.logs > 0 then
      write("   the worker's log:\n")
      print_log(self, one.owner.logs)
    end
  end
  local parts = { ("%d passed"):format(counts.passed), ("%d failed"):format(counts.failed) }
  if counts.skipped > 0 then parts[#parts + 1] = ("%d skipped"):format(counts.skipped) end
  if counts.left_out > 0 then
    parts[#parts + 1] = ("%d not run because of %s"):format(counts.left_out, counts.why_left_out)
  end
  local colour = counts.failed > 0 and "red" or counts.passed > 0 and "green" or "yellow"
  write("\n", paint(self, colour, table.concat(parts, ", ")),
    (" (%.2f s)\n"):format(counts.seconds))
end

-- TAP --

local Tap = {}
Tap.__index = Tap

local function escape(text)
  return (text:gsub("\\", "\\\\"):gsub("#", "\\#"):gsub("%c", " "))
end

local function yaml_text(text)
  return '"' .. text:gsub('[\\"]', "\\%0"):gsub("\n", "\\n"):gsub("%c", function(c)
    return ("\\x%02x"):format(c:byte())
  end) .. '"'
end

function Tap:begin_file(file) -- luacheck: ignore 212
  write("# ", file.path, "\n")
end

local function write_member(name, lines)
  if #lines > 0 then write("  ", name, ": ", yaml_text(table.concat(lines, "\n")), "\n") end
end

-- Texts only: Perl's reader takes no more of YAML.
local function write_diagnostics(owner)
  local more = {}
  write "  ---\n"
  for i, one in ipairs(owner.failures) do
    local at, lines, callers = describe(one)
    if i == 1 then
      write_member("message", lines)
      write "  severity: fail\n"
      write_member("at", { at })
      write_member("called_from", callers)
    else
      more[#more + 1] = (at and at .. ": " or "") .. table.concat(lines, "\n")
    end
  end
  write_member("more", more)
  local log = {}
  for i, line in ipairs(owner.logs) do
    log[i] = line.level .. " " .. line.text
  end
  write_member("log", log)
  write "  ...\n"
end

function Tap:point(owner, name, state)
  self.count = self.count + 1
  write(state == "failed" and "not ok " or "ok ", tostring(self.count), " - ", escape(name),
    state == "skipped" and " # SKIP " .. escape(owner.skip) or "", "\n")
  if state == "failed" then write_diagnostics(owner) end
end

function Tap:test(test, state)
  self:point(test, test.file .. ": " .. test.name, state)
end

function Tap:broken_file(file)
  self:point(file, file.path .. ": the file itself", "failed")
end

function Tap:finish(counts)
  if counts.left_out > 0 then
    write(("# %d not run because of %s\n"):format(counts.left_out, counts.why_left_out))
  end
  write("1..", tostring(self.count), "\n")
end

--- in_tap: TAP; else plain lines, in_colour or not.
function report.new(in_tap, in_colour)
  if in_tap then
    write "TAP version 13\n"
    return setmetatable({ count = 0 }, Tap)
  end
  return setmetatable({ in_colour = in_colour, failed = {} }, Plain)
end

return report

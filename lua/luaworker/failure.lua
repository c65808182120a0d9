-- SPDX-License-Identifier: MIT
-- The error values that mean more than their text: a failed server behind a request, a payload that
-- is refused, and any other error together with its place. What the operator is told of the last
-- goes out from here.
local base = require "luaworker.base"
local await = require "luaworker.await"
local write = require "luaworker.json_write"
local trace = require "luaworker.trace"

local C = base.C
local CANCELLED, EXIT = await.CANCELLED, await.EXIT
local find, getinfo, traceback = string.find, debug.getinfo, debug.traceback

local TEXT_MOST, LINE_MOST, KEYS_MOST = 2000, 300, 8

local failure = {}

-- The model (or the runtime) failed: { status, source, text }.
local Failure = { __tostring = function(self) return self.text end }

-- The payload is refused: { fields = { name = message } or one message }.
local Invalid = {}

function Invalid:__tostring()
  if type(self.fields) == "string" then return "invalid payload: " .. self.fields end
  local lines = {}
  for name, message in pairs(self.fields) do
    lines[#lines + 1] = tostring(name) .. ": " .. tostring(message)
  end
  table.sort(lines)
  return "invalid payload: " .. table.concat(lines, ", ")
end

-- A script's error: { text, at (file:line, or nil), frames (see trace.lua), trace, invalid }.
local Caught = {}

--- trace: the frames as text with a heading; nil when there are none.
function Caught:__index(key)
  if key ~= "trace" or #self.frames == 0 then return nil end
  return "stack traceback:\n\t" .. trace.lines(self.frames):gsub("\n", "\n\t")
end

--- status: what the client gets; source: "model", "runtime" or "script".
function failure.new(status, source, text)
  return setmetatable({ status = status, source = source, text = text }, Failure)
end

--- worker.invalid { field = "message" }: refuses a payload, returned or raised; answers 422. One
--- message for all of it may stand for the table.
function failure.invalid(fields)
  if type(fields) ~= "table" and type(fields) ~= "string" then
    error('worker.invalid: expected a table { field = "message" }', 2)
  end
  return setmetatable({ fields = fields }, Invalid)
end

function failure.is_failure(value)
  return type(value) == "table" and getmetatable(value) == Failure
end

function failure.is_invalid(value)
  return type(value) == "table" and getmetatable(value) == Invalid
end

--- Whether the task was ended on purpose: cancelled, or os.exit.
function failure.is_ending(value)
  return value == CANCELLED or value == EXIT
end

-- Errors --

local function cut(text, most)
  return #text > most and text:sub(1, most) .. "..." or text
end

local function show_fields(value)
  local out = {}
  for key, one in next, value do
    if #out == KEYS_MOST then
      out[#out + 1] = "..."
      break
    end
    out[#out + 1] = (type(key) == "string" and cut(key, 40) or "[" .. type(key) .. "]") .. " = "
      .. base.show(one)
  end
  table.sort(out)
  return "{ " .. table.concat(out, ", ") .. " }"
end

--- The text of an error value, which may be anything, and whose __tostring may fail.
function failure.show(value)
  if type(value) == "string" then return value end
  if type(value) == "nil" then return "an error without a message: the error value is nil" end
  local meta = debug.getmetatable(value)
  if type(meta) ~= "table" or rawget(meta, "__tostring") == nil then
    local shown = type(value) == "table" and "table " .. show_fields(value) or base.show(value)
    return "the error value is no text: " .. shown
  end
  local ok, text = pcall(tostring, value)
  if ok and type(text) == "string" then return text end
  return "the error value is a " .. type(value) .. " whose __tostring fails"
end

local function new_caught(value, frames)
  local text, at = trace.split(cut(failure.show(value), TEXT_MOST), frames)
  return setmetatable({ text = text, at = at or trace.place(frames), frames = frames }, Caught)
end

local function catch(err)
  if failure.is_ending(err) or failure.is_failure(err) then return err end
  local caught = new_caught(err, trace.take(err, catch))
  caught.invalid = failure.is_invalid(err) and err or nil
  return caught
end

local OVERFLOW = "stack overflow"
local overflow_trace, overflow_top = "", nil -- of the last error, until it is told

--- The handler for xpcall: keeps endings and failures, and takes the place of anything else. When
--- the stack is full there is room for a C function only, if for that; then the text stays as it
--- is.
function failure.catch(err)
  if type(err) == "string" and find(err, OVERFLOW, 1, true) then
    overflow_trace, overflow_top = traceback("", 2), getinfo(2, "S")
    return err
  end
  return catch(err)
end

-- What xpcall gave: of an error without room for the handler (out of memory, of stack) a string.
local function caught_of(value)
  if type(value) == "table" and getmetatable(value) == Caught then return value end
  local is_overflow = type(value) == "string" and find(value, OVERFLOW, 1, true)
  local frames = is_overflow and trace.read(overflow_trace, overflow_top) or {}
  overflow_trace, overflow_top = "", nil
  return new_caught(value, frames)
end

--- What xpcall gave, endings and failures as they are, all else with its place; of a task that was
--- stopped what C says: handlers may have failed then.
function failure.settle(value)
  if failure.is_failure(value) then return value end
  if C.lw_api_stopped() == 0 then return failure.is_ending(value) and value or caught_of(value) end
  write.drop()
  C.lw_api_stop_text(base.span, base.other_span)
  return new_caught(base.text(base.span), trace.read(base.text(base.other_span)))
end

--- One line of what failure.catch() returned: where, and what went wrong.
function failure.text_of(value)
  if failure.is_failure(value) then return value.text end
  local caught = caught_of(value)
  local text = cut(caught.text:gsub("%s*\n%s*", " "), LINE_MOST)
  return caught.at and caught.at .. ": " .. text or text
end

--- Text for a person of what failure.catch() returned, with the traceback.
function failure.describe(value)
  if failure.is_failure(value) then return value.text end
  local caught = caught_of(value)
  local text = caught.at and caught.at .. ": " .. caught.text or caught.text
  return caught.trace and text .. "\n" .. caught.trace or text
end

-- Telling --

--- file:line where a function begins; nil when it is no function of Lua.
function failure.place_of(f)
  if type(f) ~= "function" then return nil end
  local info = getinfo(f, "S")
  return info.what ~= "C" and (info.source:gsub("^@", "")) .. ":" .. info.linedefined or nil
end

--- Where a task's request came from: { route, id }, or that of the task which started it, or nil.
function failure.origin_of(task)
  if not task then return nil end
  if not task.request then return task.origin end
  C.lw_api_request_text(task.request, C.LW_REQUEST_ID, base.span)
  return { route = task.entry.label, id = base.text(base.span) }
end

--- Logs and counts what failure.catch() returned, or an error's text. what: base.C.LW_FAILED_*;
--- hook and f: the script's function that failed; a tail call (`return worker.json(...)`) leaves no
--- trace of its line, then where it begins is told. Returns "hook: file:line: text".
function failure.report(what, origin, hook, f, value)
  local caught = caught_of(value)
  caught.at = caught.at or failure.place_of(f)
  local lines = trace.lines(caught.frames, hook, f)
  C.lw_api_hook_failed(what, origin and origin.route or "", hook, caught.at or "",
    origin and origin.id or "", caught.text, #caught.text, lines, #lines)
  return hook .. ": " .. failure.text_of(caught)
end

return failure

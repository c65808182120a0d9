-- SPDX-License-Identifier: MIT
-- The error values that mean more than their text: a failed server behind a request, a payload that
-- is refused, and any other error together with its traceback.
local await = require "luaworker.await"

local CANCELLED, EXIT = await.CANCELLED, await.EXIT
local traceback = debug.traceback

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

-- A script's error as the traceback handler caught it: { text, trace, invalid }.
local Caught = {}

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

-- Below the frame of xpcall there is only the library.
local function script_part(trace)
  local stop = trace:find("\n\t[C]: in function 'xpcall'", 1, true)
  return stop and trace:sub(1, stop - 1) or trace
end

--- The handler for xpcall: keeps endings and failures, and takes the traceback of anything else.
function failure.catch(err)
  if failure.is_ending(err) or failure.is_failure(err) then return err end
  return setmetatable({
    text = tostring(err),
    trace = script_part(traceback("", 2):gsub("^\n", "")),
    invalid = failure.is_invalid(err) and err or nil,
  }, Caught)
end

--- One line of what failure.catch() returned: what went wrong, without the traceback.
function failure.text_of(caught)
  local text = type(caught) == "table" and caught.text or tostring(caught)
  return (text:gsub("%s*\n%s*", " "))
end

--- Text for the log of what failure.catch() returned (or the bare string of an error inside it).
function failure.describe(caught)
  if type(caught) ~= "table" or not caught.trace then return tostring(caught) end
  return caught.text .. "\n" .. caught.trace
end

return failure

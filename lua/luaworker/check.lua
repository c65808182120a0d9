-- SPDX-License-Identifier: MIT
-- What is wrong with a worker script, all of it at once: compiles and runs its text, checks what it
-- returns, runs the hooks on its own sample payloads, looks at its globals. The one door for serve,
-- which takes the worker in when there is no error, and for `luaworker check`, which only says.
local base = require "luaworker.base"
local await = require "luaworker.await"
local backend = require "luaworker.backend"
local definition = require "luaworker.definition"
local failure = require "luaworker.failure"
local globals = require "luaworker.globals"
local log = require "luaworker.log"
local mistakes = require "luaworker.mistakes"
local options = require "luaworker.options"
local payload = require "luaworker.payload"
local place = require "luaworker.place"
local rehearsal = require "luaworker.rehearsal"
local sandbox = require "luaworker.sandbox"
local trace = require "luaworker.trace"

local check = {}

-- How the script came to a line, unless that is said by the line itself.
local function trace_of(frames)
  if not frames or #frames < 2 then return nil end
  return "\nstack traceback:\n\t" .. trace.lines(frames):gsub("\n", "\n\t")
end

-- Whether the script's text ran to its end, and its result; report.classes: the payload classes
-- that it made.
local function run_text(report, chunk)
  local me = await.current()
  report.classes = {}
  await.set_current(nil) -- nothing in it may wait
  payload.gather(report.classes)
  local ok, result = xpcall(chunk, failure.catch)
  payload.gather(nil)
  await.set_current(me)
  if ok then return true, result end
  local at, text, frames = report.finder:of_error(failure.settle(result))
  base.C.lw_api_stop_forget()
  report.list:add {
    message = at and text or "the script failed: " .. text, trace = trace_of(frames), place = at,
  }
  return false
end

--- Where the path stands in the script's tables.
local function place_of(report, value, path)
  local anchor, steps = definition.anchor_of(value, place.steps(path))
  return report.finder:follow(anchor, steps)
end

local function name_place(report, at)
  if not at.line then return at.file end
  return at.file == report.path and "line " .. at.line or at.file .. ":" .. at.line
end

-- Whether this was told of the same payload class at a route before.
local function is_told(report, path)
  local index, rest = path:match "^routes%[(%d+)%]%.payload%.(.+)$"
  local class = index and report.value.opts.routes[tonumber(index)].opts.payload
  if not class then return false end
  local told = report.told[class] or {}
  report.told[class] = told
  told[rest] = told[rest] or index
  return told[rest] ~= index
end

-- note(path, text, other): `other` is a path that text names; its place is put behind it.
local function noter(report, severity)
  return function(path, text, other)
    if is_told(report, path) then return end
    if other then
      local at = name_place(report, report.place_of(other))
      local _, last = text:find(other, 1, true)
      text = text:sub(1, last) .. " (" .. at .. ")" .. text:sub(last + 1)
    end
    report.list:add {
      path = path, message = text, severity = severity, place = report.place_of(path),
    }
  end
end

local for_all = { [""] = true, routes = true }
for _, key in ipairs(options.shared) do
  for_all[key] = true
end

-- A note like `note`, and which routes by their number it was not told of.
local function sift(note)
  local bad, is_all_bad = {}, false
  return function(path, ...)
    local index = tonumber(path:match "^routes%[(%d+)%]")
    if index then bad[index] = true end
    if not index and for_all[path:match "^[^.%[]*"] then is_all_bad = true end
    note(path, ...)
  end, function(i)
    return not is_all_bad and not bad[i]
  end
end

local function check_backend(report, value, settings)
  if not definition.is_backend(value) then
    return report.list:add {
      message = "expected the script to return worker.backend { ... }, got " .. base.show(value)
        .. (value == nil and ": is the word return missing before it?" or ""),
      place = report.finder:last_return(),
    }
  end
  report.value = value
  function report.place_of(path)
    return place_of(report, value, path)
  end
  local note, warn = noter(report, "error"), noter(report, "warning")
  local note_bad, is_good = sift(note)
  if not options.check_backend(value.opts, note_bad, settings.model_url, warn) then return end
  rehearsal.run(report, value, is_good)
end

-- Classes that no route names: hooks may use them, or a route will.
local function check_classes(report)
  for _, class in ipairs(report.classes) do
    for _, mistake in ipairs(report.told[class] and {} or payload.mistakes(class)) do
      local anchor = { place = payload.place(class), names = { payload = true } }
      report.list:add {
        path = "worker.payload." .. mistake.field, message = mistake.text,
        place = report.finder:follow(anchor, place.steps(mistake.field)),
      }
    end
  end
end

local function check_globals(report, files)
  globals.check(files, function(at, text)
    report.list:add { message = text, severity = "warning", place = at }
  end)
end

-- Its text may not even compile.
local function compile(report, text)
  local chunk, files = sandbox.compile(report.path, text, "serve")
  report.finder = place.finder(chunk and files or { { path = report.path, text = text } })
  if chunk then return chunk, files end
  local prefix = report.path .. ": " -- before a name that Lua has cut
  local err = files:sub(1, #prefix) == prefix and files:sub(#prefix + 1) or files
  local at, message = report.finder:split(err)
  report.list:add { message = message, place = at }
end

--- Checks a script's text. settings: model_url, what the operator gave in place of the script's.
--- Returns { path, list = mistakes in order, value = the backend that it returned or nil }. Runs
--- the text and hooks of the script.
function check.script(path, text, settings)
  local report = { path = path, list = mistakes.new(path), told = {} } -- told: by payload class
  local chunk, files = compile(report, text)
  if not chunk then return report end
  local ok, value = run_text(report, chunk)
  check_globals(report, files)
  if ok then
    sandbox.lock(chunk)
    check_backend(report, value, settings)
    check_classes(report)
  end
  report.list:sort()
  return report
end

--- The same with another os.getenv.
function check.script_in(getenv, ...)
  local own = os.getenv
  os.getenv = getenv -- luacheck: ignore 122
  local ok, report = pcall(check.script, ...)
  os.getenv = own -- luacheck: ignore 122
  if ok then return report end
  error(report, 0)
end

--- serve: makes the script the worker. Raises all errors, one a line, and logs warnings.
function check.offer(path, text)
  base.C.lw_api_model_url(base.span)
  local model_url = base.span.n > 0 and base.text(base.span) or nil
  local report = check.script(path, text, { model_url = model_url })
  if report.list.errors == 0 then
    backend.offer(report.value.opts, model_url, noter(report, "error"))
  end
  if report.list.errors > 0 then error(report.list:errors_text(), 0) end
  for _, one in ipairs(report.list) do
    if one.severity == "warning" then log.warn("%s", mistakes.line_of(one, true)) end
  end
end

return check

-- SPDX-License-Identifier: MIT
-- The standard library as scripts see it: copies of its tables, without what would stop the whole
-- process or reach around the library. What a script might miss raises, and says what to do
-- instead. A view is made for each script, by sandbox.lua; nothing in it can change what the
-- library uses.
local base = require "luaworker.base"
local await = require "luaworker.await"
local forms = require "luaworker.json_form"
local json = require "luaworker.json"
local log = require "luaworker.log"

local C = base.C

local standard = {}

local BESIDE = "it would stop all requests until the command ends: ask a server by worker.http, or "
  .. "run the command beside the worker"
local INPUT = "a worker has no standard input: take what it needs from worker.env, "
  .. "worker.file.read or a request"
local OUTPUT = "a worker's output is its log: print, or worker.log.info"
local INSIDE = "it would reach into the library: debug.traceback is here, and an error tells its "
  .. "line by itself"

-- What is to be done instead, by the name of what is not offered: to no script, and to workers.
local to_nobody = {
  ["os.execute"] = BESIDE,
  ["io.popen"] = BESIDE,
  ["os.setlocale"] = "it would change how numbers are read and written in the whole process",
  ["string.dump"] = "bytecode is never loaded: keep the function's text",
  ["module"] = "end the file with `return` and a table, and require gives it",
  ["package.loadlib"] = "only Lua can be loaded: call what is written in C as a server, by "
    .. "worker.http",
}
local to_workers = {
  ["os.exit"] = "a worker ends by SIGTERM; error(...) ends the request, or the load of the script",
  ["io.read"] = INPUT, ["io.input"] = INPUT,
  ["io.write"] = OUTPUT, ["io.output"] = OUTPUT,
}
local no_streams = {
  stdin = INPUT, stdout = OUTPUT, stderr = "a worker's output is its log: worker.log.error",
}
for _, name in ipairs { "debug", "getfenv", "gethook", "getinfo", "getlocal", "getmetatable",
  "getregistry", "getupvalue", "setfenv", "sethook", "setlocal", "setmetatable", "setupvalue",
  "upvalueid", "upvaluejoin", "getuservalue", "setuservalue" } do
  to_nobody["debug." .. name] = INSIDE
end

-- Gone without a word: programs for several Luas ask whether they are there.
local removed = {
  "jit", "package", "newproxy", "getfenv", "setfenv", "gcinfo", "require", "load", "loadstring",
  "loadfile", "dofile", "LW_CDEF", "LW_TESTING",
}

--- Raises at the caller's caller: `name` is not offered.
local function refuse(name, instead, mode)
  local whom = mode == "run" and "scripts" or "workers"
  error(("%s is not offered to %s: %s"):format(name, whom, instead), 3)
end

local function copy(source)
  local out = {}
  for key, value in next, source do
    out[key] = value
  end
  return out
end

-- io.stdout and its like are no functions: looking at one raises.
local function refuse_looks(view, library, reasons, mode)
  for name in next, reasons do
    view[library][name] = nil
  end
  setmetatable(view[library], {
    __metatable = false,
    __index = function(_, key)
      local instead = reasons[key]
      if instead then refuse(library .. "." .. key, instead, mode) end
    end,
  })
end

local function refuse_calls(view, list, mode)
  for name, instead in next, list do
    local library, field = name:match "^(%w+)%.(%w+)$"
    local into = library and view[library] or view
    into[field or name] = function() refuse(name, instead, mode) end
  end
end

--- Why a file should not be opened, or nil: reading from a pipe may wait for ever.
function standard.hazard(path)
  local hazard = C.lw_api_path_hazard(path)
  if hazard == nil then return nil end
  return ("%s is %s, and a worker opens files only: what may have to be waited for comes by "
    .. "worker.http"):format(path, base.ffi.string(hazard))
end

-- io of a worker: files that are files.
local function add_files(view)
  local lines, close = io.lines, io.close
  function view.io.open(path, mode)
    local hazard = type(path) == "string" and standard.hazard(path)
    if hazard then return nil, hazard end
    return io.open(path, mode)
  end
  function view.io.lines(path, ...)
    if path == nil then refuse("io.lines without a file", INPUT) end
    local hazard = type(path) == "string" and standard.hazard(path)
    if hazard then error(hazard, 2) end
    return lines(path, ...)
  end
  function view.io.close(file)
    if file == nil then refuse("io.close without a file", OUTPUT) end
    return close(file)
  end
end

local function collect(what)
  if what == "count" then return collectgarbage "count" end
  local called = ("collectgarbage(%s)"):format(what ~= nil and base.show(what):match "%S*$" or "")
  refuse(called, 'the collector works by itself in small steps, where a whole round would stop all '
    .. 'requests; only "count" is here')
end

local function print_to_log(...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = tostring((select(i, ...)))
  end
  log.info(table.concat(out, "\t"))
end

-- Ends a program after this turn of the loop, and this task at once.
local function exit_program(status)
  if status == nil or status == true then status = 0 end
  if status == false then status = 1 end
  io.stdout:flush()
  C.lw_api_exit(status)
  error(await.EXIT, 0)
end

-- Metatables are the script's own ones: what JSON remembers of a table is none, nor is that of
-- files.
local function visible_metatable(value)
  local meta = getmetatable(value)
  if type(value) == "userdata" then return false end
  if type(value) == "table" and forms.of(value) then return rawget(meta, "class") end
  return meta
end

-- Long strings that are still in C are of the form that goes.
local function set_metatable(t, meta)
  if type(t) == "table" then json.next(t) end
  return setmetatable(t, meta)
end

local function add_own(view)
  view.pairs, view.next = json.pairs, json.next
  view.getmetatable, view.setmetatable = visible_metatable, set_metatable
  view.pcall, view.xpcall = await.pcall, await.xpcall
  local co = view.coroutine
  co.resume, co.wrap, co.yield = await.resume, await.wrap, await.yield
end

--- A script's globals, before its own. mode "run": a program's, which may wait for its input.
function standard.view(mode)
  local view = copy(_G)
  for _, name in ipairs(removed) do
    view[name] = nil
  end
  for _, name in ipairs { "string", "table", "math", "os", "io", "coroutine", "bit" } do
    view[name] = copy(_G[name])
  end
  view.debug = { traceback = debug.traceback }
  view.package = {}
  add_own(view)
  refuse_calls(view, to_nobody, mode)
  if mode == "run" then
    view.os.exit = exit_program
    view.debug.getinfo = debug.getinfo -- for tests and tools of the library
  else
    refuse_calls(view, to_workers, mode)
    refuse_looks(view, "io", no_streams, mode)
    add_files(view)
    view.print, view.collectgarbage = print_to_log, collect
  end
  return view
end

-- ("text"):upper() reaches the real string table: keep it as it is. (A test run loads this anew.)
local string_meta = getmetatable ""
if string_meta then string_meta.__metatable = false end

return standard

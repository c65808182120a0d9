-- SPDX-License-Identifier: MIT
-- What a script sees. Each loaded script has its own globals, which fall back to a fixed view of
-- the standard ones without what could harm the process that it runs in; require finds the library
-- and files next to the script. It keeps slips from spreading; it is no wall against malice.
local base = require "luaworker.base"
local await = require "luaworker.await"
local json = require "luaworker.json"
local log = require "luaworker.log"

local sandbox = {}

-- Kept from scripts of both kinds: they would break the library's promises rather than help.
local removed = {
  _G = {
    "jit", "debug", "package", "module", "newproxy", "getfenv", "setfenv", "gcinfo", "require",
    "load", "loadstring", "loadfile", "dofile", "LW_CDEF",
  },
  string = { "dump" },
  os = { "execute", "setlocale", "exit" },
  io = { "popen" },
}

local allowed_modules = {
  ["bit"] = true, ["string.buffer"] = true, ["table.new"] = true, ["table.clear"] = true,
}

local function copy_without(source, names)
  local out = {}
  for key, value in pairs(source) do
    out[key] = value
  end
  for _, name in ipairs(names or {}) do
    out[name] = nil
  end
  return out
end

-- Ends a program after this turn of the loop, and this task at once.
local function exit_program(status)
  if status == nil or status == true then status = 0 end
  if status == false then status = 1 end
  io.stdout:flush()
  base.C.lw_api_exit(status)
  error(await.EXIT, 0)
end

local function print_to_log(...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = tostring((select(i, ...)))
  end
  log.info(table.concat(out, "\t"))
end

local function standard_view(mode)
  local view = copy_without(_G, removed._G)
  for _, name in ipairs { "string", "table", "math", "os", "io", "coroutine", "bit" } do
    view[name] = copy_without(_G[name], removed[name])
  end
  view.debug = { traceback = debug.traceback }
  view.pairs, view.next = json.pairs, json.next
  view.coroutine.resume, view.coroutine.wrap = await.resume, await.wrap
  view.pcall, view.xpcall = await.pcall, await.xpcall
  if mode == "run" then
    view.os.exit = exit_program
    view.debug.getinfo = debug.getinfo
  else
    view.print = print_to_log
  end
  return view
end

local function without_first_line_comment(text)
  if text:sub(1, 1) ~= "#" then return text end
  return text:sub(text:find "\n" or #text + 1)
end

local function read_file(path)
  local file, err = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  base.C.lw_api_script_file(path, #path, text, text and #text or 0)
  return text, err
end

--- load() and its kin, with the script's globals and without bytecode.
local function add_loaders(env)
  function env.load(chunk, name, _, globals)
    return load(chunk, name, "t", globals or env)
  end
  function env.loadstring(text, name)
    return load(text, name or text, "t", env)
  end
  function env.loadfile(path)
    local text, err = read_file(path)
    if not text then return nil, err end
    return load(without_first_line_comment(text), "@" .. path, "t", env)
  end
  function env.dofile(path)
    local chunk, err = env.loadfile(path)
    if not chunk then error(err, 2) end
    return chunk()
  end
end

local function is_library(name, mode)
  if name == "luaworker" or allowed_modules[name] then return true end
  if name:sub(1, 10) ~= "luaworker." then return false end
  return mode == "run" or name ~= "luaworker.base" -- which hands out the FFI
end

local function find_module(env, name)
  local tried = {}
  local file_name = name:gsub("%.", "/")
  for pattern in env.package.path:gmatch "[^;]+" do
    local path = pattern:gsub("%?", function() return file_name end)
    local text = read_file(path)
    if text then return text, path end
    tried[#tried + 1] = "\n\tno file '" .. path .. "'"
  end
  return nil, table.concat(tried)
end

local function load_module(env, name)
  local text, path = find_module(env, name)
  if not text then error("module '" .. name .. "' not found:" .. path, 3) end
  local chunk, err = load(without_first_line_comment(text), "@" .. path, "t", env)
  if not chunk then error(err, 0) end
  return chunk(name)
end

local function add_require(env, path, mode)
  local directory = path:match "^(.*/)[^/]*$" or "./"
  local loaded = {}
  env.package = { loaded = loaded, path = directory .. "?.lua;./?.lua" }
  function env.require(name)
    if type(name) ~= "string" then error("require: expected string, got " .. base.show(name), 2) end
    local value = loaded[name]
    if value ~= nil then return value end
    if is_library(name, mode) then
      value = require(name)
    else
      value = load_module(env, name)
      if value == nil then value = true end
    end
    loaded[name] = value
    return value
  end
end

--- The script's main function, with globals of its own; or nil and what is wrong with its text.
function sandbox.compile(path, text, mode)
  local env = {}
  env._G = env
  setmetatable(env, { __index = standard_view(mode), __metatable = false })
  add_loaders(env)
  add_require(env, path, mode)
  local chunk, err = load(without_first_line_comment(text), "@" .. path, "t", env)
  if chunk then return chunk end
  return nil, err:find(path, 1, true) and err or path .. ": " .. err
end

-- ("text"):upper() reaches the real string table: keep it as it is.
getmetatable("").__metatable = false

return sandbox

-- SPDX-License-Identifier: MIT
-- require for scripts: files beside the script and in the current directory, the standard tables,
-- and those modules of the library that are made for scripts. Programs (mode "run") get all of the
-- library. Called by sandbox.lua, which loads the texts.
local base = require "luaworker.base"
local guard = require "luaworker.guard"

local getinfo = debug.getinfo

local module = {}

local standard_names = { "string", "table", "math", "os", "io", "coroutine", "bit", "debug" }

-- For workers; the rest of the library is its inside.
local offered = {
  ["luaworker"] = true, ["luaworker.words"] = true, ["luaworker.json"] = true,
  ["luaworker.log"] = true, ["luaworker.base64"] = true, ["luaworker.lines"] = true,
  ["luaworker.http"] = true, ["luaworker.file"] = true,
  ["table.new"] = true, ["table.clear"] = true,
}
local for_tests = { ["luaworker.testing"] = base.is_testing }
local for_programs = { ["bit"] = true, ["string.buffer"] = true }

local FFI = "it would reach into the process's memory; call what is written in C as a server, by "
  .. "worker.http"
local WAITS = "it would stop all requests while it waits; worker.http and worker.model wait for one"
local instead = {
  ["luaworker.testing"] = "it is for tests: `luaworker test` runs them",
  ["ffi"] = FFI, ["jit"] = FFI, ["jit.opt"] = FFI, ["jit.util"] = FFI, ["jit.profile"] = FFI,
  ["string.buffer"] = "it would reach into the process's memory; table.concat joins strings, "
    .. "worker.json and worker.base64 encode",
  ["socket"] = WAITS, ["socket.http"] = WAITS, ["ssl.https"] = WAITS, ["http.request"] = WAITS,
  ["resty.http"] = WAITS, ["lcurl"] = WAITS, ["cURL"] = WAITS, ["requests"] = WAITS,
  ["cjson"] = "worker.json is here", ["cjson.safe"] = "worker.json is here",
  ["dkjson"] = "worker.json is here", ["json"] = "worker.json is here",
  ["lfs"] = "io.open, os.rename and os.remove are here",
  ["posix"] = "io.open, os.rename and os.remove are here",
}

local function is_of_library(name, mode)
  if offered[name] or for_tests[name] then return true end
  return mode == "run" and (for_programs[name] or name:sub(1, 10) == "luaworker.")
end

-- Tables of the library as they are, in programs, which are tests and tools of it.
local function give(name, mode)
  local value = require(name)
  local is_own = name == "luaworker" or for_tests[name] -- made for scripts from the first
  if mode == "run" or is_own or type(value) ~= "table" then return value end
  return guard(name, value)
end

local function not_found(name, mode, tried)
  local why = instead[name]
  if not why and name:sub(1, 10) == "luaworker." then
    why = 'it is the library\'s inside, or not there; require "luaworker" gives its words'
  end
  local what = why and "is not offered to " .. (mode == "run" and "scripts: " or "workers: ") .. why
    or "not found:" .. table.concat(tried) .. base.did_you_mean(name, offered)
  error("module '" .. name .. "' " .. what, 4)
end

--- The text of the file for a module, and its path.
local function find_file(package, name, read_file)
  local tried = {}
  local file_name = name:gsub("%.", "/")
  for pattern in tostring(package.path):gmatch "[^;]+" do
    local path = pattern:gsub("%?", function() return file_name end)
    local text, err = read_file(path)
    if text then return text, path end
    local absent = not err or err:find "No such file or directory$"
    tried[#tried + 1] = "\n\t" .. (absent and "no file '" .. path .. "'" or err)
  end
  return nil, tried
end

--- How often f is at work in this coroutine.
local function count_calls(f)
  local n, level = 0, 2
  local info = getinfo(level, "f")
  while info do
    if info.func == f then n = n + 1 end
    level = level + 1
    info = getinfo(level, "f")
  end
  return n
end

-- `names` are modules, each required by the one before it. Those from `depth` on are loaded, or
-- have failed.
local function enter(names, depth, name)
  for i = #names, depth, -1 do
    names[i] = nil
  end
  for i, one in ipairs(names) do
    if one == name then
      error("modules require each other: " .. table.concat(names, " -> ", i) .. " -> " .. name, 4)
    end
  end
end

--- Adds require and package to a script's globals. loader: { read(path), returns text or nil and
--- why; compile(text, path), returns a function or nil and why }.
function module.add_require(env, path, mode, loader)
  local directory = path:match "^(.*/)[^/]*$" or "./"
  local loaded, names = { _G = env }, {}
  for _, name in ipairs(standard_names) do
    loaded[name] = env[name]
  end
  env.package = {
    loaded = loaded, cpath = "",
    path = (directory == "./" and "" or directory .. "?.lua;") .. "./?.lua",
    loadlib = env.package.loadlib,
  }
  local load_file
  function load_file(name)
    enter(names, count_calls(load_file), name)
    local text, found = find_file(env.package, name, loader.read)
    if not text then not_found(name, mode, found) end
    local chunk, err = loader.compile(text, found)
    if not chunk then error(err, 0) end
    names[#names + 1] = name
    local value = chunk(name)
    if value == nil then value = loaded[name] end
    return value == nil and true or value
  end
  function env.require(name)
    if type(name) ~= "string" then error("require: expected string, got " .. base.show(name), 2) end
    local value = loaded[name]
    if value ~= nil then return value end
    if is_of_library(name, mode) then
      value = give(name, mode)
    else
      value = load_file(name)
    end
    loaded[name] = value
    return value
  end
end

return module

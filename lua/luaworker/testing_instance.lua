-- SPDX-License-Identifier: MIT
-- Instances of the library: each script and each test file of a run has the library's modules to
-- itself, as in a process of its own, and its own environment. Shared are only those that know
-- nothing of a script. Also what of Lua's own library must follow: require, os.getenv, os.time,
-- os.date.
local kernel = require "luaworker.testing_kernel"

local instance = {}

local preload, real_require = package.preload, require

local shared = {
  ["luaworker.base"] = true, ["luaworker.await"] = true, ["luaworker.json"] = true,
  ["luaworker.direct"] = true,
  ["luaworker.json_form"] = true, ["luaworker.json_write"] = true,
}

local function is_own(name)
  return (name == "luaworker" or name:sub(1, 10) == "luaworker.") and not shared[name]
    and name:sub(1, 17) ~= "luaworker.testing" and preload[name] ~= nil
end

function _G.require(name)
  local owner = kernel.instance
  if not owner or not is_own(name) then return real_require(name) end
  local value = owner.loaded[name]
  if value == nil then
    value = preload[name](name)
    if value == nil then value = true end
    owner.loaded[name] = value
  end
  return value
end

local function replace(name, make)
  rawset(os, name, make(os[name]))
end

replace("getenv", function(getenv)
  return function(name)
    local owner = kernel.instance
    if owner and owner.environment then return owner.environment[name] end
    return getenv(name)
  end
end)

replace("time", function(time)
  return function(when)
    if when or not kernel.instance then return time(when) end
    return math.floor(kernel.wall())
  end
end)

replace("date", function(date)
  return function(format, when)
    return date(format, when or kernel.instance and math.floor(kernel.wall()) or nil)
  end
end)

--- f(...) with this instance in force.
function instance.within(owner, f, ...)
  local before = kernel.instance
  kernel.instance = owner
  local function leave(ok, ...)
    kernel.instance = before
    if not ok then error((...), 0) end
    return ...
  end
  return leave(pcall(f, ...))
end

--- A new one. environment: what os.getenv sees; nil: the process's.
function instance.new(environment)
  local owner = { loaded = {}, environment = environment }
  instance.within(owner, function()
    local task = require "luaworker.task"
    owner.main, owner.load = task.main, task.load
  end)
  return owner
end

--- A module of it.
function instance.module(owner, name)
  return instance.within(owner, require, name)
end

--- For a test's own code in a coroutine of the kernel: the library's idea of the running task.
function instance.become_task()
  real_require("luaworker.await").set_current { thread = coroutine.running() }
end

return instance

-- SPDX-License-Identifier: MIT
-- Globals that a script uses, found in the bytecode of all its functions, run or not: one that is
-- read and defined nowhere is a slip of the pen; one that is assigned in a function can't be, once
-- the script is loaded. Called by check.lua.
local util = require "jit.util"
local bit = require "bit"
local base = require "luaworker.base"

local funcbc, funck, funcinfo = util.funcbc, util.funck, util.funcinfo
local band, rshift = bit.band, bit.rshift

local globals = {}

local function opcode_at(f, pc)
  return band(funcbc(f, pc), 0xff)
end

-- The numbers differ between versions of LuaJIT; pc 0 is the function's head.
local GET = opcode_at(load "return x", 1)
local SET = opcode_at(load "x = ...", 2)
local TEST = -1

-- What follows on a global that is asked for only to see whether it is there.
local is_test = {}
for _, text in ipairs {
  "if x then end", "if not x then end", "return x or 1", "return x and 1", "return x == nil",
  "return x ~= nil", "return not x",
} do
  is_test[opcode_at(load(text), 2)] = true
end

-- What other Luas and their hosts have: modules written for several ask whether it is there.
local elsewhere = {}
for name in ([[jit setfenv getfenv newproxy gcinfo utf8 rawlen bit32 warn ngx]]):gmatch "%S+" do
  elsewhere[name] = true
end

-- Calls each(op, name, pc, f, depth) for what f and the functions in it do with globals.
local function walk(f, depth, each)
  local info = funcinfo(f)
  for pc = 1, info.bytecodes - 1 do
    local ins = funcbc(f, pc)
    local op = band(ins, 0xff)
    if op == GET or op == SET then each(op, funck(f, -1 - rshift(ins, 16)), pc, f, depth) end
  end
  if not info.children then return end
  for i = 1, info.gcconsts do
    local child = funck(f, -i)
    if type(child) == "proto" then walk(child, depth + 1, each) end
  end
end

local function walk_all(files, each)
  for _, file in ipairs(files) do
    if file.chunk then
      walk(file.chunk, 0, function(op, name, pc, f, depth)
        if elsewhere[name] and is_test[opcode_at(f, pc + 1)] then op = TEST end
        each(op, name, depth, function()
          return { file = file.path, line = funcinfo(f, pc).currentline }
        end)
      end)
    end
  end
end

--- Tells warn(place, text) of each suspicious use, once for each name. files: those of the script,
--- { path, chunk }, when its text has been run.
function globals.check(files, warn)
  local env = getfenv(files[1].chunk)
  local own, told = {}, {}
  for _, names in ipairs { env, debug.getmetatable(env).__index } do
    for name in next, names do
      own[name] = true
    end
  end
  walk_all(files, function(op, name)
    if op == SET or op == TEST then own[name] = true end
  end)
  walk_all(files, function(op, name, depth, where)
    local key = op .. name
    if told[key] then return end
    if op == GET and not own[name] then
      warn(where(), "the global " .. name .. " is defined nowhere, so it is nil"
        .. base.did_you_mean(name, own))
    elseif op == SET and depth > 0 then
      warn(where(), "the global " .. name .. " is assigned in a function, which fails once the "
        .. "script is loaded: make it local")
    else
      return
    end
    told[key] = true
  end)
end

return globals

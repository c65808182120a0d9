-- SPDX-License-Identifier: MIT
-- Compares classes of the annotations under lua/types with what there really is: names on both
-- sides, functions with as many parameters. Used by test_types.lua and by testing_types_test.lua,
-- which `luaworker test` runs.
local annotations = require "tools.annotations"

local annotated = {}

local Comparison = {}
Comparison.__index = Comparison

--- report(ok, text) takes each comparison.
function annotated.new(report)
  return setmetatable({ api = annotations.read(), compared = {}, report = report }, Comparison)
end

-- What is written of a class, its parents' fields with it: field or function by name.
local function written(self, name, with_parents)
  local by_name, all = self.api.by_name, {}
  local class = by_name[name]
  self.report(class, name .. " has annotations")
  while class do
    self.compared[class.name] = true
    for _, list in ipairs { class.fields, class.functions } do
      for _, one in ipairs(list) do
        self.report(not all[one.name], name .. "." .. one.name .. " is annotated once")
        all[one.name] = one
      end
    end
    class = with_parents and class.parent and by_name[class.parent]
  end
  return all
end

local function compare_parameters(self, name, one, f)
  local info = debug.getinfo(f, "u")
  local real, count = info.nparams - (one.is_method and 1 or 0), #one.arguments
  self.report(info.isvararg and count >= real or count == real,
    ("%s: annotated with %d parameters, takes %d"):format(name, count, real))
end

local function compare_function(self, name, one, f)
  self.report(one.arguments, name .. " is annotated as a function")
  if not one.arguments then return end
  compare_parameters(self, name, one, f)
  self.report(#one.params == #one.arguments, name .. ": each parameter has its @param")
  for i, param in ipairs(one.params) do
    self.report(param.name == one.arguments[i], name .. ": @param " .. param.name)
  end
end

--- real: names to anything; functions are looked at.
function Comparison:compare(name, real, with_parents)
  local all = written(self, name, with_parents)
  for key, value in pairs(real) do
    local one = all[key]
    self.report(one, name .. "." .. key .. " is annotated under lua/types")
    if one and type(value) == "function" then
      compare_function(self, name .. "." .. key, one, value)
    end
  end
  for key in pairs(all) do
    self.report(real[key] ~= nil, name .. "." .. key .. " is annotated and there")
  end
end

local function types_of(api)
  local list = {}
  local function add(where, kind)
    list[#list + 1] = { where, kind }
  end
  for _, class in ipairs(api.classes) do
    for _, field in ipairs(class.fields) do
      add(class.name .. "." .. field.name, field.type)
    end
    for _, one in ipairs(class.functions) do
      for _, values in ipairs { one.params, one.returns } do
        for _, value in ipairs(values) do
          add(class.name .. "." .. one.name, value.type)
        end
      end
    end
  end
  for _, alias in ipairs(api.aliases) do
    add(alias.name, alias.type)
  end
  return list
end

--- Each type that is named must be there.
function Comparison:check_types()
  local known = {}
  for _, list in ipairs { self.api.classes, self.api.aliases } do
    for _, one in ipairs(list) do
      known[one.name] = true
    end
  end
  for _, one in ipairs(types_of(self.api)) do
    for name in one[2]:gmatch "luaworker[%w_.]*" do
      self.report(known[name], one[1] .. ": there is a type " .. name)
    end
  end
end

--- Names as keys.
function annotated.names(...)
  local set = {}
  for _, name in ipairs { ... } do
    set[name] = true
  end
  return set
end

--- All keys of these tables that are the author's; `but` names those that are not.
function annotated.together(tables, but)
  local all = {}
  for _, t in ipairs(tables) do
    for key, value in pairs(t) do
      if key:sub(1, 1) ~= "_" and not (but and but[key]) then all[key] = value end
    end
  end
  return all
end

--- The keys only: what a getter answers is a field.
function annotated.as_fields(t)
  local fields = {}
  for name in pairs(t) do
    fields[name] = true
  end
  return fields
end

--- The names that a file of the library has in this pattern's capture; within `block`, a pattern
--- that captures a part of the text, if given.
function annotated.names_in(path, pattern, block)
  local file = assert(io.open("lua/luaworker/" .. path))
  local text = file:read "*a"
  file:close()
  if block then text = assert(text:match(block), path .. ": nothing like " .. block) end
  local set = {}
  for name in text:gmatch(pattern) do
    set[name] = true
  end
  return set
end

return annotated

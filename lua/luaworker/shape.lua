-- SPDX-License-Identifier: MIT
-- The shape of a payload: what a table given to worker.payload says of its fields. Mistakes in it
-- are kept, for the load of the script tells all of them at once. Checking messages is
-- payload.lua's.
local base = require "luaworker.base"
local forms = require "luaworker.json_form"
local json = require "luaworker.json"

local ffi = base.ffi
local null, is_array = json.null, json.is_array
local floor = math.floor

local DEPTH_MOST = 32

local shape = {}

local int64, uint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"

local function is_wide_integer(value)
  return ffi.istype(int64, value) or ffi.istype(uint64, value)
end

-- By the name of a type: whether a value is of it.
local checks = {}
shape.checks = checks

function checks.string(value)
  return type(value) == "string"
end

function checks.integer(value)
  if type(value) == "number" then return floor(value) == value and value - value == 0 end
  return type(value) == "cdata" and is_wide_integer(value)
end

function checks.number(value)
  return type(value) == "number" or (type(value) == "cdata" and is_wide_integer(value))
end

function checks.boolean(value)
  return type(value) == "boolean"
end

function checks.array(value)
  if type(value) ~= "table" then return false end
  return is_array(value) or (next(value) == nil and getmetatable(value) == nil)
end

function checks.object(value)
  return type(value) == "table" and not is_array(value)
end

function checks.any()
  return true
end

--- The JSON name of a value's type.
function shape.kind_of(value)
  if value == null then return "null" end
  if checks.integer(value) then return "integer" end
  if checks.number(value) then return "number" end
  if type(value) ~= "table" then return type(value) end
  return is_array(value) and "array" or "object"
end

local function note(into, field, text)
  into.mistakes[#into.mistakes + 1] = { field = field, text = text }
end

-- As the same is called elsewhere.
local elsewhere = {
  str = "string", text = "string", int = "integer", float = "number", double = "number",
  bool = "boolean", list = "array", tuple = "array", dict = "object", table = "object",
}

local extra_modes = { drop = true, keep = true, error = true }
local TYPES = "any, array, boolean, integer, number, object or string"

local function read_type(into, field, text)
  local name = text:match "^(.-)%??$"
  field.optional = name ~= text
  field.check = checks[name]
  field.kind = name
  if field.check then return end
  field.check = checks.any
  local hint = elsewhere[name] and (', did you mean "%s"?'):format(elsewhere[name])
    or base.did_you_mean(name, checks)
  if hint == "" and field.name == "extra" then hint = base.did_you_mean(name, extra_modes) end
  note(into, field.name, "unknown type " .. base.quote(text)
    .. (hint == "" and ": expected " .. TYPES or hint))
end

local function read_object(into, field, spec, depth)
  field.kind, field.check = "object", checks.object
  if getmetatable(spec) ~= nil and not forms.of(spec) then
    return note(into, field.name, "expected a type or a plain table of fields: what worker.payload "
      .. "returns is neither, write its fields here")
  elseif depth == DEPTH_MOST then
    return note(into, field.name, "tables of fields are nested too deeply, or hold themselves")
  end
  field.shape = shape.read(spec, depth + 1)
  for _, mistake in ipairs(field.shape.mistakes) do
    note(into, field.name .. "." .. mistake.field, mistake.text)
  end
end

local function read_table(into, field, spec, depth)
  if type(spec[1]) ~= "string" then return read_object(into, field, spec, depth) end
  read_type(into, field, spec[1])
  field.default = spec.default
  if field.default ~= nil then
    field.optional = true
    if not field.check(field.default) then
      local text = "expected " .. field.kind .. ", got " .. base.show(field.default)
      note(into, field.name .. ".default", text)
    end
  end
  for key in pairs(spec) do
    if key ~= 1 and key ~= "default" then
      note(into, field.name .. "." .. tostring(key), "unknown key"
        .. base.did_you_mean(tostring(key), { default = true }))
    end
  end
end

local function read_field(into, name, spec, depth)
  local field = { name = name }
  if type(spec) == "string" then
    read_type(into, field, spec)
  elseif type(spec) == "table" then
    read_table(into, field, spec, depth)
  else
    note(into, name, "expected a type, got " .. base.show(spec))
    return
  end
  into.list[#into.list + 1] = field
  into.by_name[name] = field
end

--- A shape: list of fields by name { name, kind, check, optional, default, shape }, by_name,
--- extra, and mistakes, a list of { field, text }. depth: in how many others it stands.
function shape.read(spec, depth)
  local into = { list = {}, by_name = {}, extra = "drop", mistakes = {} }
  for name, one in pairs(spec) do
    if name == "extra" and extra_modes[one] then
      into.extra = one
    elseif type(name) ~= "string" then
      note(into, tostring(name), "expected the name of a field")
    else
      read_field(into, name, one, depth or 0)
    end
  end
  table.sort(into.list, function(a, b) return a.name < b.name end)
  table.sort(into.mistakes, function(a, b) return a.field < b.field end)
  return into
end

return shape

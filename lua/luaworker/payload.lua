-- SPDX-License-Identifier: MIT
-- worker.payload: classes of payloads. A class checks what a client sent against its fields and
-- makes an instance of it, an ordinary table with the class's methods.
local base = require "luaworker.base"
local failure = require "luaworker.failure"
local json = require "luaworker.json"

local null, is_array, encode_to = json.null, json.is_array, json.encode_to
local ffi = base.ffi
local floor = math.floor

local payload = {}

-- By class: { list = fields in order, by_name, extra, mistakes }.
local shapes = {}

local int64, uint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"

local function is_wide_integer(value)
  return ffi.istype(int64, value) or ffi.istype(uint64, value)
end

local checks = {}

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
  return type(value) == "table" and is_array(value)
end

function checks.object(value)
  return type(value) == "table" and not is_array(value)
end

function checks.any()
  return true
end

--- The JSON name of a value's type.
local function kind_of(value)
  if value == null then return "null" end
  if checks.integer(value) then return "integer" end
  if checks.number(value) then return "number" end
  if type(value) ~= "table" then return type(value) end
  return is_array(value) and "array" or "object"
end

-- Reading a class's table. Mistakes are kept for the load of the script, which tells all of them.

local read_shape

local function note(shape, field, text)
  shape.mistakes[#shape.mistakes + 1] = { field = field, text = text }
end

local function read_type(shape, field, text)
  local name = text:match "^(.-)%??$"
  field.optional = name ~= text
  field.check = checks[name]
  field.kind = name
  if not field.check then
    note(shape, field.name, ("unknown type %q"):format(text) .. base.did_you_mean(name, checks))
    field.check = checks.any
  end
end

local function read_table(shape, field, spec)
  if type(spec[1]) ~= "string" then
    field.kind, field.check = "object", checks.object
    field.shape = read_shape(spec)
    for _, mistake in ipairs(field.shape.mistakes) do
      note(shape, field.name .. "." .. mistake.field, mistake.text)
    end
    return
  end
  read_type(shape, field, spec[1])
  field.default = spec.default
  if field.default ~= nil then
    field.optional = true
    if not field.check(field.default) then
      local text = "expected " .. field.kind .. ", got " .. base.show(field.default)
      note(shape, field.name .. ".default", text)
    end
  end
  for key in pairs(spec) do
    if key ~= 1 and key ~= "default" then
      note(shape, field.name .. "." .. tostring(key), "unknown key"
        .. base.did_you_mean(tostring(key), { default = true }))
    end
  end
end

local extra_modes = { drop = true, keep = true, error = true }

local function read_field(shape, name, spec)
  local field = { name = name }
  if type(spec) == "string" then
    read_type(shape, field, spec)
  elseif type(spec) == "table" then
    read_table(shape, field, spec)
  else
    note(shape, name, "expected a type, got " .. base.show(spec))
    return
  end
  shape.list[#shape.list + 1] = field
  shape.by_name[name] = field
end

function read_shape(spec)
  local shape = { list = {}, by_name = {}, extra = "drop", mistakes = {} }
  for name, one in pairs(spec) do
    if name == "extra" and extra_modes[one] then
      shape.extra = one
    elseif type(name) ~= "string" then
      note(shape, tostring(name), "expected the name of a field")
    else
      read_field(shape, name, one)
    end
  end
  table.sort(shape.list, function(a, b) return a.name < b.name end)
  table.sort(shape.mistakes, function(a, b) return a.field < b.field end)
  for _, field in ipairs(shape.list) do
    field.key = json.encode(field.name) .. ":"
  end
  return shape
end

-- Checking a message. `errors` is made with the first of them.

local check_fields

local function copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, one in pairs(value) do
    out[key] = copy(one)
  end
  return out
end

local function fail(errors, prefix, name, text)
  errors = errors or {}
  errors[prefix .. name] = text
  return errors
end

--- The field's value in `message` (nil when it may be and is absent), and the errors so far.
local function check_field(field, message, prefix, errors)
  local value = message[field.name]
  if value == nil or (field.optional and value == null) then
    if field.optional then return copy(field.default), errors end
    return nil, fail(errors, prefix, field.name, "missing parameter")
  end
  if not field.check(value) then
    local text = "expected " .. field.kind .. ", got " .. kind_of(value)
    return nil, fail(errors, prefix, field.name, text)
  end
  if field.shape then
    local inner = {}
    errors = check_fields(field.shape, value, prefix .. field.name .. ".", inner, errors)
    return inner, errors
  end
  return value, errors
end

local function check_extra(shape, message, prefix, out, errors)
  for name, value in json.pairs(message) do
    if not shape.by_name[name] then
      if shape.extra == "error" then
        errors = fail(errors, prefix, tostring(name), "unknown parameter")
      else
        out[name] = value
      end
    end
  end
  return errors
end

--- Copies the fields of `message` to `out`; returns the errors by field, nil when there are none.
function check_fields(shape, message, prefix, out, errors)
  local list = shape.list
  for i = 1, #list do
    local field = list[i]
    out[field.name], errors = check_field(field, message, prefix, errors)
  end
  if shape.extra == "drop" then return errors end
  return check_extra(shape, message, prefix, out, errors)
end

--- An instance, or an Invalid that says what is wrong.
local function make(class, message)
  if not checks.object(message) then
    return failure.invalid("expected object, got " .. kind_of(message))
  end
  local self = {}
  local errors = check_fields(shapes[class], message, "", self)
  if errors then return failure.invalid(errors) end
  return setmetatable(self, class)
end

-- Input { ... }: raises what from_json_msg would answer.
local class_meta = {
  __call = function(class, message)
    local made = make(class, message)
    if failure.is_invalid(made) then error(made, 0) end
    return made
  end,
}

--- worker.payload { field = type }: a class. Types: string, integer, number, boolean, object,
--- array, any; with `?` the field may be absent or null; { type, default = value }; or a table of
--- fields. extra = "drop" (default), "keep" or "error" says what becomes of other fields.
function payload.class(spec)
  if type(spec) ~= "table" then
    error("worker.payload: expected a table of fields, got " .. base.show(spec), 2)
  end
  local class = {}
  class.__index = class
  shapes[class] = read_shape(spec)
  function class.from_json_msg(message)
    return make(class, message)
  end
  return setmetatable(class, class_meta)
end

function payload.is_class(value)
  return shapes[value] ~= nil
end

--- A list of { field, text }.
function payload.mistakes(class)
  return shapes[class].mistakes
end

function payload.is_instance(value)
  return shapes[getmetatable(value)] ~= nil
end

local function encode_extra(buf, shape, self, separator)
  local names = {}
  for name in pairs(self) do
    if type(name) == "string" and not shape.by_name[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    buf:put(separator)
    encode_to(buf, name)
    buf:put(":")
    encode_to(buf, self[name])
    separator = ","
  end
  return separator
end

--- Writes an instance as JSON: its fields in alphabetical order, then others if it keeps any.
function payload.encode_to(buf, self)
  local shape = shapes[getmetatable(self)]
  local list, separator = shape.list, "{"
  for i = 1, #list do
    local field = list[i]
    local value = rawget(self, field.name)
    if value ~= nil then
      buf:put(separator, field.key)
      encode_to(buf, value)
      separator = ","
    end
  end
  if shape.extra == "keep" then separator = encode_extra(buf, shape, self, separator) end
  buf:put(separator == "{" and "{}" or "}")
end

return payload

-- SPDX-License-Identifier: MIT
-- worker.payload: classes of payloads. A class checks what a client sent against its fields and
-- makes an instance of it, an ordinary table with the class's methods.
local base = require "luaworker.base"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local forms = require "luaworker.json_form"
local place = require "luaworker.place"
local shape_of = require "luaworker.shape"

local null, form_of = json.null, forms.of
local checks, kind_of = shape_of.checks, shape_of.kind_of

local payload = {}

-- By class; places: where it was made.
local shapes, places = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })
local gathered -- the classes that are made, while payload.gather wants to know

-- Checking a message: `target` gets the fields. It is the message itself when that came from a
-- client (so that order, number texts and long strings still in C stay as they are), else a new
-- table. `errors` is made with the first of them.

local settle

local function copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, one in pairs(value) do
    out[key] = copy(one)
  end
  return setmetatable(out, getmetatable(value)) -- an empty array stays one
end

local function fail(errors, prefix, name, text)
  errors = errors or {}
  errors[prefix .. name] = text
  return errors
end

--- Whether this member is a string that json.lua left in C: its type is known without reading it.
local function is_unread(form, name)
  local lazy = form and form.lazy
  return lazy ~= nil and lazy[name] ~= nil
end

local function settle_field(field, message, target, prefix, errors)
  local name = field.name
  if target == message and is_unread(form_of(message), name) then
    if field.check == checks.string or field.check == checks.any then return errors end
    return fail(errors, prefix, name, "expected " .. field.kind .. ", got string")
  end
  local value = message[name]
  if value == nil or (field.optional and value == null) then
    if not field.optional then return fail(errors, prefix, name, "missing parameter") end
    target[name] = copy(field.default)
  elseif not field.check(value) then
    return fail(errors, prefix, name, "expected " .. field.kind .. ", got " .. kind_of(value))
  elseif field.shape then
    local inner = target == message and value or {}
    target[name] = inner
    return settle(field.shape, value, inner, prefix .. name .. ".", errors)
  else
    if field.kind == "array" then json.array(value) end -- {} as much as a list
    if target ~= message then target[name] = value end
  end
  return errors
end

local function note_extra(shape, keys, extra)
  for key in next, keys do
    if not shape.by_name[key] then
      extra = extra or {}
      extra[#extra + 1] = key
    end
  end
  return extra
end

--- The keys of a message that no field is named after; nil when there are none.
local function extra_keys(shape, message)
  local extra = note_extra(shape, message)
  local form = form_of(message)
  if form and form.lazy then extra = note_extra(shape, form.lazy, extra) end
  return extra
end

local function settle_extra(shape, message, target, prefix, errors)
  local extra = extra_keys(shape, message)
  if not extra then return errors end
  for _, key in ipairs(extra) do
    if shape.extra == "error" then
      errors = fail(errors, prefix, tostring(key), "unknown parameter")
    elseif shape.extra == "keep" then
      target[key] = message[key]
    elseif target == message then
      message[key] = nil
    end
  end
  return errors
end

function settle(shape, message, target, prefix, errors)
  local list = shape.list
  for i = 1, #list do
    errors = settle_field(list[i], message, target, prefix, errors)
  end
  return settle_extra(shape, message, target, prefix, errors)
end

-- Instances. One made in place keeps the form that json.lua gave it, with the class added to it;
-- any other has the class as its metatable.

local function read_member(self, key)
  local form = getmetatable(self)
  local value = form.class[key]
  if value ~= nil then return value end
  local read_unread = form.read_unread
  return read_unread and read_unread(self, key)
end

--- The form that json.lua gave to this table alone, with the order of its keys.
local function own_form(message)
  local form = form_of(message)
  return form and form[1] ~= nil and form or nil
end

local function adopt(class, message, form)
  if not form.class then
    form.read_unread, form.__index = form.__index, read_member
  end
  form.class = class
  return message
end

local function not_an_object(message)
  return failure.invalid("expected object, got " .. kind_of(message))
end

--- The decoded message as an instance, or an Invalid that says what is wrong. Takes the message
--- over.
local function take(class, message)
  if not checks.object(message) then return not_an_object(message) end
  local form = own_form(message)
  local target = form and message or {}
  local errors = settle(shapes[class], message, target, "", nil)
  if errors then return failure.invalid(errors) end
  if form then return adopt(class, message, form) end
  return setmetatable(target, class)
end

-- Input { ... }: raises what from_json_msg would answer.
local class_meta = {
  __call = function(class, message)
    if not checks.object(message) then error(not_an_object(message), 0) end
    local self = {}
    local errors = settle(shapes[class], message, self, "", nil)
    if errors then error(failure.invalid(errors), 0) end
    return setmetatable(self, class)
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
  shapes[class], places[class] = shape_of.read(spec), place.here(2)
  if gathered then gathered[#gathered + 1] = class end
  function class.from_json_msg(message)
    return take(class, message)
  end
  return setmetatable(class, class_meta)
end

--- Whether `value` was made by this class (nil: by none).
function payload.is_instance(class, value)
  local meta = class and type(value) == "table" and getmetatable(value)
  return meta and (meta == class or meta.class == class) or false
end

payload.copy = copy

function payload.is_class(value)
  return shapes[value] ~= nil
end

--- From now on the classes that are made go into `list`; nil: no more.
function payload.gather(list)
  gathered = list
end

--- The place of the call that made it, or nil.
function payload.place(class)
  return places[class]
end

--- A list of { field, text }.
function payload.mistakes(class)
  return shapes[class].mistakes
end

return payload

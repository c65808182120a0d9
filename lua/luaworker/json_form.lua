-- SPDX-License-Identifier: MIT
-- What a JSON table remembers in its metatable, its form: array or object, the order of the keys,
-- the text of values that would be printed otherwise (1.0, "\u00e9"), the members that are still in
-- C. json.lua makes forms while it decodes, json_write.lua writes by them.
--
--   [1..n]       the keys of an object, in order
--   json         ARRAY or OBJECT
--   text, was    by key: the text of a value, and the value that it stands for
--   names        by key: the text of the key
--   lazy, doc    by key: the node of a member not read yet; and the document it is in
--   read         by key: { node, value } of one that was read: unchanged, it is written from there
local base = require "luaworker.base"

local ffi, C = base.ffi, base.C
local ffi_string = ffi.string
local getmetatable, setmetatable, rawget, rawset = getmetatable, setmetatable, rawget, rawset
local next, type = next, type

local ARRAY, OBJECT = tonumber(C.LW_JSON_ARRAY), tonumber(C.LW_JSON_OBJECT)

local forms = { ARRAY = ARRAY, OBJECT = OBJECT }

-- JSON's null: equal only to itself, an error to index.
local null = newproxy(true)
do
  local meta = getmetatable(null)
  meta.__tostring = function() return "null" end
  meta.__metatable = false
end
forms.null = null

-- With nothing to remember but the kind, tables share a form.
local plain_array, plain_object = { json = ARRAY }, { json = OBJECT }
forms.plain_array, forms.plain_object = plain_array, plain_object

local function form_of(t)
  local form = getmetatable(t)
  if type(form) == "table" and type(rawget(form, "json")) == "number" then return form end
end
forms.of = form_of

local function remember(form, key, value, text, node)
  if not form.text then
    form.text, form.was = {}, {}
  end
  form.text[key] = ffi_string(text + node.offset, node.length)
  form.was[key] = value
end
forms.remember = remember

-- Members still in C.

local function forget_lazy(form, key)
  form.lazy[key] = nil
  if next(form.lazy) == nil and not form.read then
    form.lazy, form.doc = nil, nil
  end
end
forms.forget_lazy = forget_lazy

local function read_lazy(t, key)
  local form = getmetatable(t)
  local lazy = form.lazy
  local i = lazy and lazy[key]
  if not i then return nil end
  local node = C.lw_api_doc_nodes(form.doc)[i]
  local value = ffi_string(node.string, node.string_length)
  form.read = form.read or {}
  form.read[key] = { node = i, value = value }
  lazy[key] = nil
  rawset(t, key, value)
  return value
end

-- An assignment ends the waiting, or t.image = nil would bring the old image back.
local function write_lazy(t, key, value)
  local form = getmetatable(t)
  if form.lazy then forget_lazy(form, key) end
  rawset(t, key, value)
end

--- The member `key` of form's table is left in doc, at node i, until it is read.
function forms.leave_lazy(form, key, i, doc)
  if not form.lazy then
    form.lazy, form.doc = {}, doc
    form.__index, form.__newindex = read_lazy, write_lazy
  end
  form.lazy[key] = i
end

local function read_all_lazy(t)
  local form = form_of(t)
  while form and form.lazy and next(form.lazy) ~= nil do
    read_lazy(t, (next(form.lazy)))
  end
end

--- next and pairs that see members still in C.
function forms.next(t, key)
  if key == nil and type(t) == "table" then read_all_lazy(t) end
  return next(t, key)
end

function forms.pairs(t)
  if type(t) ~= "table" then
    error("bad argument #1 to 'pairs' (table expected, got " .. type(t) .. ")", 2)
  end
  read_all_lazy(t)
  return next, t, nil
end

-- Marks.

local function mark(t, plain_form, name)
  if t == nil then t = {} end
  if type(t) ~= "table" then error("json." .. name .. ": expected table, got " .. type(t), 3) end
  local form = form_of(t)
  if form and form.json == plain_form.json then return t end
  if not form and getmetatable(t) ~= nil then
    error("json." .. name .. ": the table has a metatable already", 3)
  end
  read_all_lazy(t)
  return setmetatable(t, plain_form)
end

--- Marks t (default: a new table) to be written as an array, or as an object, even when it is
--- empty. Returns t.
function forms.array(t)
  return (mark(t, plain_array, "array"))
end

function forms.object(t)
  return (mark(t, plain_object, "object"))
end

--- True for tables that are written as arrays.
function forms.is_array(t)
  if type(t) ~= "table" then return false end
  local form = form_of(t)
  if form then return form.json == ARRAY end
  return #t > 0
end

return forms

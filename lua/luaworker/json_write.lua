-- SPDX-License-Identifier: MIT
-- Writes Lua values as JSON into string buffers: tables with a form (json_form.lua) by what it
-- remembers, other tables as arrays when they have items, else as objects with sorted keys.
local base = require "luaworker.base"
local buffer = require "string.buffer"
local forms = require "luaworker.json_form"

local ffi, C = base.ffi, base.C
local rawequal, rawget, next, tonumber, type = rawequal, rawget, next, tonumber, type
local concat, floor, sort = table.concat, math.floor, table.sort
local null, form_of, ARRAY = forms.null, forms.of, forms.ARRAY

local DEPTH = 512
local SHORT = 1024            -- bytes of a string for which the worst case of escaping is reserved
local KEPT_BYTES = 1024 * 1024

local write = {}

-- While JSON is written straight to a request's model body: the request. Long pieces then go to C
-- past the buffer, which would only copy them once more.
local sink, sink_bytes
local LONG = 64 * 1024
local SINK_MOST = 512 * 1024 * 1024 -- what is in C, no limit of the script's memory counts

local function add_to_model(r, p, n) -- alone: see base.lua
  C.lw_api_request_add_model_body(r, p, n)
end

local function put_long(buf, p, n)
  if not sink then return buf:putcdata(p, n) end
  local so_far, length = buf:ref()
  sink_bytes = sink_bytes + length + n
  if sink_bytes > SINK_MOST then error("JSON for the model is longer than 512 MB", 0) end
  C.lw_api_request_add_model_body(sink, so_far, length)
  C.lw_api_request_add_model_body(sink, p, n)
  buf:reset()
end

-- Where the writer is, for messages: path[d] is the key or index at depth d.
local path = {}

local function fail(what, depth)
  local place = {}
  for i = 1, depth do
    local key = path[i]
    if type(key) == "number" then
      place[i] = "[" .. key .. "]"
    else
      place[i] = (i > 1 and "." or "") .. key
    end
  end
  if depth > 0 then what = what .. " (at " .. concat(place) .. ")" end
  error("JSON can't hold " .. what, 0)
end

local function write_string(buf, s)
  local n = #s
  local room = 6 * n + 2
  if n > SHORT then
    room = tonumber(C.lw_api_json_escaped_size(s, n))
    if room == n + 2 then
      if n < LONG or not sink then
        buf:put('"', s, '"')
      else
        buf:put('"')
        put_long(buf, s, n)
        buf:put('"')
      end
      return
    end
  end
  local p = buf:reserve(room)
  buf:commit(tonumber(C.lw_api_json_escape(p, s, n)))
end

local function write_number(buf, v, depth)
  if v == floor(v) and v > -1e9 and v < 1e9 then
    buf:put(v)
    return
  end
  local p = buf:reserve(32)
  local n = tonumber(C.lw_api_json_number(p, v))
  if n == 0 then fail(v ~= v and "NaN" or "an infinite number", depth) end
  buf:commit(n)
end

local int64, uint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"

local function write_cdata(buf, v, depth)
  if ffi.istype(int64, v) then
    buf:put((tostring(v):gsub("LL$", "")))
  elseif ffi.istype(uint64, v) then
    buf:put((tostring(v):gsub("ULL$", "")))
  else
    fail("a cdata", depth)
  end
end

local write_table

local function write_value(buf, v, depth)
  local kind = type(v)
  if kind == "string" then
    write_string(buf, v)
  elseif kind == "number" then
    write_number(buf, v, depth)
  elseif kind == "table" then
    write_table(buf, v, depth + 1)
  elseif kind == "boolean" then
    buf:put(v and "true" or "false")
  elseif v == null then
    buf:put("null")
  elseif kind == "cdata" then
    write_cdata(buf, v, depth)
  else
    fail("a " .. kind, depth)
  end
end

-- Keys come again and again: `"key":` by key, as many as fit.
local names, name_count = {}, 0
local name_buffer = buffer.new()

local function name_of(key)
  local name = names[key]
  if name then return name end
  name_buffer:reset()
  write_string(name_buffer, key)
  name = name_buffer:put(":"):get()
  if #key > 64 then return name end
  if name_count == 4096 then
    names, name_count = {}, 0
  end
  names[key], name_count = name, name_count + 1
  return name
end

-- These loops call next themselves. In this LuaJIT, a compiled `for ... in pairs` or `in next`
-- whose trace goes on into a call that can't be compiled (here: sort) may find no items.
local function count_keys(t)
  local n = 0
  local key = next(t)
  while key ~= nil do
    n = n + 1
    key = next(t, key)
  end
  return n
end

local function write_array(buf, t, form, depth)
  local n = #t
  if count_keys(t) ~= n then fail("a list with holes or other keys", depth - 1) end
  local text, was = form and form.text, form and form.was
  buf:put("[")
  for i = 1, n do
    local v = rawget(t, i)
    path[depth] = i
    if i > 1 then buf:put(",") end
    if v == nil then fail("a list with holes or other keys", depth - 1) end
    if text and text[i] and rawequal(v, was[i]) then
      buf:put(text[i])
    else
      write_value(buf, v, depth)
    end
  end
  buf:put("]")
end

-- Members whose keys the form (if any) does not know, sorted: the same is written every time.
local function write_others(buf, t, form, depth, separator)
  local known, keys = {}, {}
  for i = 1, form and #form or 0 do
    known[form[i]] = true
  end
  local key = next(t)
  while key ~= nil do
    if type(key) ~= "string" then fail("an object with a " .. type(key) .. " as key", depth - 1) end
    if not known[key] then keys[#keys + 1] = key end
    key = next(t, key)
  end
  sort(keys)
  for i = 1, #keys do
    key = keys[i]
    path[depth] = key
    buf:put(separator, name_of(key))
    write_value(buf, rawget(t, key), depth)
    separator = ","
  end
  return separator
end

local function write_slice(buf, form, i)
  local node = C.lw_api_doc_nodes(form.doc)[i]
  put_long(buf, C.lw_api_doc_text(form.doc) + node.offset, node.length)
end

-- The member of a decoded object: from C, as it came, or anew.
local function write_member(buf, v, form, key, depth)
  local text = form.text and form.text[key]
  local read = form.read
  if v == nil then
    write_slice(buf, form, form.lazy[key])
  elseif read and read[key] and rawequal(v, read[key].value) then
    write_slice(buf, form, read[key].node)
  elseif text and rawequal(v, form.was[key]) then
    buf:put(text)
  else
    path[depth] = key
    write_value(buf, v, depth)
  end
end

local function write_object(buf, t, form, depth)
  local separator, members = "{", 0
  local lazy, texts = form.lazy, form.names
  for i = 1, #form do
    local key = form[i]
    local v = rawget(t, key)
    if v ~= nil then members = members + 1 end
    if v ~= nil or lazy and lazy[key] then
      local name = texts and texts[key]
      buf:put(separator, name and name .. ":" or name_of(key))
      write_member(buf, v, form, key, depth)
      separator = ","
    end
  end
  if count_keys(t) ~= members then separator = write_others(buf, t, form, depth, separator) end
  buf:put(separator == "{" and "{}" or "}")
end

function write_table(buf, t, depth)
  if depth > DEPTH then fail("a table within itself, or " .. DEPTH .. " levels deep", 0) end
  local form = form_of(t)
  if form and form.json ~= ARRAY then
    write_object(buf, t, form, depth)
  elseif form or #t > 0 then
    write_array(buf, t, form, depth)
  else
    buf:put(write_others(buf, t, nil, depth, "{") == "{" and "{}" or "}")
  end
end

--- Appends value as JSON to a string buffer. Raises "JSON can't hold ... (at path)" for what JSON
--- can't hold; the buffer then has a part of it.
function write.encode_to(buf, value)
  sink = nil
  write_value(buf, value, 0)
end

local scratch = buffer.new()

--- value as JSON becomes what the model gets for request r (lw_api_request_set_model_body).
function write.encode_for_model(r, value)
  C.lw_api_request_set_model_body(r, "", 0)
  scratch:reset()
  sink, sink_bytes = r, 0
  write_value(scratch, value, 0)
  sink = nil
  local p, n = scratch:ref()
  add_to_model(r, p, n)
end

--- value as JSON text; raises as encode_to does.
function write.encode(value)
  sink = nil
  scratch:reset()
  write_value(scratch, value, 0)
  local size = #scratch
  local text = scratch:get()
  if size > KEPT_BYTES then scratch:free() end
  return text
end

--- For failure.lua: a text that was too much for the memory stays no longer.
function write.drop()
  sink = nil
  scratch:free()
end

return write

-- SPDX-License-Identifier: MIT
-- worker.json: JSON text to ordinary tables and back, keeping what it was given: decoded tables
-- have a form (json_form.lua) by which untouched values are written as they came. Parsing and
-- escaping are done in C; this walks the parser's nodes.
local base = require "luaworker.base"
local forms = require "luaworker.json_form"
local write = require "luaworker.json_write"
local new_table = require "table.new"

local ffi, C = base.ffi, base.C
local ffi_string = ffi.string
local getmetatable, setmetatable, tonumber, type = getmetatable, setmetatable, tonumber, type
local null, remember = forms.null, forms.remember
local leave_lazy, forget_lazy = forms.leave_lazy, forms.forget_lazy
local plain_array, plain_object = forms.plain_array, forms.plain_object

local NULL = tonumber(C.LW_JSON_NULL)
local FALSE, TRUE = tonumber(C.LW_JSON_FALSE), tonumber(C.LW_JSON_TRUE)
local INT, UINT = tonumber(C.LW_JSON_INT), tonumber(C.LW_JSON_UINT)
local STRING = tonumber(C.LW_JSON_STRING)
local ARRAY, OBJECT = forms.ARRAY, forms.OBJECT

local LAZY_BYTES = 64 * 1024         -- longer members may stay in C until they are read
local STOPPED_BYTES = 16 * 1024      -- of more, a script may be stopped while they are read
local HELD_BYTES = 64 * 1024 * 1024  -- of text held for them between two full collections

local json = {
  null = null, array = forms.array, object = forms.object, is_array = forms.is_array,
  next = forms.next, pairs = forms.pairs, encode = write.encode, encode_to = write.encode_to,
  encode_for_model = write.encode_for_model,
}

-- Reading nodes (wire/json.h).

local function read_scalar(node, kind)
  if kind == INT then
    local integer = node.integer
    local exact = integer >= -9007199254740992LL and integer <= 9007199254740992LL
    return exact and tonumber(integer) or integer
  end
  if kind == TRUE then return true end
  if kind == FALSE then return false end
  if kind == NULL then return null end
  if kind == UINT then return ffi.cast("uint64_t", node.integer) end
  return node.number
end

-- The name of a member. Of several with one name, the first gives the place, the last the value.
local function read_name(t, form, n, name, text)
  local key = ffi_string(name.string, name.string_length)
  if t[key] ~= nil or form.lazy and form.lazy[key] then
    if form.text then form.text[key] = nil end
    if form.lazy then forget_lazy(form, key) end
    t[key] = nil
    return key, n
  end
  if name.escaped == 2 then
    form.names = form.names or {}
    form.names[key] = ffi_string(text + name.offset, name.length)
  end
  form[n + 1] = key
  return key, n + 1
end

-- A new table for a container, and its form; false for an array, which may do without.
local function open(node, kind)
  local count = tonumber(node.count)
  if kind == ARRAY then return new_table(count, 0), false end
  return new_table(0, count), new_table(count, 1)
end

local function close(t, form)
  if not form then
    if not getmetatable(t) then setmetatable(t, plain_array) end
    return
  end
  form.json = OBJECT
  setmetatable(t, form[1] == nil and plain_object or form)
end

-- An array gets a form of its own only for texts.
local function remember_item(t, i, value, text, node)
  local form = getmetatable(t)
  if not form then
    form = { json = ARRAY }
    setmetatable(t, form)
  end
  remember(form, i, value, text, node)
end

local function read_plain(t, form, key, node, kind, text)
  local value
  if kind == STRING then
    value = ffi_string(node.string, node.string_length)
  else
    value = read_scalar(node, kind)
  end
  t[key] = value
  if node.escaped < 2 then return end
  if form then
    remember(form, key, value, text, node)
  else
    remember_item(t, key, value, text, node)
  end
end

-- The containers around the one being filled, and how far each is.
local tables, table_forms, stops, counts = {}, {}, {}, {}

-- Calls of C alone: see base.lua.
local function release(doc)
  C.lw_api_doc_unref(doc)
end

local function look_at(doc, root)
  local nodes = C.lw_api_doc_nodes(doc)
  return nodes, C.lw_api_doc_text(doc), nodes[0].length, nodes[root].next
end

-- The value of the node `root`, which ends at `stop`. One loop instead of recursion: the compiler
-- likes it better. The root counts as the only item of an array. The second result: do lazy members
-- refer to doc?
local function read(doc, nodes, text, root, stop, keep_lazy)
  local i, depth, held = root, 0, false
  local t, form, n = {}, false, 0
  while true do
    while i == stop do
      if depth == 0 then return t[1], held end
      close(t, form)
      t, form, stop, n = tables[depth], table_forms[depth], stops[depth], counts[depth]
      tables[depth], table_forms[depth] = false, false
      depth = depth - 1
    end
    local key
    if form then
      key, n = read_name(t, form, n, nodes[i], text)
      i = i + 1
    else
      n = n + 1
      key = n
    end
    local node = nodes[i]
    local kind = node.kind
    if kind >= ARRAY then
      local inner, inner_form = open(node, kind)
      t[key] = inner
      depth = depth + 1
      tables[depth], table_forms[depth], stops[depth], counts[depth] = t, form, stop, n
      t, form, stop, n = inner, inner_form, node.next, 0
    elseif kind == STRING and keep_lazy and form and node.string_length > LAZY_BYTES then
      leave_lazy(form, key, i, doc)
      held = true
    else
      read_plain(t, form, key, node, kind, text)
    end
    i = i + 1
  end
end

local held_bytes = 0

--- The value of node `root` of a document. Takes over the caller's reference to doc: it is released
--- before this returns, or, when keep_lazy left long string members in C, once their tables are
--- collected (or all read). The collector does not see how large such a text is, so every 64 MB of
--- them run a full collection.
function json.from_doc(doc, root, keep_lazy)
  local nodes, text, bytes, stop = look_at(doc, root)
  local is_long = bytes > STOPPED_BYTES
  if is_long then ffi.gc(doc, C.lw_api_doc_unref) end
  local value, held = read(doc, nodes, text, root, stop, keep_lazy)
  if not held then
    if is_long then ffi.gc(doc, nil) end
    release(doc)
    return value
  end
  held_bytes = held_bytes + bytes
  if held_bytes > HELD_BYTES then
    held_bytes = 0
    collectgarbage()
  end
  return value
end

--- A document of the n bytes at p, and whether it is JSON.
function json.parse(p, n)
  local doc = C.lw_api_doc_parse(p, n)
  return doc, C.lw_api_doc_error(doc) == nil
end

--- The value of the n bytes at p, or nil and "message at byte N" (the first byte is 1).
function json.decode_span(p, n)
  local doc, is_json = json.parse(p, n)
  if is_json then return json.from_doc(doc, 0, false) end
  local place = C.lw_api_doc_error_offset(doc) + 1
  local text = string.format("%s at byte %d", ffi_string(C.lw_api_doc_error(doc)), place)
  C.lw_api_doc_unref(doc)
  return nil, text
end

--- The same of a string.
function json.decode(text)
  if type(text) ~= "string" then
    error("bad argument #1 to 'decode' (string expected, got " .. type(text) .. ")", 2)
  end
  return json.decode_span(text, #text)
end

return json

-- SPDX-License-Identifier: MIT
-- Checks of the tables that authors write: every mistake is noted with its path, none raises. A
-- rule is a function(value, path, note); note(path, text) takes one mistake.
local base = require "luaworker.base"
local forms = require "luaworker.json_form"

local show, did_you_mean = base.show, base.did_you_mean

local schema = {}

function schema.any() end

local function rule_of_type(kind)
  return function(value, path, note)
    if type(value) ~= kind then note(path, "expected " .. kind .. ", got " .. show(value)) end
  end
end

local NUMBER_MOST = 1e15 -- C takes no larger ones

schema.string = rule_of_type "string"
schema.boolean = rule_of_type "boolean"
schema.bytes = rule_of_type "string"
schema.fn = rule_of_type "function"
schema.table = rule_of_type "table"

function schema.text(value, path, note)
  if type(value) ~= "string" or value == "" then
    note(path, "expected non-empty string, got " .. show(value))
  end
end

-- limits: above; or min; or min and max.
local function in_range(value, limits)
  return (not limits.min or value >= limits.min) and (not limits.max or value <= limits.max)
    and (not limits.above or value > limits.above)
end

local function range_text(limits)
  local text = limits.integer and "integer" or "number"
  if limits.above then return text .. " above " .. limits.above end
  if not limits.max then return text .. " of at least " .. limits.min end
  return text .. " from " .. limits.min .. " to " .. limits.max
end

--- A finite number. limits: integer = true; above; min; min and max.
function schema.number(limits)
  local kind = limits.integer and "integer" or "number"
  return function(value, path, note)
    local fits = type(value) == "number" and value - value == 0
      and not (limits.integer and value % 1 ~= 0)
    if not fits then
      note(path, "expected " .. kind .. ", got " .. show(value))
    elseif not in_range(value, limits) then
      note(path, "expected " .. range_text(limits) .. ", got " .. show(value))
    elseif value >= NUMBER_MOST then
      note(path, "expected " .. kind .. " below 1e15, got " .. show(value))
    end
  end
end

--- One of these strings.
function schema.one_of(...)
  local words, allowed = { ... }, {}
  for i, word in ipairs(words) do
    allowed[word] = true
    words[i] = '"' .. word .. '"'
  end
  return function(value, path, note)
    if allowed[value] then return end
    local hint = type(value) == "string" and did_you_mean(value, allowed) or ""
    note(path, "expected " .. table.concat(words, " or ") .. ", got " .. show(value) .. hint)
  end
end

local function join(path, key)
  if type(key) == "string" then return path == "" and key or path .. "." .. key end
  local shown = (type(key) == "number" or type(key) == "boolean") and tostring(key) or type(key)
  return path .. "[" .. shown .. "]"
end

--- A list whose items obey `rule`.
function schema.list(rule)
  return function(value, path, note)
    if type(value) ~= "table" then return note(path, "expected list, got " .. show(value)) end
    local length = 0 -- up to the first hole
    for i, item in ipairs(value) do
      rule(item, join(path, i), note)
      length = i
    end
    for key in pairs(value) do
      if type(key) ~= "number" then
        note(join(path, key), "expected a list, this is a key")
      elseif key % 1 ~= 0 or key < 1 or key > length then
        note(join(path, key), "expected a list without holes")
      end
    end
  end
end

--- The first rule for tables, the other for what is not one.
function schema.either(for_other, for_table)
  return function(value, path, note)
    local rule = type(value) == "table" and for_table or for_other
    rule(value, path, note)
  end
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end
schema.sorted_keys = sorted_keys

local fields_of = {} -- by rule

--- Whether it is a table without a metatable of the script's: one whose keys are all its own.
function schema.is_plain(value)
  return type(value) == "table" and (debug.getmetatable(value) == nil or forms.of(value) ~= nil)
end

--- A table with these keys only, none of which must be there.
function schema.record(fields)
  local function rule_of_record(value, path, note)
    if type(value) ~= "table" then return note(path, "expected table, got " .. show(value)) end
    if not schema.is_plain(value) then
      return note(path, "expected a plain table: of one with a metatable its own keys only count")
    end
    for _, key in ipairs(sorted_keys(value)) do
      local rule = fields[key]
      if rule then
        rule(value[key], join(path, key), note)
      else
        local hint = type(key) == "string" and did_you_mean(key, fields) or ""
        note(join(path, key), "unknown key" .. hint)
      end
    end
  end
  fields_of[rule_of_record] = fields
  return rule_of_record
end

--- The rules by key of a rule that schema.record made.
function schema.fields(rule)
  return fields_of[rule]
end

--- Checks `value` and returns the first mistake as text, or nil.
function schema.first_mistake(rule, value)
  local first
  rule(value, "", function(path, text)
    first = first or (path == "" and text or path .. ": " .. text)
  end)
  return first
end

return schema

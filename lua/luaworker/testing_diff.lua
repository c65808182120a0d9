-- SPDX-License-Identifier: MIT
-- Values as text, whether two are equal all the way down, and where they first differ. For
-- testing_expect.lua; knows nothing of tests.
local json = require "luaworker.json"

local diff = {}

local MAX_TEXT, MAX_DEPTH = 1000, 8
local null = json.null

local function is_name(key)
  return type(key) == "string" and key:find "^[%a_][%w_]*$" ~= nil
end

local function quoted(text)
  return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("%z", "\\0"))
end

local function by_kind(a, b)
  if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
  return tostring(a) < tostring(b)
end

local function sorted_keys(t)
  local keys = {}
  for key in json.pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys, by_kind)
  return keys
end

local show

local function show_table(t, depth, open)
  if open[t] then return "<itself>" end
  if depth > MAX_DEPTH then return "{ ... }" end
  open[t] = true
  local out, size, length = {}, 0, #t
  for _, key in ipairs(sorted_keys(t)) do
    local item = show(t[key], depth + 1, open)
    if type(key) ~= "number" or key < 1 or key > length or key % 1 ~= 0 then
      item = (is_name(key) and key or "[" .. show(key, depth + 1, open) .. "]") .. " = " .. item
    end
    out[#out + 1] = item
    size = size + #item
    if size > MAX_TEXT then
      out[#out + 1] = "..."
      break
    end
  end
  open[t] = nil
  return #out == 0 and "{}" or "{ " .. table.concat(out, ", ") .. " }"
end

function show(value, depth, open)
  if rawequal(value, null) then return "json.null" end
  local kind = type(value)
  if kind == "string" then return quoted(value) end
  if kind == "number" then return ("%.17g"):format(value) == tostring(value) and tostring(value)
    or ("%.14g"):format(value) end
  if kind ~= "table" then return tostring(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") then return tostring(value) end
  return show_table(value, depth, open)
end

--- A value on one line, as Lua would write it; long ones are cut.
function diff.show(value)
  local text = show(value, 1, {})
  if #text <= MAX_TEXT then return text end
  return text:sub(1, MAX_TEXT) .. "... (" .. #text .. " characters)"
end

local function path_to(path, key)
  if is_name(key) then return path .. "." .. key end
  return path .. "[" .. diff.show(key) .. "]"
end

local find

local function find_in_table(expected, got, path, seen)
  if seen[expected] == got then return nil end
  seen[expected] = got
  for _, key in ipairs(sorted_keys(expected)) do
    local at, one, other = find(expected[key], got[key], path_to(path, key), seen)
    if at then return at, one, other end
  end
  for _, key in ipairs(sorted_keys(got)) do
    if expected[key] == nil then return path_to(path, key), nil, got[key] end
  end
end

--- The path of the first difference with what is expected and what is there; nil when equal.
function find(expected, got, path, seen)
  if rawequal(expected, got) then return nil end
  if type(expected) == "table" and type(got) == "table" then
    return find_in_table(expected, got, path, seen)
  end
  local same_type = type(expected) == type(got)
  if same_type and (expected == got or expected ~= expected and got ~= got) then return nil end
  if type(expected) == "cdata" or type(got) == "cdata" then
    local ok, same = pcall(function() return expected == got end)
    if ok and same then return nil end
  end
  return path, expected, got
end

function diff.find(expected, got)
  return find(expected, got, "", {})
end

-- Around the byte where two long texts part.
local function parting(expected, got)
  local i = 1
  while i <= #expected and i <= #got and expected:byte(i) == got:byte(i) do
    i = i + 1
  end
  return i
end

local function around(text, i)
  local first, last = math.max(1, i - 30), math.min(#text, i + 50)
  local before, behind = first > 1 and "..." or "", last < #text and "..." or ""
  return before .. quoted(text:sub(first, last)) .. behind
end

--- Lines that tell a difference: where it is, what is expected and what is there.
function diff.lines(expected, got)
  local at, one, other = diff.find(expected, got)
  if not at then return {} end
  local where = at ~= "" and "at " .. at:gsub("^%.", "") .. ": " or ""
  if type(one) == "string" and type(other) == "string" and math.max(#one, #other) > 60 then
    local i = parting(one, other)
    return {
      ("%sthe texts part at byte %d (of %d and %d)"):format(where, i, #one, #other),
      "expected " .. around(one, i), "got      " .. around(other, i),
    }
  end
  local out = { where .. "expected " .. diff.show(one) .. ", got " .. diff.show(other) }
  if at ~= "" then
    out[2] = "expected " .. diff.show(expected)
    out[3] = "got      " .. diff.show(got)
  end
  return out
end

return diff

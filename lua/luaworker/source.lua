-- SPDX-License-Identifier: MIT
-- Where in a script's text something stands: the fields of its table constructors, found by their
-- keys among the words of the text, comments and strings left out. A reader for messages, which
-- gives up rather than guess; it takes text that compiles. Called by place.lua.
local source = {}

local openers = {
  ["("] = true, ["{"] = true, ["["] = true, ["function"] = true, ["do"] = true, ["if"] = true,
  ["repeat"] = true,
}
local closers = {
  [")"] = true, ["}"] = true, ["]"] = true, ["end"] = true, ["until"] = true,
}

-- Reading --

local function count_line_ends(text, from, to)
  local n, at = 0, text:find("\n", from, true)
  while at and at <= to do
    n, at = n + 1, text:find("\n", at + 1, true)
  end
  return n
end

--- The end of the long bracket that opens at `at`, and of its opening; nil when none opens there.
local function long_bracket(text, at)
  local _, opened, level = text:find("^%[(=*)%[", at)
  if not opened then return nil end
  local _, closed = text:find("]" .. level .. "]", opened + 1, true)
  return closed or #text, opened
end

local function quoted_end(text, at)
  local quote = text:sub(at, at)
  local i = at + 1
  while true do
    i = text:find("[\\" .. quote .. "]", i)
    if not i then return #text end
    if text:sub(i, i) == quote then return i end
    i = i + 2
  end
end

local function comment_end(text, at)
  return long_bracket(text, at + 2) or (text:find("\n", at, true) or #text + 1) - 1
end

--- The last byte of the word that begins at `at`; for a string what is in it, too.
local function word_end(text, at)
  local closed, opened = long_bracket(text, at)
  if closed then return closed, text:sub(opened + 1, closed - (opened - at + 1)) end
  if text:find("^[\"']", at) then
    closed = quoted_end(text, at)
    return closed, text:sub(at + 1, closed - 1)
  end
  for _, pattern in ipairs { "^[%a_][%w_]*", "^%.?%d[%w_.]*", "^[=~<>]=" } do
    local _, last = text:find(pattern, at)
    if last then return last end
  end
  return at
end

-- A reading: { word = {}, line = {}, is_string = {}, close = {} by the number of what opens }.
local function add(s, open, word, line, string_text)
  local n = #s.word + 1
  s.word[n], s.line[n] = string_text or word, line
  if string_text then
    s.is_string[n] = true
  elseif openers[word] then
    open[#open + 1] = n
  elseif closers[word] and #open > 0 then
    s.close[table.remove(open)] = n
  end
end

--- Reads a text, for the functions below.
function source.read(text)
  local s = { word = {}, line = {}, is_string = {}, close = {} }
  local open, line, at = {}, 1, 1
  text = text:gsub("\r\n?", "\n")
  if text:sub(1, 1) == "#" then at = text:find("\n", 1, true) or #text + 1 end
  while true do
    local begin = text:find("%S", at)
    if not begin then return s end
    line = line + count_line_ends(text, at, begin - 1)
    local last, string_text
    if text:sub(begin, begin + 1) == "--" then
      last = comment_end(text, begin)
    else
      last, string_text = word_end(text, begin)
      add(s, open, text:sub(begin, last), line, string_text)
    end
    line = line + count_line_ends(text, begin, last)
    at = last + 1
  end
end

-- Finding --

local function is(s, i, word)
  return s.word[i] == word and not s.is_string[i]
end

--- The first `{` from i to `last` that no function's body holds.
function source.first_table(s, i, last)
  while i <= last do
    if is(s, i, "{") then return i end
    i = is(s, i, "function") and s.close[i] or i
    i = i + 1
  end
end

-- The key of the field that begins at i (nil: it has none) and where its value begins.
local function key_at(s, i)
  if is(s, i, "[") and s.close[i] == i + 2 and is(s, i + 3, "=") then
    local word = s.word[i + 1]
    return s.is_string[i + 1] and word or tonumber(word), i + 4
  elseif not s.is_string[i] and is(s, i + 1, "=") then
    return s.word[i], i + 2
  end
  return nil, i
end

local function value_end(s, i, limit)
  while i < limit and not is(s, i, ",") and not is(s, i, ";") do
    i = (s.close[i] or i) + 1
  end
  return i - 1
end

--- The field of the table that opens at `open`: where it, its value begin, and the value's end.
local function field(s, open, step)
  local i, limit, index = open + 1, s.close[open], 0
  while limit and i < limit do
    local key, value = key_at(s, i)
    if key == nil then
      index = index + 1
      key = index
    end
    local last = value_end(s, value, limit)
    if key == step then return i, value, last end
    i = last + 2
  end
end

--- The table that a value is: written there, given to a call there, or named there and written
--- before.
local function table_of(s, value, last)
  if last > value or s.is_string[value] then return source.first_table(s, value, last) end
  local name = s.word[value]
  for i = value - 3, 1, -1 do -- before the key of this field
    if is(s, i, name) and is(s, i + 1, "=") then
      return source.first_table(s, i + 2, math.min(i + 6, #s.word))
    end
  end
end

--- The table that a call with these brackets gets.
function source.table_in(s, open)
  local close = s.close[open]
  if not close or is(s, open, "{") then return close and open end
  if close == open + 2 then return table_of(s, open + 1, open + 1) end
  return source.first_table(s, open, close)
end

--- Goes from the table that opens at `open` (nil: from nowhere) along the keys. How many were found
--- and the line of the last of them.
function source.follow(s, open, steps)
  local line
  for n, step in ipairs(steps) do
    local at, value, last
    if open then at, value, last = field(s, open, step) end
    if not at then return n - 1, line end
    line = s.line[at]
    open = table_of(s, value, last)
  end
  return #steps, line
end

--- The line on which `key` is given a value, when there is one such line only.
function source.only_line(s, key)
  local found
  for i = 1, #s.word do
    local gives = s.word[i] == key and (is(s, i + 1, "=") or is(s, i + 1, "]") and is(s, i + 2, "=")
      or is(s, i - 1, ".") and is(s, i - 3, "function")
      or is(s, i - 1, ":") and is(s, i - 3, "function"))
    if gives then
      if found then return nil end
      found = s.line[i]
    end
  end
  return found
end

--- The call made on this line with brackets: where they open. By one of these names rather than
--- another, and with this string first rather than another.
function source.call_on(s, line, names, first_string)
  local best, best_rank
  for i = 2, #s.word do
    if s.line[i] == line and (is(s, i, "(") or is(s, i, "{")) then
      local rank = names[s.word[i - 1]] and not s.is_string[i - 1] and 2 or 1
      local has_string = first_string and s.is_string[i + 1] and s.word[i + 1] == first_string
      if has_string then rank = rank + 2 end
      if not best or rank > best_rank then best, best_rank = i, rank end
    end
  end
  return best
end

--- The last `return` outside of all brackets and blocks: what the file gives.
function source.last_return(s)
  local found, i = nil, 1
  while i <= #s.word do
    if is(s, i, "return") then found = i end
    i = (s.close[i] or i) + 1
  end
  return found
end

return source

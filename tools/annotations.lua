-- SPDX-License-Identifier: MIT
-- Reads the annotations under lua/types: classes with their fields and functions, and aliases. Used
-- by tools/api_pages.lua, which makes docs/api.md of them, and by tests/lua/test_types.lua. Knows
-- the tags that those files use; anything else is an error. What is said of a field stands behind
-- its type, or in the lines above.
local annotations = {}

local files = {
  "lua/types/luaworker.lua", "lua/types/luaworker/words.lua", "lua/types/luaworker/load.lua",
  "lua/types/luaworker/testing.lua", "lua/types/objects.lua", "lua/types/options.lua",
}

-- Types --

local scan_type

--- The position behind a function's returned types: `: a, b`.
local function scan_returns(s, at)
  local after = s:match("^%s*:%s*()", at)
  while after do
    at = scan_type(s, after)
    after = s:match("^,%s*()", at)
  end
  return at
end

--- The position behind the type that begins at `at`, without its alternatives.
local function scan_one(s, at)
  local after = s:match('^"[^"]*"()', at) or s:match("^%.%.%.()", at)
  if s:find("^fun%(", at) then
    after = scan_returns(s, s:match("^fun%b()()", at))
  end
  after = after or s:match("^%b()()", at) or s:match("^[%w_.]+()", at)
  if not after then error("no type: " .. s:sub(at), 0) end
  after = s:match("^%b<>()", after) or after
  while s:find("^%[%]", after) or s:find("^%?", after) do
    after = s:match("^%[%]()", after) or after + 1
  end
  return after
end

--- The same with them.
function scan_type(s, at)
  local after = scan_one(s, at)
  local next_one = s:match("^%s*|%s*()", after)
  return next_one and scan_type(s, next_one) or after
end

--- The types of which a value has one: "a | b" is a list of two.
function annotations.alternatives(s)
  local list, at = {}, 1
  while at do
    local after = scan_one(s, at)
    list[#list + 1] = s:sub(at, after - 1)
    at = s:match("^%s*|%s*()", after)
  end
  return list
end

--- A type and the text behind it.
local function split_type(s)
  local after = scan_type(s, 1)
  return s:sub(1, after - 1), s:sub(after):match "^%s*(.-)%s*$"
end

-- Tags: each takes the rest of its line into the block of comments that it stands in --

local tags = {}

function tags.class(block, rest)
  local name, parent = rest:match "^([%w_.]+)%s*:?%s*([%w_.]*)$"
  block.class = { name = name, parent = parent ~= "" and parent or nil, text = block.text,
    fields = {}, functions = {}, overloads = {} }
  block.text = {}
end

function tags.field(block, rest)
  local name, optional, after = rest:match "^([%w_]+)(%??)%s+(.*)$"
  if not name then
    name, after = rest:match "^(%b[])%s+(.*)$"
  end
  local field = { name = name, optional = optional == "?" }
  field.type, field.text = split_type(after)
  if #block.text > 0 then field.text = table.concat(block.text, " ") end
  block.text = {}
  table.insert(block.class.fields, field)
end

function tags.param(block, rest)
  local name, optional, after = rest:match "^([%w_.]+)(%??)%s+(.*)$"
  local param = { name = name, optional = optional == "?" }
  param.type, param.text = split_type(after)
  table.insert(block.params, param)
end

tags["return"] = function(block, rest)
  local kind, text = split_type(rest)
  table.insert(block.returns, { type = kind, text = text })
end

function tags.overload(block, rest)
  table.insert(block.class and block.class.overloads or block.overloads, rest)
end

function tags.alias(block, rest)
  local name, kind = rest:match "^([%w_.]+)%s+(.*)$"
  block.alias = { name = name, type = kind, text = block.text }
end

function tags.type(block, rest)
  block.type = rest
end

function tags.generic() end
function tags.meta() end

-- Files --

local function new_block()
  return { text = {}, params = {}, returns = {}, overloads = {} }
end

local function add_function(api, block, owner, mark, name, arguments)
  local class = api.by_local[owner] or error("whose is " .. owner .. mark .. name .. "?", 0)
  local names = {}
  for one in arguments:gmatch "[%w_.]+" do
    names[#names + 1] = one
  end
  table.insert(class.functions, {
    name = name, is_method = mark == ":", arguments = names, params = block.params,
    returns = block.returns, overloads = block.overloads, text = block.text,
  })
end

local function end_block(api, block, line)
  local class, alias = block.class, block.alias
  if class then
    class.file = api.file
    api.classes[#api.classes + 1] = class
    api.by_name[class.name] = class
    local variable = line:match "^local ([%w_]+) = {}$"
    if variable then api.by_local[variable] = class end
  elseif alias then
    api.aliases[#api.aliases + 1] = alias
  elseif line:find "^function " then
    add_function(api, block, line:match "^function ([%w_]+)([.:])([%w_]+)%((.-)%) end$")
  elseif block.type then
    local owner, name = line:match "^([%w_]+)%.([%w_]+) = nil$"
    table.insert(api.by_local[owner].fields, { name = name, type = block.type, text = "" })
  end
end

local function read_line(api, block, line)
  local tag, rest = line:match "^%-%-%-@(%a+)%s*(.*)$"
  if tag then
    local take = tags[tag] or error("unknown tag @" .. tag, 0)
    take(block, rest)
    return block
  end
  local text = line:match "^%-%-%- ?(.*)$"
  if text then
    table.insert(block.text, text)
    return block
  end
  end_block(api, block, line)
  return new_block()
end

local function read_file(api, path)
  api.by_local, api.file = {}, path
  local block, number = new_block(), 0
  for line in io.lines(path) do
    number = number + 1
    local ok, next_block = pcall(read_line, api, block, line)
    if not ok then error(("%s:%d: %s"):format(path, number, next_block), 0) end
    block = next_block
  end
  end_block(api, block, "")
end

--- { classes, aliases (lists in the files' order), by_name (classes) }. A class: { name, parent,
--- file, text (lines), fields, functions, overloads }. Raises for what it can't read.
function annotations.read()
  local api = { classes = {}, aliases = {}, by_name = {} }
  for _, path in ipairs(files) do
    local file = io.open(path)
    if file then
      file:close()
      read_file(api, path)
    end
  end
  return api
end

return annotations

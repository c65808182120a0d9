-- SPDX-License-Identifier: MIT
-- docs/api.md as text, made of the annotations under lua/types: modules with their functions,
-- objects, option tables, types. Prints nothing: tools/api_docs.lua does, and tests/lua/test_types
-- compares.
local annotations = require "tools.annotations"

local api_pages = {}

-- How scripts call what they have of a class.
local variables = {
  ["luaworker"] = "worker", ["luaworker.words"] = "words", ["luaworker.load"] = "load",
  ["luaworker.testing"] = "testing",
  ["luaworker.Request"] = "request", ["luaworker.ModelResponse"] = "model_response",
  ["luaworker.Stream"] = "stream", ["luaworker.Payload"] = "Payload",
  ["luaworker.testing.clock"] = "testing.clock", ["luaworker.TestWord"] = "it",
  ["luaworker.Expectation"] = "expect(value)", ["luaworker.App"] = "app",
  ["luaworker.AppAnswer"] = "answer", ["luaworker.AppSession"] = "session",
  ["luaworker.FakeServer"] = "model",
}

local function variable_of(class)
  return variables[class.name] or class.name:gsub("^luaworker%.%l", function(start)
    return "worker." .. start:sub(-1)
  end)
end

local sections = {
  { title = "Modules", has = function(class) return not class.name:find "%.%u" end },
  { title = "Objects", has = function(class) return class.file:find "objects" end },
  { title = "Tables", has = function(class) return class.file:find "options" end },
  { title = "Tests", has = function(class)
    return class.file:find "testing" and class.name:find "%.%u"
  end },
}

local function short(kind)
  return (kind:gsub("luaworker%.(%u)", "%1"))
end

local function title_of(class)
  return class.name:find "%.%u" and short(class.name) or variable_of(class)
end

local function anchor(title)
  return "#" .. title:lower():gsub("[^%w_ -]", ""):gsub(" ", "-")
end

local endings = { [""] = "", ["?"] = " or nil", ["[]"] = "s, a list" }

--- One type of ours as a link to it; nil for others.
local function link(kind, api)
  local own, ending = kind:match "^(luaworker[%w_.]*)(.*)$"
  if not own or not endings[ending] then return nil end
  local class = api.by_name[own]
  if not class and not api.aliases[own] then return nil end
  local title = class and title_of(class) or short(own)
  return ("[%s](%s)%s"):format(title, anchor(title), endings[ending])
end

--- A type as it is shown: `a` or `b`, with links to those of ours.
local function type_text(kind, api)
  local parts = {}
  for _, part in ipairs(annotations.alternatives(kind)) do
    parts[#parts + 1] = link(part, api) or "`" .. short(part):gsub("|", "\\|") .. "`"
  end
  return table.concat(parts, " or ")
end

--- The text without what it says of the default, and that.
local function split_default(text)
  local before, default, after = text:match "^(.-)%.?%s?[Dd]efault:? (.-)%. (.*)$"
  if not before then
    before, default = text:match "^(.-)%.?%s?[Dd]efault:? (.*)$"
  end
  if not before then return text, "" end
  if after and after ~= "" then before = before .. ". " .. after end
  return before, default
end

local function row(...)
  return "| " .. table.concat({ ... }, " | ") .. " |"
end

--- What is said of a field; of a module in a module, that one's first sentence.
local function text_of(field, api)
  local class = api.by_name[field.type]
  if field.text ~= "" or not class or class.name:find "%.%u" then return field.text end
  return (table.concat(class.text, " ") .. " "):match "^(.-)%.%s"
end

local function add_fields(out, class, api)
  if #class.fields == 0 then return end
  local has_default = false
  for _, field in ipairs(class.fields) do
    local _, default = split_default(field.text)
    has_default = has_default or default ~= ""
  end
  out[#out + 1] = has_default and "| key | type | default | |" or "| | type | |"
  out[#out + 1] = has_default and "|---|---|---|---|" or "|---|---|---|"
  for _, field in ipairs(class.fields) do
    local text, default = split_default(text_of(field, api))
    local name, kind = "`" .. field.name .. "`", type_text(field.type, api)
    if class.file:find "options" and not field.optional and name ~= "`[string]`" then
      default = "must be there"
    end
    out[#out + 1] = has_default and row(name, kind, default, text) or row(name, kind, text)
  end
  out[#out + 1] = ""
end

local function add_text(out, lines)
  for _, line in ipairs(lines) do
    out[#out + 1] = line
  end
  if #lines > 0 then out[#out + 1] = "" end
end

local function signature(class, one)
  local arguments = {}
  for i, param in ipairs(one.params) do
    arguments[i] = param.name .. (param.optional and "?" or "")
  end
  return variable_of(class) .. (one.is_method and ":" or ".") .. one.name .. "("
    .. table.concat(arguments, ", ") .. ")"
end

local function add_function(out, class, one, api)
  out[#out + 1] = "#### `" .. signature(class, one) .. "`\n"
  add_text(out, one.text)
  for _, param in ipairs(one.params) do
    out[#out + 1] = ("- `%s` %s%s"):format(param.name, type_text(param.type, api),
      param.text ~= "" and ": " .. param.text or "")
  end
  local returned = {}
  for i, value in ipairs(one.returns) do
    returned[i] = type_text(value.type, api)
  end
  if #returned > 0 then out[#out + 1] = "- returns " .. table.concat(returned, ", ") end
  for _, overload in ipairs(one.overloads) do
    out[#out + 1] = "- or `" .. short(overload) .. "`"
  end
  if #one.params + #returned > 0 then out[#out + 1] = "" end
end

local function add_class(out, class, api)
  out[#out + 1] = "### " .. title_of(class) .. "\n"
  add_text(out, class.text)
  for _, overload in ipairs(class.overloads) do
    out[#out + 1] = "Called: `" .. short(overload) .. "`\n"
  end
  add_fields(out, class, api)
  if class.parent then
    out[#out + 1] = "And the keys of " .. type_text(class.parent, api) .. ".\n"
  end
  for _, one in ipairs(class.functions) do
    add_function(out, class, one, api)
  end
end

local function add_aliases(out, api)
  out[#out + 1] = "## Types\n"
  for _, alias in ipairs(api.aliases) do
    out[#out + 1] = "### " .. short(alias.name) .. "\n"
    add_text(out, alias.text)
    out[#out + 1] = "`" .. short(alias.type) .. "`\n"
  end
end

local function add_contents(out, api)
  local function add(title, titles)
    for i, one in ipairs(titles) do
      titles[i] = ("[%s](%s)"):format(one, anchor(one))
    end
    out[#out + 1] = ("- [%s](%s): %s"):format(title, anchor(title), table.concat(titles, " · "))
  end
  for _, section in ipairs(sections) do
    local titles = {}
    for _, class in ipairs(api.classes) do
      if section.has(class) then titles[#titles + 1] = title_of(class) end
    end
    add(section.title, titles)
  end
  local titles = {}
  for i, alias in ipairs(api.aliases) do
    titles[i] = short(alias.name)
  end
  add("Types", titles)
  out[#out + 1] = ""
end

local head = [[
# The API of worker scripts

All that a script can call and say, made of the annotations under [lua/types](../lua/types) by
`make api-docs`. [scripts.md](scripts.md) is the guide. In annotations a type has `luaworker.`
before its name: `luaworker.Request`. A `?` marks what may be left out.
]]

--- The whole page.
function api_pages.text()
  local api = annotations.read()
  for _, alias in ipairs(api.aliases) do
    api.aliases[alias.name] = alias
  end
  local out = { head }
  add_contents(out, api)
  for _, section in ipairs(sections) do
    out[#out + 1] = "## " .. section.title .. "\n"
    for _, class in ipairs(api.classes) do
      if section.has(class) then add_class(out, class, api) end
    end
  end
  add_aliases(out, api)
  return (table.concat(out, "\n"):gsub("\n+$", "\n"))
end

return api_pages

-- SPDX-License-Identifier: MIT
-- `luaworker init NAME`: writes a worker to begin with (one of those that are shipped, as it is),
-- its tests, and the types of the API for editors. Never writes over a script unless asked to.
local base = require "luaworker.base"
local cli = require "luaworker.cli"

local C, span = base.C, base.span

local routes = { -- of each template, the one to try
  hello_world = "/generate", openai = "/v1/completions", image = "/sdapi/v1/txt2img",
}
local types = {
  "luaworker.lua", "luaworker/load.lua", "luaworker/testing.lua", "luaworker/words.lua",
  "objects.lua", "options.lua",
}
local editor_settings = [[
{
  "runtime.version": "LuaJIT",
  "workspace.library": [".luaworker"],
  "strict.arrayIndex": false
}
]]

local options = cli.parse(arg, {
  usage = "luaworker init",
  about = "Writes a worker to begin with: NAME.lua, NAME_test.lua and, for editors, .luarc.json\n"
    .. "and the types of the API in .luaworker/. NAME may name a directory, which is made.",
  operands = { "NAME" },
  { "from", "TEMPLATE", "hello_world (an LLM server), openai (servers of the OpenAI API) or image",
    default = "hello_world" },
  { "force", nil, "write over files that are there" },
})

local function usage_error(format, ...)
  cli.fail(2, format .. "\nTry: luaworker init --help", ...)
end

--- The directory (with its slash, or ""), and the name without .lua.
local function read_name()
  local directory, name = options[1]:match "^(.-)([^/]*)$"
  name = name:gsub("%.lua$", "")
  if not name:find "^[%a_][%w_-]*$" then
    usage_error("NAME is letters, digits, _ and -, as in mine or workers/mine.lua; got %q",
      options[1])
  elseif name == "luaworker" or name:find "_test$" or name:find "_spec$" then
    usage_error("%s.lua would be taken for %s: choose another name", name,
      name == "luaworker" and "the library" or "a file of tests")
  end
  return directory, name
end

local function check_template()
  if routes[options.from] then return end
  usage_error("no template %q; there are hello_world, openai and image%s", options.from,
    base.did_you_mean(options.from, routes))
end

--- A text carried in the binary; nil when there is none of that name.
local function embedded(name)
  if C.lw_api_embedded(name, span) == base.OK then return base.text(span) end
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function write(path, text)
  local file = cli.check(io.open(path, "wb"))
  local ok, err = file:write(text)
  if ok then
    ok, err = file:close()
  end
  if not ok then cli.fail(1, "%s: %s", path, err) end
end

local function make_directory(path)
  if path == "" or C.lw_api_make_directory(path) == base.OK then return end
  cli.fail(1, "%s: %s", path, base.last_error())
end

--- The worker and its tests: { path, text }, ...
local function scripts(directory, name)
  local template = options.from
  local list = { { directory .. name .. ".lua", embedded("@template/" .. template .. ".lua") } }
  local tests = embedded("@template/" .. template .. "_test.lua")
  if tests then
    tests = tests:gsub(template .. "%.lua", name .. ".lua")
    list[2] = { directory .. name .. "_test.lua", tests }
  end
  return list
end

local function refuse_to_overwrite(list)
  for _, one in ipairs(list) do
    if not options.force and read(one[1]) then
      cli.fail(1, "%s is there already; --force writes over it", one[1])
    end
  end
end

--- .luarc.json stays as it is when there is one; the types follow the binary.
local function write_for_editors(directory)
  local settings = directory .. ".luarc.json"
  if not read(settings) then write(settings, editor_settings) end
  make_directory(directory .. ".luaworker/luaworker")
  for _, name in ipairs(types) do
    local text, path = embedded("@types/" .. name), directory .. ".luaworker/" .. name
    if text and text ~= read(path) then write(path, text) end
  end
end

-- A path as a shell takes it.
local function quoted(path)
  if not path:find "[^%w_./-]" then return path end
  return "'" .. path:gsub("'", "'\\''") .. "'"
end

local function say_what_next(list, directory)
  local script, tests = list[1][1], list[2] and list[2][1]
  print(("wrote %s, a worker to change as you like (from %s)"):format(script, options.from))
  if tests then print("wrote " .. tests .. ", its tests") end
  print(("wrote %s.luarc.json and %s.luaworker/, by which editors know the API\n"):format(
    directory, directory))
  script, tests = quoted(script), tests and quoted(tests)
  print "What next:"
  print("  luaworker check " .. script)
  if tests then print("  luaworker test " .. tests) end
  print(("  luaworker dev %s    # model stand-in, autoscaler and worker; then elsewhere:"):format(
    script))
  print(("  luaworker call %s %s"):format(script, routes[options.from]))
  print("  luaworker serve " .. script .. "    # beside the real model, see serve --help")
end

check_template()
local directory, name = read_name()
local list = scripts(directory, name)
refuse_to_overwrite(list)
make_directory(directory)
for _, one in ipairs(list) do
  write(one[1], one[2])
end
write_for_editors(directory)
say_what_next(list, directory)

-- SPDX-License-Identifier: MIT
-- The annotations under lua/types and the library say the same: every function, field and key of a
-- table is on both sides, functions with as many parameters; and docs/api.md is made of them.
local check = require "check"
local worker = require "luaworker"
local annotations = require "tools.annotations"
local answer = require "luaworker.answer"
local http = require "luaworker.http"
local lines = require "luaworker.lines"
local model = require "luaworker.model"
local options = require "luaworker.options"
local request = require "luaworker.request"
local response = require "luaworker.response"
local schema = require "luaworker.schema"

local api = annotations.read()
local compared = {}

-- What is written of a class, its parents' fields with it: { name = field or function }.
local function written(name, with_parents)
  local class, all = api.by_name[name], {}
  if not class then
    check.ok(false, name .. " has no annotations")
    return all
  end
  compared[name] = true
  repeat
    for _, list in ipairs { class.fields, class.functions } do
      for _, one in ipairs(list) do
        check.ok(not all[one.name], name .. "." .. one.name .. " is written once")
        all[one.name] = one
      end
    end
    class = with_parents and class.parent and api.by_name[class.parent]
    if class then compared[class.name] = true end
  until not class
  return all
end

local function count_parameters(name, one, f, is_method)
  local info = debug.getinfo(f, "u")
  local real = info.nparams - (is_method and 1 or 0)
  if info.isvararg then
    return check.ok(#one.arguments >= real, name .. ": takes " .. real .. " and more")
  end
  check.eq(#one.arguments, real, name .. ": parameters")
end

local function check_function(name, one, f)
  check.ok(one.arguments, name .. " is annotated as a function")
  if not one.arguments then return end
  count_parameters(name, one, f, one.is_method)
  check.eq(#one.params, #one.arguments, name .. ": each parameter has its @param")
  for i, param in ipairs(one.params) do
    check.eq(param.name, one.arguments[i], name .. ": @param")
  end
end

--- Names on both sides; `real` maps them to anything, functions are looked at.
local function compare(name, real, with_parents)
  local all = written(name, with_parents)
  for key, value in pairs(real) do
    local one = all[key]
    check.ok(one, name .. "." .. key .. " has no annotation under lua/types")
    if one and type(value) == "function" then check_function(name .. "." .. key, one, value) end
  end
  for key in pairs(all) do
    check.ok(real[key] ~= nil, name .. "." .. key .. " is annotated, but the library has none")
  end
end

local function names(...)
  local set = {}
  for _, name in ipairs { ... } do
    set[name] = true
  end
  return set
end

--- Of several tables; of their keys those that are the author's.
local function together(...)
  local all = {}
  for _, t in ipairs { ... } do
    for key, value in pairs(t) do
      if key:sub(1, 1) ~= "_" then all[key] = value end
    end
  end
  return all
end

--- The getters of a class are its fields.
local function as_fields(getters)
  local fields = {}
  for name in pairs(getters) do
    fields[name] = true
  end
  return fields
end

do -- modules
  compare("luaworker", worker)
  for _, name in ipairs { "json", "model", "http", "log", "base64", "file" } do
    compare("luaworker." .. name, worker[name])
  end
  for _, name in ipairs { "words" } do
    compare("luaworker." .. name, require("luaworker." .. name))
  end
  local called = api.by_name["luaworker.json"].overloads[1]
  check.has(called, "fun(value: any, status?: integer)", "worker.json is called")
  check.eq(getmetatable(worker.json).__call(nil, 1, 201).status, 201)
end

do -- objects
  compare("luaworker.Request", together(request.methods, as_fields(request.getters)))
  local server = http.serve {
    routes = { worker.get("/", function()
      local stream = worker.stream()
      stream.headers = {}
      compare("luaworker.Stream", together(as_fields(stream), response.Stream))
      return stream
    end) },
  }
  local got = assert(http.get(("http://127.0.0.1:%d/"):format(server.port)))
  compare("luaworker.ModelResponse",
    together(as_fields(got), answer.methods, as_fields(answer.getters)))
  check.eq(got.status, 200)
  compare("luaworker.Server", server)
  compare("luaworker.Response", together(worker.response { body = "", headers = {},
    content_type = "" }, worker.json(1)))
  compare("luaworker.Invalid", worker.invalid "no")
  local pieces = { "id: 1\ndata: x\n\n" }
  for event in lines.events(function() return table.remove(pieces) end, nil) do
    compare("luaworker.Event", event)
  end
end

do -- tables that are checked by rules
  for name, rule in pairs {
    BackendOptions = options.rules.backend, RouteOptions = options.rules.work,
    ForwardOptions = options.rules.forward, BenchmarkOptions = options.rules.benchmark,
    LogActions = options.rules.log_actions, CallOptions = model.rules.options,
    Timeouts = model.rules.timeout, ResponseOptions = response.rules.response,
    StreamOptions = response.rules.stream,
  } do
    compare("luaworker." .. name, as_fields(schema.fields(rule)), true)
  end
  local shared = { on_disconnect = true }
  for _, name in ipairs(options.shared) do
    shared[name] = true
  end
  compare("luaworker.SharedOptions", shared, true)
end

-- The names that a file of the library takes from a table: those behind this pattern.
local function names_in(path, pattern)
  local file = assert(io.open("lua/luaworker/" .. path))
  local text = file:read "*a"
  file:close()
  local set = {}
  for name in text:gmatch(pattern) do
    set[name] = true
  end
  return set
end

do -- tables without rules: what the library reads of them
  compare("luaworker.FileOptions", names_in("file.lua", "opts%.([%a_]+)"))
  local listen = names_in("backend.lua", "opts%.(host)[^%a_]")
  compare("luaworker.ServeOptions", together(listen, names_in("backend.lua", "opts%.(port)[^%a_]"),
    names_in("backend.lua", "opts%.(routes)[^%a_]")))
  compare("luaworker.HttpRequest", together(as_fields(schema.fields(model.rules.options)),
    names_in("http.lua", "opts%.(url)")), true)
  local class = names_in("backend.lua", "class%.([%a_]+)")
  local for_test = names_in("options.lua", 'rawget%(class, "([%a_]+)"')
  compare("luaworker.Payload", together(class, for_test))
  compare("luaworker.PayloadFields", together(names_in("shape.lua", 'name == "(extra)"'),
    names "[string]"))
end

do -- nothing promised but the name
  for _, name in ipairs { "Backend", "Route", "Forward", "Null" } do
    compare("luaworker." .. name, {})
  end
end

do -- all classes were compared, and each type that is named is there
  local known = {}
  for _, class in ipairs(api.classes) do
    check.ok(compared[class.name], class.name .. " is compared with nothing")
    known[class.name] = true
  end
  for _, alias in ipairs(api.aliases) do
    known[alias.name] = true
  end
  local function check_type(where, text)
    for name in text:gmatch "luaworker[%w_.]*" do
      check.ok(known[name], where .. ": no type " .. name)
    end
  end
  for _, class in ipairs(api.classes) do
    for _, one in ipairs(class.fields) do
      check_type(class.name .. "." .. one.name, one.type)
    end
    for _, one in ipairs(class.functions) do
      for _, list in ipairs { one.params, one.returns } do
        for _, value in ipairs(list) do
          check_type(class.name .. "." .. one.name, value.type)
        end
      end
    end
  end
  for _, alias in ipairs(api.aliases) do
    check_type(alias.name, alias.type)
  end
end

do -- the page is what the generator prints
  local file = io.open "docs/api.md"
  local page = file and file:read "*a"
  check.ok(page == require("tools.api_pages").text(), "docs/api.md is old: make api-docs")
end

check.done()

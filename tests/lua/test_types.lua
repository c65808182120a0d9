-- SPDX-License-Identifier: MIT
-- The annotations under lua/types and the library say the same: every function, field and key of a
-- table is on both sides, functions with as many parameters; and docs/api.md is made of them. What
-- tests see is compared by testing_types_test.lua.
local check = require "check"
local worker = require "luaworker"
local annotated = require "tests.lua.annotated"
local answer = require "luaworker.answer"
local http = require "luaworker.http"
local lines = require "luaworker.lines"
local model = require "luaworker.model"
local options = require "luaworker.options"
local request = require "luaworker.request"
local response = require "luaworker.response"
local schema = require "luaworker.schema"

local as_fields, names_in = annotated.as_fields, annotated.names_in
local comparison = annotated.new(check.ok)

local function compare(name, ...)
  comparison:compare("luaworker" .. name, ...)
end

local function together(...)
  return annotated.together { ... }
end

do -- modules
  compare("", worker)
  for _, name in ipairs { "json", "model", "http", "log", "base64", "file" } do
    compare("." .. name, worker[name])
  end
  compare(".words", require "luaworker.words")
  compare(".load", require "luaworker.load")
  local called = comparison.api.by_name["luaworker.json"].overloads[1]
  check.has(called, "fun(value: any, status?: integer)", "worker.json is called")
  check.eq(worker.json(1, 201).status, 201)
end

do -- objects
  compare(".Request", together(request.methods, as_fields(request.getters)))
  local server = http.serve {
    routes = { worker.get("/", function()
      local stream = worker.stream()
      stream.headers = {}
      compare(".Stream", together(as_fields(stream), response.Stream))
      return stream
    end) },
  }
  local got = assert(http.get(("http://127.0.0.1:%d/"):format(server.port)))
  compare(".ModelResponse", together(as_fields(got), answer.methods, as_fields(answer.getters)))
  check.eq(got.status, 200)
  compare(".Server", server)
  compare(".Response", together(worker.response { body = "", headers = {}, content_type = "" },
    worker.json(1)))
  compare(".Invalid", worker.invalid "no")
  local pieces = { "id: 1\ndata: x\n\n" }
  for event in lines.events(function() return table.remove(pieces) end, nil) do
    compare(".Event", event)
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
    compare("." .. name, as_fields(schema.fields(rule)), true)
  end
  local shared = annotated.names("on_disconnect", unpack(options.shared))
  compare(".SharedOptions", shared, true)
end

do -- tables without rules: what the library reads of them
  compare(".FileOptions", names_in("file.lua", "opts%.([%a_]+)"))
  compare(".ServeOptions", names_in("backend.lua", "opts%.([%a_]+)",
    "\nfunction backend%.listen(.-)\nend\n"))
  compare(".HttpRequest", together(as_fields(schema.fields(model.rules.options)),
    names_in("http.lua", "opts%.(url)")), true)
  compare(".Payload", together(names_in("backend.lua", "class%.([%a_]+)"),
    names_in("options.lua", 'rawget%(class, "([%a_]+)"')))
  compare(".PayloadFields", together(names_in("shape.lua", 'name == "(extra)"'),
    annotated.names "[string]"))
end

do -- the flags of load tests, but for --quiet: it shows no progress
  local settings = annotated.names("script", "route")
  for name in pairs(names_in("load_options.lua", '\n  { "([%a-]+)", ')) do
    settings[name:gsub("-", "_")] = true
  end
  settings.quiet = nil
  compare(".LoadSettings", settings)
end

do -- nothing promised but the name
  for _, name in ipairs { "Backend", "Route", "Forward", "Null" } do
    compare("." .. name, {})
  end
end

do -- all of them, and each type that is named is there
  for _, class in ipairs(comparison.api.classes) do
    local is_of_tests = class.file:find "testing"
    check.ok(comparison.compared[class.name] or is_of_tests, class.name .. " is compared")
  end
  comparison:check_types()
end

do -- the page is what the generator prints
  local file = io.open "docs/api.md"
  local page = file and file:read "*a"
  check.ok(page == require("tools.api_pages").text(), "docs/api.md is new: make api-docs")
end

check.done()

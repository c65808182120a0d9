-- SPDX-License-Identifier: MIT
-- The annotations of luaworker.testing and that module say the same, as test_types.lua says it of
-- all others. Run by `luaworker test`, for there is no such module elsewhere.
local testing = require "luaworker.testing"
local annotated = require "tests.lua.annotated"
local it, expect = testing.it, testing.expect

local as_fields, names_in = annotated.as_fields, annotated.names_in
local wrong, count = {}, 0
local comparison = annotated.new(function(ok, text)
  count = count + 1
  if not ok then wrong[#wrong + 1] = text end
end)

local function compare(name, ...)
  wrong, count = {}, 0
  comparison:compare("luaworker." .. name, ...)
  expect(wrong):to_equal {}
  expect(count):to_be_above(0)
end

local function methods_of(object)
  return getmetatable(object).__index
end

local function together(tables, ...)
  return annotated.together(tables, annotated.names(...))
end

local app = testing.load("workers/hello_world.lua", { model = { json = {} } })
local payload = { prompt = "a", max_response_tokens = 1 }

it("annotates luaworker.testing", function()
  compare("testing", testing)
  compare("testing.clock", testing.clock)
  compare("TestWord", testing.it)
  compare("TestWord", testing.describe)
end)

it("annotates what expect returns", function()
  local matchers = names_in("testing_expect.lua", "function matchers%.([%a_]+)")
  for name in pairs(matchers) do
    expect(expect(1)[name]):to_be_a "function"
  end
  matchers.never = true
  compare("Expectation", matchers)
end)

it("annotates an app", function()
  local inside = { "instance", "sessions", "COST", "model" }
  compare("App", together({ as_fields(app), methods_of(app) }, unpack(inside)))
  local session = app:open_session()
  compare("AppSession", together({ as_fields(session), methods_of(session) }, "exchanges",
    "is_closed"))
  compare("BenchmarkPayload", app:benchmark_payload())
end)

it("annotates an answer", function()
  local answer = app:post("/generate", payload)
  local failed = app:post("/generate", payload, { model = { refuses = true } })
  compare("AppAnswer", together { as_fields(answer), as_fields(failed), methods_of(answer) })
  compare("LogLine", names_in("testing_log.lua", "([%a_]+) =", "local line = (%b{})"))
end)

it("annotates a fake server", function()
  local model = testing.model { json = {} }
  app:post("/generate", payload, { model = model })
  compare("FakeServer", together({ as_fields(model), methods_of(model) }, "take"))
  expect(model:last().json):to_equal(payload)
  compare("FakeRequest", as_fields(model:last()))
end)

it("annotates each table that is given", function()
  local function keys_of(file, shape)
    return names_in(file, "([%a_]+) = sc?h?e?", "local " .. shape .. " = schema%.record (%b{})")
  end
  compare("LoadOptions", keys_of("testing_app.lua", "load_shape"))
  compare("AppRequest", keys_of("testing_app.lua", "request_shape"))
  compare("FakeAnswer", names_in("testing_server.lua", "\n?[{ ,]([%a_]+) = [sw]",
    "local answer_shape = schema%.record (%b{})"))
  compare("StartOptions", names_in("testing_app.lua", "opts%.([%a_]+)",
    "\nfunction App:start(.-)\nend\n"))
end)

it("annotates all of it", function()
  for _, class in ipairs(comparison.api.classes) do
    if class.file:find "testing" and not comparison.compared[class.name] then
      expect(class.name .. " is compared"):to_equal(true)
    end
  end
end)

-- SPDX-License-Identifier: MIT
-- What the calls of a benchmark carry: payloads from where the route says, made into the model's
-- body and counted by the hooks that its requests go through. A failing hook raises a failure that
-- names it. Called by benchmark.lua.
local base = require "luaworker.base"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local payload = require "luaworker.payload"
local route = require "luaworker.route"

local sample = {}

-- Raises a failure with .hook, .f, .why and, for an error, .caught: this hook is to blame.
local function blame(name, f, why, caught)
  local text = "hook " .. route.place_of_hook(name, f) .. ": " .. why
  local raised = failure.new(500, "script", text)
  raised.hook, raised.f, raised.why, raised.caught = name, f, why, caught
  error(raised, 0)
end

local function call_hook(name, f, ...)
  local ok, value = xpcall(f, failure.catch, ...)
  if ok then return value end
  value = failure.settle(value)
  if failure.is_ending(value) then error(value, 0) end
  blame(name, f, failure.text_of(value), not failure.is_failure(value) and value or nil)
end

local function cycle(list)
  local i = 0
  return function()
    i = i % #list + 1
    return payload.copy(list[i]) -- the hooks may change what they get
  end
end

--- Where a route's payloads come from: { name of the hook, function that returns the next one };
--- nil when it has none.
function sample.source_of(opts)
  local spec, class = opts.benchmark or {}, opts.payload
  if spec.generator then return { "generator", spec.generator } end
  if spec.dataset then return { "dataset", cycle(spec.dataset) } end
  if opts.make_benchmark_payload then
    return { "make_benchmark_payload", opts.make_benchmark_payload }
  end
  local for_test = class and class.for_test
  return for_test and { "for_test", for_test }
end

-- As the hooks of requests see theirs. An instance of the route's class is taken as it is, any
-- other table as what a client sends.
local function make_payload(class, entry, source)
  local name, f = source[1], source[2]
  local message = call_hook(name, f)
  if payload.is_instance(class, message) then return message end
  if type(message) ~= "table" then
    blame(name, f, "expected a payload, got " .. base.show(message))
  end
  if entry.request_parser then
    message = call_hook("request_parser", entry.request_parser, message)
  end
  if entry.from_json_msg and not failure.is_invalid(message) then
    message = call_hook("from_json_msg", entry.from_json_msg, message)
  end
  if failure.is_invalid(message) then blame(name, f, tostring(message)) end
  if message == nil then blame(name, f, "what parses requests made no payload of it") end
  return message
end

-- What requests are forgiven (they count 100) is blamed here.
local function count_strictly(entry, message)
  local f = entry.count_workload
  local workload = call_hook("count_workload", f, message)
  if type(workload) == "number" and workload >= 0 and workload < math.huge then return workload end
  blame("count_workload", f, "expected a number of at least 0, got " .. base.show(workload))
end

local function encode(value, strict)
  if type(value) == "string" then
    local _, wrong = json.decode(strict and value or "0")
    if wrong then error("returned a text that is not JSON: " .. wrong, 0) end
    return value
  end
  if type(value) ~= "table" then
    error("returned " .. base.show(value) .. ", expected a table or JSON text", 0)
  end
  return json.encode(value)
end

local function same(value)
  return value
end

--- The next one: { payload, body (nil for `remote`), workload }. strict: the workload must be one,
--- and the body JSON.
function sample.make(class, entry, source, strict)
  local one = { payload = make_payload(class, entry, source), workload = entry.workload }
  if entry.count_workload then
    one.workload = (strict and count_strictly or route.count_workload)(entry, one.payload)
  end
  if entry.remote then return one end
  local generate = entry.generate_payload_json or same
  local value = call_hook("generate_payload_json", generate, one.payload)
  local ok, body = pcall(encode, value, strict)
  if not ok then body = failure.settle(body) end
  if not ok then blame("generate_payload_json", generate, failure.text_of(body)) end
  one.body = body
  return one
end

return sample

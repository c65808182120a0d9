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

-- Raises a failure: this hook is to blame.
local function blame(name, f, why)
  error(failure.new(500, "script", "hook " .. route.place_of_hook(name, f) .. ": " .. why), 0)
end

local function call_hook(name, f, ...)
  local ok, value = xpcall(f, failure.catch, ...)
  if ok then return value end
  if failure.is_ending(value) then error(value, 0) end
  if not failure.is_failure(value) then
    failure.report(base.C.LW_FAILED_JOB, nil, "benchmark", f, value)
  end
  blame(name, f, failure.text_of(value))
end

local function cycle(list)
  local i = 0
  return function()
    i = i % #list + 1
    return payload.copy(list[i]) -- the hooks may change what they get
  end
end

--- Where a route's payloads come from: { name of the hook, function that returns the next one }.
function sample.source_of(opts)
  local spec = opts.benchmark
  if spec.generator then return { "generator", spec.generator } end
  if spec.dataset then return { "dataset", cycle(spec.dataset) } end
  if opts.make_benchmark_payload then
    return { "make_benchmark_payload", opts.make_benchmark_payload }
  end
  return { "for_test", opts.payload.for_test }
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

local function encode(value)
  if type(value) == "string" then return value end
  if type(value) ~= "table" then
    error("returned " .. base.show(value) .. ", expected a table or JSON text", 0)
  end
  return json.encode(value)
end

local function same(value)
  return value
end

--- The next one: { payload, body (nil for `remote`), workload }.
function sample.make(class, entry, source)
  local one = { payload = make_payload(class, entry, source), workload = entry.workload }
  if entry.count_workload then one.workload = route.count_workload(entry, one.payload) end
  if entry.remote then return one end
  local generate = entry.generate_payload_json or same
  local value = call_hook("generate_payload_json", generate, one.payload)
  local ok, body = pcall(encode, value)
  if not ok then blame("generate_payload_json", generate, tostring(body)) end
  one.body = body
  return one
end

return sample

-- SPDX-License-Identifier: MIT
-- What a client of a worker script would send: payloads of one of its routes, from the script's own
-- samples or given, with the workload that the script counts. Called by `luaworker call` and load.
local base = require "luaworker.base"
local backend = require "luaworker.backend"
local check = require "luaworker.check"
local failure = require "luaworker.failure"
local file = require "luaworker.file"
local json = require "luaworker.json"
local payload = require "luaworker.payload"
local random = require "luaworker.random"
local route = require "luaworker.route"
local sample = require "luaworker.sample"
local text = require "luaworker.load_text"
local words = require "luaworker.words"

local client_payloads = {}

--- What the script gave to worker.backend, or nil and its mistakes. Runs it, offers nothing.
local function read_script(script)
  local source, err = file.read(script)
  if not source then return nil, err end
  local report = check.script(script, source, { model_url = "http://unused" })
  if report.list.errors > 0 then return nil, report.list:errors_text() end
  return report.value.opts
end

--- The script's POST route at `path`, or nil and those that there are.
local function find_route(definition, script, path)
  local known = {}
  for _, one in ipairs(definition.routes) do
    if backend.is_work(one) then
      if one.path == path then return one end
      known[#known + 1] = one.path
    end
  end
  local has = #known > 0 and "it has " .. table.concat(known, ", ") or "it has none"
  return nil, ("%s has no POST route %s; %s"):format(script, path, has)
end

local Payloads = {}
Payloads.__index = Payloads

-- As the hooks of requests would have it; or nil and why the script refuses it.
local function parse(self, message)
  local entry, value = self.entry, message
  if payload.is_instance(self.opts.payload, message) then return message end
  if entry.request_parser then value = entry.request_parser(value) end
  if entry.from_json_msg and not failure.is_invalid(value) then
    value = entry.from_json_msg(value)
  end
  if failure.is_invalid(value) then return nil, tostring(value) end
  return value
end

-- pcall of a script's hook, with one line for what failed; what ends the task goes on.
local function attempt(hook, ...)
  local ok, value, more = xpcall(hook, failure.catch, ...)
  if ok then return true, value, more end
  if failure.is_ending(value) then error(value, 0) end
  return false, failure.text_of(failure.settle(value))
end

local function complain(self, why)
  self.complaint = self.complaint or ("%s: %s; sent all the same, with a workload of %g"):format(
    self.script, text.plain(why, 300), self.entry.workload)
end

-- Counted as a request's would be; what can't be counted has the usual workload, as there.
local function workload_of(self, message)
  local entry = self.entry
  local ok, value, why = attempt(parse, self, message)
  if not ok or value == nil then
    complain(self, not ok and value or why or "what parses requests made no payload of it")
    return entry.workload
  end
  if not entry.count_workload then return entry.workload end
  local counted, workload = attempt(entry.count_workload, value)
  if counted and route.is_workload(workload) then return workload end
  complain(self, "count_workload: " .. (not counted and workload
    or "expected a number of at least 0, got " .. base.show(workload)))
  return entry.workload
end

local function with_stream(message)
  local out = payload.copy(message)
  out.stream = true
  return out
end

--- One payload: { json = its text, workload, model_body = what the model would get, if asked for }.
--- is_stream: it asks for a stream by `"stream": true`. Raises when a hook of the script fails.
function Payloads:make(is_stream, for_model)
  local message = self.given and payload.copy(self.given) or self.source[2]()
  if is_stream then message = with_stream(message) end
  local one = { json = json.encode(message), workload = workload_of(self, message) }
  if for_model then
    local source = { "payload", function() return message end }
    one.model_body = sample.make(self.opts.payload, self.entry, source).body
  end
  return one
end

--- Reads the script and finds its route. given: a decoded payload to send, or nil for the script's
--- samples. Returns an object with :make(), .is_bare (no envelope), .model_path, .has_model_body (a
--- model is asked with what the payload becomes) and, after :make(), .complaint (what the script
--- has against a payload that it made, nil: nothing); or nil and why.
function client_payloads.open(script, path, given)
  local definition, err = read_script(script)
  if not definition then return nil, err end
  local one, unknown = find_route(definition, script, path)
  if not one then return nil, unknown end
  local opts, entry = backend.work_of(one, definition)
  local source = sample.source_of(opts)
  if not given and not source then
    return nil, ("%s has no sample payload for %s (for_test); give one"):format(script, path)
  end
  return setmetatable({
    script = script, opts = opts, entry = entry, given = given, source = source,
    is_bare = opts.envelope == false, model_path = opts.endpoint or path,
    has_model_body = not entry.remote,
  }, Payloads)
end

--- From now on samples that are drawn by chance are drawn alike for the same seed.
function client_payloads.seed(seed)
  math.randomseed(random.source(seed)() * 2 ^ 31)
  words.seed(seed)
end

--- What an endpoint is called that serves this script, unless one is told.
function client_payloads.endpoint_of(script)
  return (script:match("[^/]*$"):gsub("%.lua$", ""))
end

--- A payload from the command line: JSON, or @ and the file that holds it. Nil and why not.
function client_payloads.parse(given)
  if given:sub(1, 1) == "@" then
    local path = given:sub(2)
    local handle, err = io.open(path, "rb") -- may well be a pipe
    if not handle then return nil, err end
    given, err = handle:read "*a"
    handle:close()
    if not given then return nil, path .. ": " .. err end
  end
  local value, err = json.decode(given)
  if type(value) == "table" and not json.is_array(value) then return value end
  return nil, "not a JSON object: " .. (err or text.plain(given, 60))
end

return client_payloads

-- SPDX-License-Identifier: MIT
-- A worker script as a test sees it: loaded into an instance of its own, asked by fake clients.
-- Each asking waits, by the clock of the tests, until the request and what serves it are over.
local answer = require "luaworker.testing_answer"
local base = require "luaworker.base"
local call = require "luaworker.testing_call"
local exchange = require "luaworker.testing_exchange"
local instance = require "luaworker.testing_instance"
local json = require "luaworker.json"
local kernel = require "luaworker.testing_kernel"
local router = require "luaworker.testing_router"
local schema = require "luaworker.schema"
local server = require "luaworker.testing_server"
require "luaworker.testing_client"
require "luaworker.testing_reading"

local app = {}

local App = { COST = 100 }
App.__index = App

local load_shape = schema.record {
  env = schema.table, model = schema.any, model_url = schema.text,
}
local request_shape = schema.record {
  method = schema.text, path = schema.text, query = schema.any, headers = schema.table,
  payload = schema.any, json = schema.any, body = schema.bytes, model = schema.any,
  session = schema.table, leave_at = schema.number { min = 0 },
  leave_after = schema.number { integer = true, min = 1 },
}

local function check(shape, opts, what, level)
  local mistake = schema.first_mistake(shape, opts)
  if mistake then error(what .. ": " .. mistake, level + 1) end
end

-- Loading --

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

--- A file beside the test's, or by its path from the current directory.
local function find_script(directory, path)
  local beside = path:sub(1, 1) == "/" and path or (directory .. path):gsub("^%./", "")
  for _, one in ipairs { beside, path } do
    local text = read_file(one)
    if text then return one, text end
  end
  error(("testing.load: no file %s, and none %s"):format(beside, path), 3)
end

--- For testing.load. directory: of the test file, with its slash.
function app.load(directory, path, opts)
  opts = opts or {}
  if type(path) ~= "string" then
    error("testing.load: expected a path, got " .. base.show(path), 3)
  end
  check(load_shape, opts, "testing.load", 3)
  local found, text = find_script(directory, path)
  local owner = instance.new(opts.env or {})
  owner.model_url = opts.model_url
  local ok, err = pcall(instance.within, owner, owner.load, found, text, "serve")
  if not ok then error(err, 0) end
  local self = setmetatable({ instance = owner, path = found, sessions = {} }, App)
  owner.app = self
  if opts.model ~= nil then self.model = server.new(opts.model, "testing.load: model") end
  return self
end

-- Whose model answers a call: its request's, that of the task, the app's.
function call.model_of(one)
  local owner = one.exchange and one.exchange.app.instance or kernel.instance
  local it = owner and owner.app
  if not it then return nil end
  local task = kernel.current
  local model = one.exchange and one.exchange.model or task and task.model or it.model
  return owner.router.model_url, model
end

-- Asking --

local function encode_component(text)
  return (tostring(text):gsub("[^%w%-_.~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function query_text(query)
  if type(query) ~= "table" then return query and tostring(query) or "" end
  local parts = {}
  for i, name in ipairs(schema.sorted_keys(query)) do
    parts[i] = encode_component(name) .. "=" .. encode_component(query[name])
  end
  return table.concat(parts, "&")
end

local function as_json(value)
  if type(value) == "string" then return value end
  return json.encode(value)
end

-- The envelope that a client of the autoscaler's sends; its signature is not the script's affair.
local function envelope_of(one)
  local auth = ('{"cost":"%d","endpoint":%s,"reqnum":1,"request_idx":1,"signature":"","url":""}')
    :format(App.COST, json.encode(one.path))
  local session = one.session and ',"session_id":' .. json.encode(one.session.id) or ""
  return ('{"auth_data":%s,"payload":%s%s}'):format(auth, one.payload, session)
end

local function set_body(one, opts)
  local value = opts.payload
  if value == nil then value = opts.json end
  if one.route.kind == "work" then
    if value == nil and opts.body == nil then value = json.object {} end
    one.payload = value ~= nil and as_json(value) or opts.body
    one.body = one.route.is_bare and one.payload or envelope_of(one)
  else
    one.body = value ~= nil and as_json(value) or opts.body or ""
  end
  local has_json = one.route.kind == "work" or value ~= nil
  if has_json and not server.field(one.fields, "content-type") then
    table.insert(one.fields, { "Content-Type", "application/json" })
  end
  if one.body ~= "" then table.insert(one.fields, { "Content-Length", tostring(#one.body) }) end
end

local function new_exchange(self, opts)
  local path, query = opts.path:match "^([^?]*)%??(.*)$"
  local route = router.find(self.instance.router, opts.method, path)
  if not route then
    error(("%s has no route %s %s; it has %s"):format(self.path, opts.method, path,
      router.list(self.instance.router)), 4)
  end
  local fields = server.fields(opts.headers)
  if not server.field(fields, "host") then table.insert(fields, 1, { "Host", "worker.test" }) end
  local one = {
    app = self, route = route, method = opts.method, path = path, fields = fields,
    query = opts.query and query_text(opts.query) or query, session = opts.session,
    leave_after = opts.leave_after,
  }
  if opts.model ~= nil then one.model = server.new(opts.model, "model") end
  set_body(one, opts)
  return exchange.new(one)
end

local function ask(self, opts)
  local begun, what = kernel.time, opts.method .. " " .. tostring(opts.path)
  if not kernel.current then error("this waits: it belongs in a test, a hook or a describe", 3) end
  check(request_shape, opts, what, 3)
  if not opts.path then error("app:request: path: missing", 3) end
  local one = new_exchange(self, opts)
  one.waiter = kernel.current
  local timer = opts.leave_at and kernel.after(opts.leave_at, function() one:leave() end)
  instance.within(self.instance, one.begin, one)
  kernel.wait_until(function() return one.settled end, what, 4)
  kernel.stop_timer(timer)
  return answer.of(one, begun)
end

local function with(method, path, opts, payload)
  local all = { method = method, path = path, payload = payload }
  for key, value in pairs(opts or {}) do
    all[key] = value
  end
  return all
end

--- app:request { method, path, query, headers, payload or json or body, model, session,
--- leave_after, leave_at }: the answer.
function App:request(opts)
  if type(opts) ~= "table" then
    error("app:request: expected table, got " .. base.show(opts), 2)
  end
  local got = ask(self, with(opts.method or "GET", opts.path, opts))
  return got
end

function App:get(path, opts)
  local got = ask(self, with("GET", path, opts))
  return got
end

--- payload: a table, or JSON text to be sent as it is.
function App:post(path, payload, opts)
  local got = ask(self, with("POST", path, opts, payload))
  return got
end

-- Sessions --

local Session = {}
Session.__index = Session
local last_session = 0

--- A session, to be given with requests: { id }, and close().
function App:open_session() -- luacheck: ignore 212
  last_session = last_session + 1
  return setmetatable({ id = ("session-%d"):format(last_session), exchanges = {} }, Session)
end

function Session:close()
  self.is_closed = true
  for one in pairs(self.exchanges) do
    one:drop()
  end
end

-- The script's own jobs --

local function run_job(self, number, model, what)
  local ended
  local me = kernel.current
  if not me then error("this waits: it belongs in a test, a hook or a describe", 3) end
  local task = kernel.start {
    instance = self.instance, job = number, model = model,
    on_end = function()
      ended = true
      kernel.wake(me)
    end,
  }
  kernel.wait_until(function() return ended end, what)
  return task
end

--- Runs the script's start(): true, or nil and why it failed. opts: model.
function App:start(opts)
  opts = opts or {}
  local number = self.instance.router.numbers.start_job
  if not number then error(self.path .. " has no start()", 2) end
  local model = opts.model and server.new(opts.model, "model")
  local task = run_job(self, number, model, "start()")
  if task.error then return nil, task.error end
  return true
end

--- What one call of the script's benchmark carries: { payload, body, workload }.
function App:benchmark_payload()
  local number, made = self.instance.router.numbers.benchmark_job, nil
  if not number then error(self.path .. " has no benchmark that measures", 2) end
  self.instance.loaded["luaworker.benchmark"] = {
    run = function(_, opts, entry)
      local sample = require "luaworker.sample"
      made = sample.make(opts.payload, entry, sample.source_of(opts))
      return 1
    end,
  }
  local task = run_job(self, number, nil, "benchmark_payload()")
  if not made then error(task.error or "the benchmark's payload was not made", 2) end
  return made
end

return app

-- SPDX-License-Identifier: MIT
-- What a handler answers: worker.response, worker.json, worker.stream, and how each kind of
-- returned value becomes an answer on the wire.
local base = require "luaworker.base"
local await = require "luaworker.await"
local answer = require "luaworker.answer"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local schema = require "luaworker.schema"
local buffer = require "string.buffer"

local C = base.C
local OK, AGAIN, PROTOCOL = base.OK, base.AGAIN, base.PROTOCOL
local wait, current = await.wait, await.current
local response_write = C.lw_api_response_write -- looked up once: see answer.lua

local PLAIN_TEXT = "text/plain; charset=utf-8"

local response = {}

local status_rule = schema.number { integer = true, min = 200, max = 599 }
local stream_shape = schema.record {
  status = status_rule, headers = schema.any, content_type = schema.string,
}
local response_shape = schema.record {
  status = status_rule, headers = schema.any, content_type = schema.string, body = schema.bytes,
}

response.rules = { response = response_shape, stream = stream_shape }

local Response = {}

-- A response is { status, headers, content_type, body or value }; a value is encoded when it is
-- sent.

local function check_options(shape, opts, name)
  local mistake = schema.first_mistake(shape, opts)
  if mistake then error(name .. ": " .. mistake, 3) end
end

--- worker.response { status = 200, headers, content_type, body }
function response.new(opts)
  check_options(response_shape, opts, "worker.response")
  return setmetatable({
    status = opts.status or 200, headers = opts.headers, content_type = opts.content_type,
    body = opts.body or "", _has_default_type = opts.body ~= nil,
  }, Response)
end

--- worker.json(value, status): value as a JSON answer.
function response.json(value, status)
  if value == nil then error("worker.json: no value; worker.json.null is JSON's null", 2) end
  if status ~= nil then
    status_rule(status, "", function(_, text) error("worker.json: status: " .. text, 4) end)
  end
  return setmetatable({
    status = status or 200, value = value, content_type = "application/json",
  }, Response)
end

local function check(code, what)
  if code == OK then return end
  await.check_cancel(code)
  error(what .. ": " .. base.code_name(code), 0)
end

local function put_header(r, name, value)
  if type(value) == "table" then
    for _, one in ipairs(value) do
      put_header(r, name, one)
    end
    return
  end
  value = tostring(value)
  local code = C.lw_api_response_header(r, name, #name, value, #value)
  if code == PROTOCOL then error("the header field " .. base.show(name) .. " is not legal", 0) end
  check(code, "response header")
end

local function start(r, self, content_type)
  check(C.lw_api_response_start(r, self.status), "the answer can't begin")
  local headers = self.headers
  if headers then
    for name, value in pairs(headers) do
      name = tostring(name)
      if content_type and #name == 12 and name:lower() == "content-type" then content_type = nil end
      put_header(r, name, value)
    end
  end
  if content_type then put_header(r, "Content-Type", content_type) end
end

-- The hooks that answer.
local answers = { handler = true, remote = true, generate_client_response = true }

local Stream = {}
Stream.__index = Stream
response.Stream = Stream -- its methods

-- A stream that nobody reads: a `remote` function streams into it while it is measured.
local Dropped = {}
Dropped.__index = Dropped
function Dropped:write() end   -- luacheck: ignore 212
function Dropped:finish() end  -- luacheck: ignore 212

local function request_of(self)
  local is_stream = type(self) == "table" and getmetatable(self) == Stream
  local handles = is_stream and rawget(self, "_handles")
  if not handles then error("expected a stream, got " .. base.show(self), 3) end
  local r = handles.request
  if not r then error("the request has ended", 3) end
  if handles.task ~= current() then error("this stream belongs to another task", 3) end
  return r
end

--- worker.stream { status = 200, headers, content_type }: the head is sent with the first write.
function response.stream(opts)
  opts = opts or {}
  check_options(stream_shape, opts, "worker.stream")
  local task = await.task()
  if task.drops_stream then return setmetatable({ status = opts.status or 200 }, Dropped) end
  if not task.request then error("worker.stream: there is no request to answer", 2) end
  if not answers[task.hook] then
    error(("worker.stream: %s comes before the answer; a handler, remote and "
      .. "generate_client_response give it"):format(tostring(task.hook)), 2)
  end
  if task.stream then error("worker.stream: this request is being answered already", 2) end
  local self = setmetatable({
    status = opts.status or 200, headers = opts.headers,
    content_type = opts.content_type or "application/octet-stream",
    _handles = task.handles, _begun = false, _finished = false,
  }, Stream)
  task.stream = self
  return self
end

local function begin(self, r)
  self._begun = true
  start(r, self, self.content_type)
end

--- Sends a piece, and waits while the client reads too slowly. When the client has left, the task
--- ends here: nothing after it runs.
function Stream:write(piece)
  local r = request_of(self)
  if type(piece) == "number" then piece = tostring(piece) end
  if type(piece) ~= "string" then error("write: expected string, got " .. base.show(piece), 2) end
  if self._finished then error("write: the stream is finished", 2) end
  if not self._begun then begin(self, r) end
  if piece == "" then return end
  local code = response_write(r, piece, #piece)
  while code == AGAIN do
    wait()
    code = response_write(r, piece, #piece)
  end
  if code ~= OK then check(code, "the answer can't be sent") end
end

--- The clean end. A handler that returns does it by itself.
function Stream:finish()
  local r = request_of(self)
  if self._finished then return end
  if not self._begun then begin(self, r) end
  self._finished = true
  check(C.lw_api_response_finish(r), "the answer can't be finished")
end

local scratch = buffer.new()

local function send_whole(r, p, n) -- alone: see base.lua
  local code = C.lw_api_response_end(r, p, n)
  return code
end

local function send_response(r, self)
  local value = self.value
  if value == nil then
    local body = self.body
    start(r, self, self.content_type or (self._has_default_type and PLAIN_TEXT))
    return check(send_whole(r, body, #body), "the answer can't be sent")
  end
  scratch:reset()
  json.encode_to(scratch, value)
  start(r, self, self.content_type)
  local p, n = scratch:ref()
  check(send_whole(r, p, n), "the answer can't be sent")
end

local function send_text(r, body)
  check(C.lw_api_response_start(r, 200), "the answer can't begin")
  put_header(r, "Content-Type", PLAIN_TEXT)
  check(send_whole(r, body, #body), "the answer can't be sent")
end

-- `return worker.model.get(path)` of a model that did not answer.
local function no_value(task, err)
  if task.stream then return task.stream:finish() end
  if err ~= nil and err == task.model_error then
    error(failure.new(502, "model", err), 0)
  end
  await.check_cancel(err == "cancelled" and base.CANCELLED or OK)
  error("returned no answer" .. (err and ": " .. failure.show(err) or ""), 0)
end

--- Answers the task's request with what a handler returned.
function response.answer(task, value, err)
  local r = task.request
  if value == nil then return no_value(task, err) end
  local kind = type(value)
  if kind == "table" then
    local meta = getmetatable(value)
    if meta == Response then return send_response(r, value) end
    if meta == Stream then return value:finish() end
    if answer.is_answer(value) then
      return check(answer.pass_on(r, value), "the answer can't be passed on")
    end
    error("returned a table; worker.json(value) makes it an answer", 0)
  elseif kind == "string" then
    return send_text(r, value)
  end
  error("returned " .. base.show(value) .. ", which is no answer", 0)
end

--- An answer from what `remote` or the like returned: any value that is no answer goes out as JSON.
function response.from_value(value)
  if type(value) == "table" then
    local meta = getmetatable(value)
    if meta == Response or meta == Stream or meta == Dropped or answer.is_answer(value) then
      return value
    end
  end
  return response.json(value)
end

--- The same of a `remote`: what is no answer yet becomes the member `result`, as clients expect it;
--- nothing is null there.
function response.from_remote(value)
  if value == nil then value = json.null end
  local out = response.from_value(value)
  if out == value then return out end
  return response.json { result = value }
end

return response

-- SPDX-License-Identifier: MIT
-- One request of a test on its walk, in the place of exchange/request.c and worker/work.c: the same
-- states, answers and outcomes, for a client that is a table. What C does before and beside a
-- script (signatures, admission, accounts) is not here: all are admitted.
local base = require "luaworker.base"
local call = require "luaworker.testing_call"
local json = require "luaworker.json"
local kernel = require "luaworker.testing_kernel"
local pipe = require "luaworker.testing_pipe"
local server = require "luaworker.testing_server"

local OK = base.OK

local exchange = {}

local Exchange = {}
Exchange.__index = Exchange

local last_number = 0

--- { app, route, method, path, query, fields, body, payload, session, model, leave_after }
function exchange.new(opts)
  local self = setmetatable(opts, Exchange)
  last_number = last_number + 1
  self.id = server.field(self.fields, "x-request-id") or ("test-%d"):format(last_number)
  self.state, self.answer_fields, self.pieces, self.logs = "waiting", {}, {}, {}
  return self
end

function Exchange:is_over()
  return self.state == "ended" or self.state == "cut" or self.state == "gone"
end

-- The end --

local function outcome_of(self)
  if self.state == "gone" or self.dropped then return "cancelled" end
  local error = self.failed or (self.model_status or 0) >= 500 or self.state == "cut"
  return error and "error" or "success"
end

function Exchange:stop_model()
  self.piping = false
  local upstream = self.upstream
  self.upstream = nil
  if upstream then upstream:close() end
end

function Exchange:settle_when_over()
  if self.settled or not self:is_over() or self.task or self.piping then return end
  self:stop_model()
  self.settled = true
  if self.counted then self.outcome = self.outcome or outcome_of(self) end
  if self.session then self.session.exchanges[self] = nil end
  if self.waiter then kernel.wake(self.waiter) end
end

local function count_in(self, workload)
  self.counted, self.workload = true, workload
end

local function note_failure(self, source, text)
  self.failed, self.source = true, source
  self.error = self.error or text
end

local function start_task(self)
  self.task = kernel.start {
    instance = self.app.instance, job = self.route.job, exchange = self, model = self.model,
    on_end = function() self:task_done() end,
  }
end

-- Answering --

function Exchange:send_head(status)
  self.state, self.status = "answering", status
  self.head = self.answer_fields
  self.head[#self.head + 1] = { "X-Request-Id", self.id }
end

function Exchange:send_body(text)
  local bodiless = self.method == "HEAD" or self.status == 204 or self.status == 304
  if text == "" or bodiless or self.state ~= "answering" then return end
  self.pieces[#self.pieces + 1] = text
  if self.leave_after and #self.pieces >= self.leave_after then self:leave() end
end

function Exchange:finish_answer()
  if self.state == "answering" then self.state = "ended" end
end

function Exchange:send_whole(status, body)
  self.answer_fields[#self.answer_fields + 1] = { "Content-Type", "application/json" }
  self:send_head(status)
  self:send_body(body)
  self:finish_answer()
end

local function send_error(self, status, source, text)
  if self.state == "answering" then
    self.state = "cut"
  elseif not self:is_over() then
    local quoted = json.encode(text:sub(1, 240))
    self:send_whole(status, source and ('{"error":%s,"source":"%s"}'):format(quoted, source)
      or ('{"error":%s}'):format(quoted))
  end
end

-- "model http://10.0.0.7:5001 refused the connection": where it stands is nobody's business.
local function told_of(source, text)
  local rest = source == "model" and text:match "^model %S*:/%S* (.*)$"
  return rest and "the model " .. rest or text
end

--- why: what the log says instead of the text.
function Exchange:fail(status, source, text, why)
  note_failure(self, source, why and why ~= "" and why or text)
  if self.route.kind == "work" and not self.counted then count_in(self, self.app.COST) end
  self:stop_model()
  if self.state == "waiting" then self.answer_fields = {} end
  send_error(self, status, source, told_of(source, text))
  self:settle_when_over()
end

function Exchange:task_done()
  self.task = nil
  if not self:is_over() and not self.piping then
    return self:fail(500, "script", "the worker script gave no answer")
  end
  self:settle_when_over()
end

-- The client and its session --

local function give_up(self)
  self:stop_model()
  if self.counted then self.outcome = self.outcome or outcome_of(self) end
end

--- The client leaves.
function Exchange:leave()
  if self:is_over() then return end
  self.state = "gone"
  if self.task then kernel.cancel(self.task) end
  if self.upstream and self.route.drains then
    kernel.after(0, function() pipe.pump(self) end)
  else
    give_up(self)
  end
  self:settle_when_over()
end

--- Its session was closed.
function Exchange:drop()
  if self.state == "ended" or self.state == "cut" then return end
  self.dropped = true
  if self.task then kernel.cancel(self.task) end
  if self.state == "waiting" then self.answer_fields = {} end
  send_error(self, 410, nil, "the session was closed")
  give_up(self)
  self:settle_when_over()
end

-- The model --

function Exchange:note_model(status, code, text)
  self.model_status = status or self.model_status
  if code ~= OK and code ~= base.CANCELLED then note_failure(self, "model", text) end
end

--- What testing_call.lua makes the route's call to the model of.
function Exchange:model_call()
  return {
    method = "POST", url = self.route.model_url, of_model = true, exchange = self,
  }
end

function Exchange:prepare(one)
  one.timeouts = self.route.timeouts
  one:add_field("Content-Type", "application/json")
  one:add_field("X-Request-Id", self.id)
  one.body = self.model_body or self.payload
end

-- Passing answers on --

--- For a call of a task whose client left: whether it goes on to its end.
function Exchange:drain(one)
  if self.state ~= "gone" or not self.route.drains then return false end
  pipe.start(self, one)
  return true
end

function Exchange:forward()
  if self.state ~= "waiting" then return end
  local one = call.new(self:model_call())
  self:prepare(one)
  one:detach()
  pipe.start(self, one)
  one:start()
end

local function forward_plain(self)
  local route = self.route
  local url = route.model_url .. (self.query ~= "" and "?" .. self.query or "")
  local one = call.new { method = self.method, url = url, of_model = true, exchange = self }
  one:detach()
  one.timeouts, one.body = route.timeouts, self.body
  one:add_field("X-Request-Id", self.id)
  for _, field in ipairs(self.fields) do
    if field[1]:lower() ~= "x-request-id" then one:add_field(field[1], field[2]) end
  end
  pipe.start(self, one)
  one:start()
end

-- The beginning --

local function admit_and_go(self)
  count_in(self, self.route.workload)
  if self.route.has_response_hook then return start_task(self) end
  self:forward()
end

--- The payload is not one that C would hand on: the answer.
local function refuse_payload(self)
  local value, err = json.decode(self.payload)
  if err then
    self:send_whole(422, '{"error":"invalid JSON"}')
  elseif type(value) == "table" and not json.is_array(value) then
    return false
  elseif self.route.is_bare then
    self:send_whole(422, '{"error":"invalid JSON"}')
  else
    self:send_whole(422, '{"payload":"not an object"}')
  end
  return true
end

local function begin_work(self)
  if refuse_payload(self) then return self:settle_when_over() end
  local session = self.session
  if session and session.is_closed then
    self:send_whole(410, '{"error":"invalid session"}')
    return self:settle_when_over()
  end
  if session then session.exchanges[self] = true end
  if self.route.has_payload_hook then return start_task(self) end
  admit_and_go(self)
end

function Exchange:begin()
  if self.route.kind == "handler" then return start_task(self) end
  if self.route.kind == "forward" then return forward_plain(self) end
  begin_work(self)
end

--- For what stands before C: hooks ask for admission, once.
function Exchange:admit(workload)
  if self:is_over() then return base.CANCELLED end
  if not self.counted then count_in(self, workload) end
  return OK
end


return exchange

-- SPDX-License-Identifier: MIT
-- Calls to the servers of a test, in the place of exchange/upstream.c: the same states, deadlines
-- and words, with the answers of testing_server.lua. A call belongs to a task, which reads it by
-- testing_reading.lua, or was taken over by a testing_exchange.lua, which it tells of each change.
local base = require "luaworker.base"
local kernel = require "luaworker.testing_kernel"
local server = require "luaworker.testing_server"

local ffi = base.ffi
local OK, AGAIN, EOF, CANCELLED = base.OK, base.AGAIN, base.EOF, base.CANCELLED

local call = {}

local Call = {}
Call.__index = Call

-- By the number that the library's handle holds. One is never given twice: handles of the past are
-- closed by the collector.
local calls, last_number = {}, 0

--- The call that a handle of the library's stands for.
function call.find(handle)
  return calls[tonumber(ffi.cast("uintptr_t", handle))]
end

--- { method, url, of_model, exchange, on_change }: exchange when it is a request's own call.
function call.new(opts)
  local self = setmetatable(opts, Call)
  self.task, self.fields, self.body, self.buffer = kernel.current, {}, "", {}
  self.received, self.error, self.timeouts = 0, "", { connect = 5 }
  if self.task then
    last_number = last_number + 1
    self.number = last_number
    self.handle = ffi.cast("struct lw_call *", last_number)
    self.owner_task = self.task
    calls[last_number] = self
    table.insert(self.task.calls, self)
  end
  return self
end

function Call:changed()
  if self.on_change then
    kernel.after(0, self.on_change)
  elseif self.task then
    kernel.wake(self.task)
  end
end

-- The call --

local function origin_of(url)
  local plain = url:gsub("^(%a+://)[^/?#]*@", "%1")
  return url:match "^unix:[^:]*" or plain:match "^%a+://[^/?#]*" or url
end

local function ended(self, code, what)
  if self.ending then return end
  self.ending = code
  for _, timer in pairs(self.timers or {}) do
    kernel.stop_timer(timer)
  end
  if what then
    local role = self.of_model and "model" or "server"
    self.error = role .. " " .. origin_of(self.url) .. " " .. what
  end
  self.request.ended = code == EOF
  self:changed()
end

local function duration(seconds)
  if seconds < 1 then return ("%d ms"):format(seconds * 1000) end
  return ("%.15g s"):format(seconds)
end

local function watch(self, name, seconds, what)
  kernel.stop_timer(self.timers[name])
  if not seconds or seconds <= 0 then return end
  self.timers[name] = kernel.after(seconds, function()
    ended(self, base.TIMEOUT, what(duration(seconds)))
  end)
end

local function watch_idle(self)
  watch(self, "silence", self.timeouts.idle, function(time)
    return ("sent nothing more for %s, after %d bytes"):format(time, self.received)
  end)
end

local function lost(self, plan)
  if not self.status then return "closed the connection before answering" end
  if plan.length then
    return ("broke off after %d of %d bytes"):format(self.received, plan.length)
  end
  return ("broke off after %d bytes"):format(self.received)
end

local function finish(self, plan)
  local ending = plan.headless or plan.ending
  if ending == "break" then
    ended(self, base.CLOSED, lost(self, plan))
  elseif ending == "end" then
    ended(self, EOF)
  end
end

local function bring_pieces(self, plan, i)
  local piece = plan.pieces[i]
  if not piece then return finish(self, plan) end
  kernel.after(piece[1], function()
    if self.ending then return end
    self.buffer[#self.buffer + 1] = piece[2]
    self.received = self.received + #piece[2]
    watch_idle(self)
    self:changed()
    bring_pieces(self, plan, i + 1)
  end)
end

local function bring_head(self, plan)
  if self.ending then return end
  if plan.headless then return finish(self, plan) end
  self.status, self.answer_fields, self.length = plan.status, plan.fields, plan.length
  if self.method == "HEAD" then plan.pieces = {} end
  watch_idle(self)
  self:changed()
  bring_pieces(self, plan, 1)
end

local function find_server(self)
  local model_url, model = call.model_of(self)
  local is_for_model = model_url and self.url:sub(1, #model_url) == model_url
  local found = is_for_model and model or server.find(self.url)
  if found then return found end
  kernel.fail(is_for_model and ("the worker called its model (%s %s), but there is no fake one: "
      .. "pass { model = testing.model { ... } } with the request or to testing.load")
      :format(self.method, self.url)
    or ("the worker called %s %s, and no server of the test answers there: "
      .. 'testing.http("%s", { ... }) makes one'):format(self.method, self.url,
      origin_of(self.url)))
  return server.new({ refuses = true }, "nobody")
end

function Call:start()
  if self.started then return end
  self.started, self.timers = true, {}
  local path, query = self.url:match "^%a+://[^/?#]*([^?]*)%??(.*)$"
  if not path then path, query = self.url:match "^unix:[^:]*:?([^?]*)%??(.*)$" end
  self.request = {
    method = self.method, url = self.url, path = path ~= "" and path or "/", query = query or "",
    headers = server.header_table(self.fields), body = self.body, closed = false, ended = false,
  }
  local plan = find_server(self):take(self.request)
  if plan.refuses then return ended(self, base.IO, "refused the connection") end
  watch(self, "total", self.timeouts.total, function(time)
    return "did not finish its answer within " .. time
  end)
  watch(self, "silence", self.timeouts.first_byte, function(time)
    return "sent no answer within " .. time
  end)
  kernel.after(plan.delay, function() bring_head(self, plan) end)
end

--- What an upstream's head comes to.
function Call:head_code()
  return self.status and OK or self.ending or AGAIN
end

--- Gives up what is not over.
function Call:close()
  self.closed = true
  if not self.started or self.ending then return end
  self.request.closed = true
  self.on_change, self.task = nil, nil
  ended(self, CANCELLED)
end

-- Its end for a task --

--- The task was cancelled.
function Call:stop()
  if self.closed then return end
  local exchange = self.exchange
  if self.started and exchange and exchange:drain(self) then
    self.closed, self.task = true, nil -- for the task; its exchange goes on with it
    return
  end
  self:close()
end

local function leave_task(self)
  if not self.number then return end
  calls[self.number] = nil
  for i, one in ipairs(self.owner_task.calls) do
    if one == self then
      table.remove(self.owner_task.calls, i)
      break
    end
  end
  self.number = nil
end

function Call:free()
  self:stop()
  leave_task(self)
end

--- From now on it is no task's.
function Call:detach()
  leave_task(self)
  self.task = nil
end

-- What is not legal is not sent, and neither is what the program writes itself.
local unsent = {
  connection = true, ["keep-alive"] = true, ["proxy-connection"] = true, te = true, trailer = true,
  ["transfer-encoding"] = true, upgrade = true, host = true, ["content-length"] = true,
  expect = true,
}

function Call:add_field(name, value)
  if not name:find "^[%w!#$%%&'*+%-.^_`|~]+$" or value:find "[%z\1-\8\10-\31\127]" then
    self.error = "a header field of the call is not legal"
  elseif not unsent[name:lower()] then
    self.fields[#self.fields + 1] = { name, value }
  end
end

--- For testing_exchange.lua: takes a task's call over, which goes on.
function call.take(handle)
  local self = call.find(handle)
  if self.closed then return nil end
  self:start()
  self:detach()
  return self
end

return call

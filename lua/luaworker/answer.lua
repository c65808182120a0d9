-- SPDX-License-Identifier: MIT
-- Answers of HTTP servers whose head is there: reading them, whole or in pieces, and passing them
-- on. Reading one that breaks off raises, so that a cut answer is never taken for a whole one. A
-- cancelled task is unwound. model.lua opens them; they live as long as their task.
local base = require "luaworker.base"
local await = require "luaworker.await"
local direct = require "luaworker.direct"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local lines = require "luaworker.lines"

local ffi, C, span = base.ffi, base.C, base.span
local OK, AGAIN, EOF, MISUSE = base.OK, base.AGAIN, base.EOF, base.MISUSE
local ffi_string = ffi.string
local wait, current = await.wait, await.current
local call_read = direct.call_read

local MAX_BODY = 256 * 1024 * 1024

local answer = {}

local Answer = {}

-- The call behind an answer, for one more use of it. It is in a table of its own, { call or false,
-- over = why it is gone, task, serial }, so that a script's copies of an answer end with it; of the
-- model's answer to a request that is the task's `handles`.
local function call_of(self, level)
  local box = type(self) == "table" and rawget(self, "_call")
  local call = box and box.call
  if not call then error(box and box.over or "expected an answer of a server", level or 4) end
  if box.task ~= current() then error("this answer belongs to another task", level or 4) end
  return call
end

--- Why a call failed, one sentence.
function answer.error_text(call, code)
  local text = ffi_string(C.lw_api_call_error(call))
  return text ~= "" and text or "the call failed: " .. base.code_name(code)
end

local function broke_off(self, call, code)
  await.check_cancel(code)
  local text = answer.error_text(call, code)
  if self._of_model then
    error(failure.new(code == base.TIMEOUT and 504 or 502, "model", text), 0)
  end
  error(text, 0)
end

local function look_for_head(call) -- alone: see base.lua
  local code = C.lw_api_call_head(call)
  return code
end

--- Waits for the call's head: LW_OK or why there is none.
function answer.await_head(call)
  local code = look_for_head(call)
  while code == AGAIN do
    wait()
    code = look_for_head(call)
  end
  return code
end

local getters = {}

function getters:headers()
  local call, other = call_of(self), base.other_span
  local headers = {}
  for i = 0, tonumber(C.lw_api_call_header_count(call)) - 1 do
    C.lw_api_call_header_at(call, i, span, other)
    local name, value = base.text(span):lower(), base.text(other)
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  self.headers = headers
  return headers
end

function getters:content_type()
  return self.headers["content-type"]
end

answer.methods, answer.getters = Answer, getters

local answer_meta = {
  __index = function(self, key)
    local method = Answer[key]
    if method then return method end
    local getter = getters[key]
    return getter and getter(self)
  end,
}

--- The model's answer to the running request. C closes the call with the request.
function answer.of_request(task, call)
  task.handles.call = call
  return setmetatable({
    status = C.lw_api_call_status(call),
    _call = task.handles, _own = true, _of_model = true,
    _streamed = false, _gathered = false, _ended = false, -- spares each look a call of __index
  }, answer_meta)
end

local last_serial = 0
local weak = { __mode = "v" }

--- The answer of a call that the script made. It is closed when it was read to its end, when it is
--- garbage, or with its task, whichever is first. of_model: its failures are the model's. The task
--- keeps in open_calls which of them C still has, in `answers`, weakly, their tables.
function answer.of_call(task, call, of_model)
  if not task.open_calls then
    task.open_calls, task.answers = {}, setmetatable({}, weak)
  end
  last_serial = last_serial + 1
  local serial, open = last_serial, task.open_calls
  open[serial] = true
  ffi.gc(call, function(collected)
    if not open[serial] then return end -- C closed it with the task
    open[serial] = nil
    C.lw_api_call_close(collected)
  end)
  local box = { call = call, task = task, serial = serial }
  local self = setmetatable({
    status = C.lw_api_call_status(call),
    _call = box, _of_model = of_model,
    _streamed = false, _gathered = false, _ended = false,
  }, answer_meta)
  task.answers[serial] = box
  return self
end

--- Takes the call away from its answer, which is dead from now on.
local function let_go(box, why)
  local call = box.call
  box.call, box.over = false, why
  if box.serial then
    box.task.open_calls[box.serial] = nil
    ffi.gc(call, nil)
  end
  return call
end

-- Everything was read: what can still be asked for is kept here, and C may forget the call.
local function complete(self)
  self._ended = true
  if self._own then return end
  local _ = self.headers
  C.lw_api_call_close(let_go(self._call, "this answer was read to its end"))
end

-- Gathers the body; it stands in `span` until the next call into C for this answer.
local function gather(self)
  local call = call_of(self)
  if self._streamed then error("the body of this answer is already being read in pieces", 3) end
  self._gathered = true
  local code = C.lw_api_call_body_all(call, MAX_BODY, span)
  while code == AGAIN do
    wait()
    code = C.lw_api_call_body_all(call, MAX_BODY, span)
  end
  if code ~= OK then broke_off(self, call, code) end
end

--- The whole body, a string.
function Answer:body()
  local body = self._body
  if not body then
    gather(self)
    body = base.text(span)
    self._body = body
    complete(self)
  end
  return body
end

local function not_json(self, doc)
  local text = (self._of_model and "the model's answer" or "the answer") .. " is not JSON: "
    .. ffi_string(C.lw_api_doc_error(doc))
  C.lw_api_doc_unref(doc)
  if self._of_model then error(failure.new(502, "model", text), 0) end
  error(text, 3)
end

--- The body as JSON: ordinary tables. Raises when it is not JSON.
function Answer:json()
  local doc, is_json
  if self._own and not self._body then -- no copy of the text in Lua
    gather(self)
    doc, is_json = json.parse(span.p, span.n)
  else
    local body = self:body()
    doc, is_json = json.parse(body, #body)
  end
  if not is_json then not_json(self, doc) end
  return json.from_doc(doc, 0, true)
end

-- Runs for each token of a stream, interpreted: call_read alone looks whether it may.
local function next_chunk(self)
  if type(self) ~= "table" then call_of(self, 3) end
  if self._ended then return nil end
  local box = self._call
  local piece, code = call_read(box and box.call)
  while code == AGAIN do
    wait()
    piece, code = call_read(box.call)
  end
  if piece then return piece end
  if code == MISUSE then
    call_of(self, 3)
    error("this answer is over", 2)
  end
  if code ~= EOF then broke_off(self, box.call, code) end
  complete(self)
end

local function begin_stream(self)
  call_of(self)
  if self._gathered then error("the body of this answer was already read whole", 3) end
  self._streamed = true
end

--- An iterator over the body's pieces as they arrive.
function Answer:chunks()
  begin_stream(self)
  return next_chunk, self
end

--- Reads what is left of the body and drops it.
function Answer:read_to_end()
  if self._ended or self._gathered or not self._call.call then return end
  for _ in self:chunks() do end -- luacheck: ignore 542
end

--- An iterator over the body's lines, without their ends.
function Answer:lines()
  begin_stream(self)
  return lines.each(next_chunk, self)
end

--- An iterator over server-sent events: { event, data, id }.
function Answer:events()
  begin_stream(self)
  return lines.events(next_chunk, self)
end

--- Stops the call and drops the rest of the answer. Fine to call twice.
function Answer:close()
  local box = type(self) == "table" and rawget(self, "_call")
  if box and not box.call then return end
  call_of(self, 3)
  C.lw_api_call_close(let_go(box, "this answer was closed"))
end

function answer.is_answer(value)
  return type(value) == "table" and getmetatable(value) == answer_meta
end

--- Passes the answer on to a client as it came; the answer is over then.
function answer.pass_on(r, self)
  call_of(self)
  if self._streamed or self._gathered then
    error("this answer was read, so it can't be passed on as it came", 0)
  end
  return C.lw_api_response_forward(r, let_go(self._call, "this answer was passed on"))
end

--- At the end of a task: its answers stop working. C closes the calls.
function answer.retire(task)
  local own = task.handles
  if own and own.call then let_go(own, "the request has ended") end
  local open, answers = task.open_calls, task.answers
  if not open or next(open) == nil then return end
  for serial in pairs(open) do
    local box = answers[serial]
    if box and box.call then let_go(box, "its task has ended") end
    open[serial] = nil
  end
end

return answer

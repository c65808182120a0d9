-- SPDX-License-Identifier: MIT
-- What stands before C for a script's view of its client: the request that it reads and the answer
-- that it writes (script/api.c), over testing_exchange.lua. Loaded by testing_app.lua.
local base = require "luaworker.base"
local call = require "luaworker.testing_call"
local pipe = require "luaworker.testing_pipe"

local C, ffi, real = base.C, base.ffi, base.ffi.C
local OK, CANCELLED, MISUSE = base.OK, base.CANCELLED, base.MISUSE
local text_of = ffi.string

-- The request --

local members = {
  [tonumber(real.LW_REQUEST_METHOD)] = "method", [tonumber(real.LW_REQUEST_PATH)] = "path",
  [tonumber(real.LW_REQUEST_QUERY)] = "query", [tonumber(real.LW_REQUEST_BODY)] = "body",
  [tonumber(real.LW_REQUEST_ID)] = "id", [tonumber(real.LW_REQUEST_PAYLOAD)] = "payload",
}

local function text_member(self, what)
  if members[what] then return self[members[what]] or "" end
  if what == tonumber(real.LW_REQUEST_REMOTE_ADDR) then return "127.0.0.1" end
  return self.session and self.session.id or ""
end

function C.lw_api_request_text(self, what, out)
  local text = text_member(self, tonumber(what))
  self.given = text -- kept until the next call
  out.p, out.n = text, #text
end

function C.lw_api_request_header_count(self)
  return #self.fields
end

function C.lw_api_request_header_at(self, i, name, value)
  local field = self.fields[tonumber(i) + 1]
  name.p, name.n, value.p, value.n = field[1], #field[1], field[2], #field[2]
end

function C.lw_api_request_header(self, name, n, value)
  for _, field in ipairs(self.fields) do
    if field[1]:lower() == text_of(name, n):lower() then
      value.p, value.n = field[2], #field[2]
      return 1
    end
  end
  return 0
end

function C.lw_api_request_doc(self, payload_root)
  if not self.payload then return nil end
  payload_root[0] = 0
  return real.lw_api_doc_parse(self.payload, #self.payload)
end

function C.lw_api_request_invalid(self, text, n)
  if self.state ~= "waiting" then return MISUSE end
  self:send_whole(422, text_of(text, n))
  return OK
end

function C.lw_api_request_set_model_body(self, p, n)
  self.model_body = text_of(p, n)
end

function C.lw_api_request_add_model_body(self, p, n)
  self.model_body = (self.model_body or "") .. text_of(p, n)
end

function C.lw_api_request_admit(self, workload)
  return self:admit(workload)
end

function C.lw_api_request_forward(self)
  self:forward()
end

function C.lw_api_request_fail(self, status, source, text, n, why, why_n)
  self:fail(status ~= 0 and status or 500, text_of(source), text_of(text, n), text_of(why, why_n))
end

-- The answer --

function C.lw_api_response_start(self, status)
  if self:is_over() then return CANCELLED end
  if self.state ~= "waiting" or self.started_status or status < 200 or status > 599 then
    return MISUSE
  end
  self.started_status = status
  return OK
end

function C.lw_api_response_header(self, name, name_n, value, value_n)
  if self.state ~= "waiting" then return MISUSE end
  name, value = text_of(name, name_n), text_of(value, value_n)
  if not name:find "^[%w!#$%%&'*+%-.^_`|~]+$" or value:find "[%z\1-\8\10-\31\127]" then
    return base.PROTOCOL
  end
  self.answer_fields[#self.answer_fields + 1] = { name, value }
  return OK
end

function C.lw_api_response_end(self, p, n)
  if self:is_over() then return CANCELLED end
  if self.state ~= "waiting" or not self.started_status then return MISUSE end
  self:send_head(self.started_status)
  self:send_body(text_of(p, n))
  self:finish_answer()
  return OK
end

local function begin_stream(self)
  if self:is_over() then return CANCELLED end
  if self.state == "answering" then return OK end
  if not self.started_status then return MISUSE end
  self:send_head(self.started_status)
  return OK
end

function C.lw_api_response_write(self, p, n)
  local code = begin_stream(self)
  if code == OK then self:send_body(text_of(p, n)) end
  return code
end

function C.lw_api_response_finish(self)
  local code = begin_stream(self)
  if code == OK then self:finish_answer() end
  return code
end

function C.lw_api_response_forward(self, handle)
  if self.state ~= "waiting" then return self:is_over() and CANCELLED or MISUSE end
  local upstream = call.take(handle)
  if not upstream then return CANCELLED end
  self.started_status = nil
  pipe.start(self, upstream)
  return OK
end

function C.lw_api_response_started(self)
  return self.state ~= "waiting" and 1 or 0
end

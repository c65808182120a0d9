-- SPDX-License-Identifier: MIT
-- What stands before C for calls of a script: opening them and reading their answers
-- (script/call.c, script/api.c), over testing_call.lua. Loaded by testing_app.lua.
local base = require "luaworker.base"
local call = require "luaworker.testing_call"
local direct = require "luaworker.direct"
local kernel = require "luaworker.testing_kernel"
local server = require "luaworker.testing_server"

local C, ffi = base.C, base.ffi
local OK, AGAIN, EOF, CANCELLED = base.OK, base.AGAIN, base.EOF, base.CANCELLED
local text_of = ffi.string
local PIECE_BYTES = 16 * 1024

local function note_end(self, code)
  local exchange = self.exchange
  if exchange and code ~= EOF then exchange:note_model(nil, code, self.error) end
end

local function read_head(self)
  if self.closed then return CANCELLED end
  if self.has_head then return OK end
  self:start()
  local code = self:head_code()
  if code == AGAIN then return self.task.cancelled and CANCELLED or AGAIN end
  self.has_head = code == OK
  if code ~= OK then
    note_end(self, code)
  elseif self.exchange then
    self.exchange:note_model(self.status, OK)
  end
  return code
end

-- The next piece, or a code.
local function peek(self)
  local code = read_head(self)
  if code ~= OK then return nil, code end
  local piece = self.buffer[1]
  if piece then return piece end
  if self.ending then
    note_end(self, self.ending)
    return nil, self.ending
  end
  return nil, self.task.cancelled and CANCELLED or AGAIN
end

-- Opening --

function C.lw_api_call_open(method, method_n, url, url_n)
  return call.new({ method = text_of(method, method_n), url = text_of(url, url_n) }).handle
end

function C.lw_api_request_call(exchange)
  local self = call.new(exchange:model_call())
  exchange:prepare(self)
  return self.handle
end

function C.lw_api_call_header(handle, name, name_n, value, value_n)
  call.find(handle):add_field(text_of(name, name_n), text_of(value, value_n))
end

function C.lw_api_call_body(handle, p, n)
  call.find(handle).body = text_of(p, n)
end

function C.lw_api_call_timeouts(handle, connect, first_byte, idle, total)
  call.find(handle).timeouts = {
    connect = connect, first_byte = first_byte, idle = idle, total = total,
  }
end

function C.lw_api_call_of_model(handle)
  call.find(handle).of_model = true
end

function C.lw_api_call_head(handle)
  return read_head(call.find(handle))
end

function C.lw_api_call_status(handle)
  return call.find(handle).status or 0
end

function C.lw_api_call_header_count(handle)
  return #(call.find(handle).answer_fields or {})
end

function C.lw_api_call_header_at(handle, i, name, value)
  local field = call.find(handle).answer_fields[tonumber(i) + 1]
  name.p, name.n, value.p, value.n = field[1], #field[1], field[2], #field[2]
end

function C.lw_api_call_header_get(handle, name, n, value)
  local found = server.field(call.find(handle).answer_fields or {}, text_of(name, n))
  if not found then return 0 end
  value.p, value.n = found, #found -- the answer's own text
  return 1
end

function direct.call_read(handle)
  local self = handle and call.find(handle)
  if not self or self.task ~= kernel.current then return nil, base.MISUSE end
  local piece, code = peek(self)
  if not piece then return nil, code end
  local part = piece:sub(1, PIECE_BYTES)
  self.buffer[1] = piece:sub(#part + 1)
  if self.buffer[1] == "" then table.remove(self.buffer, 1) end
  return part
end

function C.lw_api_call_body_all(handle, max, out)
  local self = call.find(handle)
  self.gathered = self.gathered or {}
  local piece, code = peek(self)
  while piece do
    table.insert(self.gathered, table.remove(self.buffer, 1))
    piece, code = peek(self)
  end
  if code ~= EOF then return code end
  local body = table.concat(self.gathered)
  if #body > tonumber(max) then
    self.error = "the answer is longer than the worker takes"
    return base.LIMIT
  end
  self.given = body -- kept until the next call
  out.p, out.n = body, #body
  return OK
end

function C.lw_api_call_error(handle)
  return call.find(handle).error
end

function C.lw_api_call_close(handle)
  local self = call.find(handle)
  if self then self:free() end
end

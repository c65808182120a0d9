-- SPDX-License-Identifier: MIT
-- From a call to a client, in the place of exchange/pipe.c. `self` is what testing_exchange.lua
-- makes, upstream what testing_call.lua does; owns neither.
local base = require "luaworker.base"

local OK, EOF = base.OK, base.EOF

local pipe = {}

--- What comes of this call goes to the client.
function pipe.start(self, upstream)
  self.upstream, self.piping = upstream, true
  upstream.on_change = function() pipe.pump(self) end
  upstream:changed()
end

local function end_pipe(self, code)
  self.piping = false
  local upstream = self.upstream
  if not upstream then return end
  if self.head_piped then self.model_status = upstream.status end
  if code ~= EOF then
    local text = upstream.error
    return self:fail(code == base.TIMEOUT and 504 or 502, "model", text)
  end
  self:stop_model()
  self:settle_when_over()
end

local hop_by_hop = {
  connection = true, ["keep-alive"] = true, ["proxy-connection"] = true, te = true, trailer = true,
  ["transfer-encoding"] = true, upgrade = true, ["content-length"] = true,
  ["x-request-id"] = true,
}

local function pipe_head(self, upstream)
  for _, field in ipairs(upstream.answer_fields) do
    if not hop_by_hop[field[1]:lower()] then
      self.answer_fields[#self.answer_fields + 1] = field
    end
  end
  self.head_piped = true
  self:send_head(upstream.status)
end

-- Takes what is there; false once the client is gone.
local function pipe_body(self, upstream)
  while upstream.buffer[1] do
    self:send_body(table.remove(upstream.buffer, 1))
    if not self.piping then return false end
  end
  return true
end

--- Passes on what is there.
function pipe.pump(self)
  local upstream = self.upstream
  if not self.piping or not upstream then return end
  if self:is_over() then
    upstream.buffer = {}
    if upstream.ending then end_pipe(self, upstream.ending) end
    return
  end
  if not self.head_piped then
    local code = upstream:head_code()
    if code == base.AGAIN then return end
    if code ~= OK then return end_pipe(self, code) end
    pipe_head(self, upstream)
  end
  if not pipe_body(self, upstream) or not upstream.ending then return end
  if upstream.ending == EOF then
    self:finish_answer()
  elseif not self:is_over() then
    self.state = "cut"
  end
  end_pipe(self, upstream.ending)
end

return pipe

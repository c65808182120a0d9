-- SPDX-License-Identifier: MIT
-- What a test gets for a request: its answer, how it ended and what was logged. Made by
-- testing_app.lua when the request is over.
local base = require "luaworker.base"
local json = require "luaworker.json"
local kernel = require "luaworker.testing_kernel"
local lines = require "luaworker.lines"
local server = require "luaworker.testing_server"

local answer = {}

-- Those that may be nil.
local optional = {
  status = true, outcome = true, workload = true, source = true, error = true, model = true,
}

local names = { json = true, events = true } -- and all fields that an answer had

-- A misspelt field would be nil, and nil may be what is expected.
local Answer = setmetatable({}, {
  __index = function(_, key)
    if optional[key] then return nil end
    local near = type(key) == "string" and base.did_you_mean(key, names) or ""
    error(("an answer has no %s%s"):format(tostring(key), near), 2)
  end,
})
local meta = { __index = Answer }

--- The body as JSON; raises when it is none.
function Answer:json()
  local value, err = json.decode(self.body)
  if err then error("the answer is not JSON: " .. err .. ": " .. self.body:sub(1, 200), 2) end
  return value
end

--- The body's server-sent events: a list of { event, data, id }.
function Answer:events()
  local list, text = {}, self.body
  for event in lines.events(function()
    local chunk = text
    text = nil
    return chunk
  end) do
    list[#list + 1] = event
  end
  return list
end

local function log_text(logs)
  local out = {}
  for i, line in ipairs(logs) do
    out[i] = line.level .. " " .. line.text .. "\n"
  end
  return table.concat(out)
end

--- Of an exchange that is over, and began at this moment.
function answer.of(self, begun)
  local fields = {
    status = self.status, headers = server.header_table(self.head or {}),
    chunks = self.pieces, body = table.concat(self.pieces),
    broken = self.state == "cut", left = self.state == "gone", ended = self.state == "ended",
    outcome = self.outcome, workload = self.workload, source = self.source, error = self.error,
    logs = self.logs, log = log_text(self.logs), model = self.model or self.app.model,
    seconds = kernel.time - begun, id = self.id,
  }
  for name in pairs(fields) do
    names[name] = true
  end
  return setmetatable(fields, meta)
end

return answer

-- SPDX-License-Identifier: MIT
-- The servers of a test: what a fake model or any other HTTP server answers, as tests describe it,
-- and what it was asked. Turns descriptions into plans for testing_call.lua: a head, pieces with
-- the pauses before them, and an ending.
local base = require "luaworker.base"
local json = require "luaworker.json"
local kernel = require "luaworker.testing_kernel"
local schema = require "luaworker.schema"

local server = {}

local whole = schema.number { integer = true, min = 0 }
local seconds = schema.number { min = 0 }
local answer_shape = schema.record {
  status = schema.number { integer = true, min = 200, max = 599 },
  headers = schema.table, content_type = schema.string,
  body = schema.bytes, json = schema.any, chunks = schema.table, events = schema.table,
  delay = seconds, interval = seconds,
  breaks = schema.boolean, breaks_after = whole, hangs = schema.boolean, hangs_after = whole,
  refuses = schema.boolean, sequence = schema.table,
}

--- Fields in the order of their names, repeated ones from lists: { { name, value }, ... }.
function server.fields(headers)
  local fields = {}
  for _, name in ipairs(schema.sorted_keys(headers or {})) do
    local values = headers[name]
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      fields[#fields + 1] = { tostring(name), tostring(value) }
    end
  end
  return fields
end

--- The value of a field, by its name in any case; nil when there is none.
function server.field(fields, name)
  for _, field in ipairs(fields) do
    if field[1]:lower() == name:lower() then return field[2] end
  end
end

--- Fields as tests see them: names in lower case, repeated ones joined.
function server.header_table(fields)
  local headers = {}
  for _, field in ipairs(fields) do
    local name, value = field[1]:lower(), field[2]
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return headers
end

-- { event, data, id }, a text, or any other table, which goes as JSON.
local function event_text(event)
  if type(event) ~= "table" then return "data: " .. tostring(event) .. "\n\n" end
  local data = event.data
  if data == nil then return "data: " .. json.encode(event) .. "\n\n" end
  if type(data) == "table" then data = json.encode(data) end
  local lines = {}
  if event.event then lines[#lines + 1] = "event: " .. event.event end
  if event.id then lines[#lines + 1] = "id: " .. event.id end
  for line in (tostring(data) .. "\n"):gmatch "(.-)\n" do
    lines[#lines + 1] = "data: " .. line
  end
  return table.concat(lines, "\n") .. "\n\n"
end

local function default_type(spec)
  if spec.json ~= nil then return "application/json" end
  if spec.chunks or spec.events then return "text/event-stream" end
  return spec.body and "text/plain; charset=utf-8" or nil
end

-- { { pause, text }, ... }
local function pieces_of(spec)
  local pieces, pause = {}, 0
  local function add(text)
    pieces[#pieces + 1] = { pause, text }
    pause = spec.interval or 0
  end
  for _, piece in ipairs(spec.chunks or {}) do
    if type(piece) == "number" then pause = pause + piece else add(tostring(piece)) end
  end
  for _, event in ipairs(spec.events or {}) do
    add(event_text(event))
  end
  local body = spec.json ~= nil and json.encode(spec.json) or spec.body
  if body and body ~= "" then add(body) end
  return pieces
end

-- What becomes of an answer behind its last piece: "end", "break" or "hang".
local function ending_of(spec, pieces)
  local count = spec.breaks_after or spec.hangs_after
  if not count then return "end" end
  for i = #pieces, count + 1, -1 do
    pieces[i] = nil
  end
  return spec.breaks_after and "break" or "hang"
end

local function plan_of(spec)
  local pieces, length = pieces_of(spec), nil
  local in_one = not spec.chunks and not spec.events
  local is_whole = not spec.breaks_after or spec.breaks_after < #pieces -- or its length is a lie
  if in_one and is_whole then length = pieces[1] and #pieces[1][2] or 0 end
  local fields = server.fields(spec.headers)
  local content_type = spec.content_type or default_type(spec)
  if content_type and not server.field(fields, "content-type") then
    table.insert(fields, 1, { "Content-Type", content_type })
  end
  return {
    refuses = spec.refuses,
    headless = spec.breaks and "break" or spec.hangs and "hang" or nil,
    delay = spec.delay or 0, status = spec.status or 200, fields = fields, length = length,
    ending = ending_of(spec, pieces), pieces = pieces,
  }
end

local Server = {}
Server.__index = Server

local function is_by_path(spec)
  local key = next(spec)
  return type(key) == "string" and key:find "^%u*%s*/" ~= nil
end

local function check(spec, what)
  if type(spec) == "function" or type(spec) == "string" then return end
  if type(spec) ~= "table" then
    error(what .. ": expected table, string or function, got " .. base.show(spec), 0)
  end
  if is_by_path(spec) then
    for path, one in pairs(spec) do
      check(one, what .. ": " .. tostring(path))
    end
    return
  end
  local mistake = schema.first_mistake(answer_shape, spec)
  if mistake then error(what .. ": " .. mistake, 0) end
  for i, one in ipairs(spec.sequence or {}) do
    check(one, what .. ": sequence[" .. i .. "]")
  end
end

--- A server that answers by `spec`. Raises what is wrong with that, without a place.
function server.new(spec, what)
  if getmetatable(spec) == Server then return spec end
  local ok, err = pcall(check, spec, what)
  if not ok then error(err, 0) end
  return setmetatable({ requests = {}, _spec = spec, _what = what, _turns = {} }, Server)
end

-- The plan for a request: through functions, tables by path and sequences.
local function resolve(self, spec, request)
  if type(spec) == "function" then
    local value = spec(request)
    check(value, self._what .. ": its function's answer")
    return resolve(self, value, request)
  elseif type(spec) == "string" then
    return plan_of { body = spec }
  elseif is_by_path(spec) then
    local one = spec[request.method .. " " .. request.path] or spec[request.path]
    if one ~= nil then return resolve(self, one, request) end
    error(("%s has no answer for %s %s"):format(self._what, request.method, request.path), 0)
  elseif spec.sequence then
    local turn = (self._turns[spec] or 0) + 1
    self._turns[spec] = turn
    return resolve(self, spec.sequence[math.min(turn, #spec.sequence)] or {}, request)
  end
  return plan_of(spec)
end

local request_meta = {
  __index = function(self, key)
    if key ~= "json" then return nil end
    local value = json.decode(rawget(self, "body"))
    rawset(self, "json", value)
    return value
  end,
}

--- Takes a request in and says what comes of it. A mistake of the test's in that fails the test.
function Server:take(request)
  request.at = kernel.time
  setmetatable(request, request_meta)
  self.requests[#self.requests + 1] = request
  local ok, plan = xpcall(resolve, function(err)
    local is_unmet = type(err) == "table" and rawget(err, "is_unmet")
    return is_unmet and err or tostring(err) -- kernel.fail adds where
  end, self, self._spec, request)
  if ok then return plan end
  kernel.fail(plan)
  return plan_of { refuses = true }
end

--- The latest request, or nil.
function Server:last()
  return self.requests[#self.requests]
end

-- Servers by the beginnings of their URLs --

local by_prefix = {} -- { prefix, server, owner }

--- While what is being tested now lasts, URLs that begin so are answered by this server.
function server.at(prefix, spec)
  if type(prefix) ~= "string" or not prefix:find "^%a+:" then
    error("testing.http: expected the beginning of a URL, got " .. base.show(prefix), 3)
  end
  local ok, one = pcall(server.new, spec, "testing.http " .. prefix)
  if not ok then error(one, 3) end
  by_prefix[#by_prefix + 1] = { prefix, one, kernel.owner }
  return one
end

--- The server for a URL: that of the longest beginning, the latest of these.
function server.find(url)
  local best
  for _, one in ipairs(by_prefix) do
    if url:sub(1, #one[1]) == one[1] and (not best or #one[1] >= #best[1]) then best = one end
  end
  return best and best[2]
end

function server.forget(owner)
  for i = #by_prefix, 1, -1 do
    if by_prefix[i][3] == owner then table.remove(by_prefix, i) end
  end
end

return server

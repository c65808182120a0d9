-- SPDX-License-Identifier: MIT
-- What a handler sees of its client's request. Everything is copied out of C when it is first asked
-- for; once the request has ended, what was not asked for before is gone.
local base = require "luaworker.base"
local json = require "luaworker.json"

local ffi, C, span = base.ffi, base.C, base.span
local text = base.text

local request = {}

local Request = {}

-- The handle is in a table of the task's: copies of a request end with it.
local function handle_of(self)
  local handles = type(self) == "table" and rawget(self, "_handles")
  if not handles then error("expected a request, got " .. base.show(self), 4) end
  if not handles.request then error("the request has ended", 4) end
  return handles.request
end

local function read_text(self, what)
  C.lw_api_request_text(handle_of(self), what, span)
  return text(span)
end

local function unescape(part)
  return (part:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local function parse_query(query)
  local fields = {}
  for pair in query:gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=(.*)$"
    fields[unescape(name or pair)] = unescape(value or "")
  end
  return fields
end

local getters = {}

function getters:method() return read_text(self, C.LW_REQUEST_METHOD) end
function getters:path() return read_text(self, C.LW_REQUEST_PATH) end
function getters:query_string() return read_text(self, C.LW_REQUEST_QUERY) end
function getters:id() return read_text(self, C.LW_REQUEST_ID) end
function getters:remote_addr() return read_text(self, C.LW_REQUEST_REMOTE_ADDR) end

--- The query's fields by name; of a repeated one the last.
function getters:query()
  return parse_query(self.query_string)
end

--- The session's id, or nil.
function getters:session()
  local id = read_text(self, C.LW_REQUEST_SESSION)
  return id ~= "" and id or nil
end

--- All fields, names in lower case; repeated ones joined with ", ".
function getters:headers()
  local r, other = handle_of(self), base.other_span
  local headers = {}
  for i = 0, tonumber(C.lw_api_request_header_count(r)) - 1 do
    C.lw_api_request_header_at(r, i, span, other)
    local name, value = text(span):lower(), text(other)
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return headers
end

local root = ffi.new "uint32_t[1]"

local function payload_of(r) -- alone: see base.lua
  return C.lw_api_request_doc(r, root), root[0]
end

--- The payload decoded, for a route with payload hooks; long strings stay in C until they are read.
function request.decode_payload(r)
  local doc, at = payload_of(r)
  if doc == nil then error("this request has no payload", 0) end
  return json.from_doc(doc, at, true)
end

--- The payload as the client sent it, decoded (routes with a signed envelope), else nil.
function getters:payload()
  local json_text = read_text(self, C.LW_REQUEST_PAYLOAD)
  if json_text ~= "" then return (json.decode(json_text)) end
end

--- The request's body, a string. Of a signed envelope, all of it.
function Request:body()
  local body = type(self) == "table" and rawget(self, "_body")
  if not body then
    body = read_text(self, C.LW_REQUEST_BODY)
    self._body = body
  end
  return body
end

--- The body as JSON, or nil and what is wrong with it.
function Request:json()
  local value, err = json.decode(Request.body(self))
  return value, err
end

request.methods, request.getters = Request, getters

local names = {}
for _, list in ipairs { Request, getters } do
  for name in pairs(list) do
    names[name] = true
  end
end

-- The library's own fields begin with _, and are asked for on whatever a method is called with.
local function refuse(key)
  if type(key) ~= "string" or key:sub(1, 1) == "_" then return nil end
  error(("request has no %s%s"):format(key, base.did_you_mean(key, names)), 3)
end

local request_meta = {
  __index = function(self, key)
    local method = Request[key]
    if method then return method end
    local getter = getters[key]
    if not getter then return refuse(key) end
    local value = getter(self)
    rawset(self, key, value)
    return value
  end,
}

--- The running request as the author sees it.
function request.of(task)
  return setmetatable({ _handles = task.handles }, request_meta)
end

return request

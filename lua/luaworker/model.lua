-- SPDX-License-Identifier: MIT
-- Calls to HTTP servers: the running request's call to the model, and any that a script makes.
-- Opening returns nil and why when there is no answer; what comes out is answer.lua's.
local base = require "luaworker.base"
local await = require "luaworker.await"
local answer = require "luaworker.answer"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local schema = require "luaworker.schema"

local C, OK = base.C, base.OK

local model = {
  url = nil, -- of the model server, so that a path can be put behind it; set_url()
}

--- For the worker that is loaded. A socket's path ends with a colon from now on.
function model.set_url(url)
  url = url:gsub("/+$", "")
  model.url = url:find "^unix:[^:]*$" and url .. ":" or url
end

local function open_call(r) -- alone: see base.lua
  local call = C.lw_api_request_call(r)
  return call
end

--- The model's answer to the running request; raises a failure when there is none.
function model.answer_to_request(task, r)
  local call = open_call(r)
  local code = answer.await_head(call)
  if code == OK then return answer.of_request(task, call) end
  await.check_cancel(code)
  error(failure.new(code == base.TIMEOUT and 504 or 502, "model", answer.error_text(call, code)), 0)
end

local timeout_shape = schema.record {
  connect = schema.number { min = 0 }, first_byte = schema.number { min = 0 },
  idle = schema.number { min = 0 }, total = schema.number { min = 0 },
}
local options_shape = schema.record {
  method = schema.string, headers = schema.any, body = schema.bytes, json = schema.any,
  timeout = timeout_shape,
}
model.rules = { options = options_shape, timeout = timeout_shape }
local no_options, no_timeout = {}, {}

local function set_header(call, name, value)
  if type(value) == "table" then
    for _, one in ipairs(value) do
      set_header(call, name, one)
    end
    return
  end
  value = tostring(value)
  C.lw_api_call_header(call, name, #name, value, #value)
end

local function set_headers(call, headers, has_json)
  for name, value in pairs(headers or no_options) do
    name = tostring(name)
    if has_json and name:lower() == "content-type" then has_json = false end
    set_header(call, name, value)
  end
  if has_json then set_header(call, "Content-Type", "application/json") end
end

local function begin_call(method, url, opts)
  local call = C.lw_api_call_open(method, #method, url, #url)
  set_headers(call, opts.headers, opts.json ~= nil)
  local body = opts.body
  if opts.json ~= nil then body = json.encode(opts.json) end
  if body then C.lw_api_call_body(call, body, #body) end
  local t = opts.timeout or no_timeout
  C.lw_api_call_timeouts(call, t.connect or 5, t.first_byte or 600, t.idle or 600, t.total or 0)
  return call
end

--- Calls a server: an answer once its head is there, or nil and one sentence ("cancelled" when the
--- task was). opts: headers, body or json, timeout = { connect = 5, first_byte = 600, idle = 600,
--- total = none } in seconds, 0 for none. Raises when used wrongly.
function model.open(method, url, opts, of_model)
  opts = opts or no_options
  if type(method) ~= "string" or type(url) ~= "string" then
    error("expected a method and a URL, got " .. base.show(method) .. " and " .. base.show(url), 3)
  end
  local mistake = schema.first_mistake(options_shape, opts)
  if mistake then error(mistake, 3) end
  local task = await.task()
  local call = begin_call(method, url, opts)
  if of_model then C.lw_api_call_of_model(call) end
  local code = answer.await_head(call)
  if code == OK then return answer.of_call(task, call, of_model) end
  local text = code == base.CANCELLED and "cancelled" or answer.error_text(call, code)
  C.lw_api_call_close(call)
  if of_model then task.model_error, task.model_unreachable = text, code == base.IO end
  return nil, text
end

local function request(method, path, opts)
  if not model.url then error("worker.model: only workers have a model server", 3) end
  if type(path) ~= "string" or path:sub(1, 1) ~= "/" then
    error("worker.model: expected a path that begins with /, got " .. base.show(path), 3)
  end
  local found, err = model.open(method, model.url .. path, opts, true)
  return found, err
end

--- opts as for model.open, and method = "GET".
function model.request(path, opts)
  local found, err = request(opts and opts.method or "GET", path, opts)
  return found, err
end

function model.get(path, opts)
  local found, err = request("GET", path, opts)
  return found, err
end

function model.post(path, opts)
  local found, err = request("POST", path, opts)
  return found, err
end

return model

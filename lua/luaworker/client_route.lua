-- SPDX-License-Identifier: MIT
-- How clients get a worker: they ask the autoscaler for a route and poll while no worker is free.
-- The answer is the auth_data that the worker wants to see. Called by `luaworker call` and by load
-- tests.
local base = require "luaworker.base"
local await = require "luaworker.await"
local json = require "luaworker.json"
local shot = require "luaworker.shot"

local client_route = {}

local plain = require("luaworker.load_text").plain
local now = base.C.lw_api_now
local POLL_S, CONNECT_S, CALL_S = 1, 5, 10
local BUSY = { [429] = true, [503] = true }

local Asker = {}
Asker.__index = Asker

--- url: the autoscaler's; key: the endpoint's own, or an account's; endpoint: its name.
function client_route.new(url, key, endpoint)
  return setmetatable({
    url = url .. "/route/", key = key, endpoint = endpoint,
    options = {
      headers = { ["Content-Type"] = "application/json", Authorization = "Bearer " .. key },
      timeout = { connect = CONNECT_S, total = CALL_S },
    },
  }, Asker)
end

--- What an answer says of when to come again, in seconds.
function client_route.retry_after(result)
  local seconds = tonumber(result:header "retry-after")
  return seconds and seconds >= 0 and seconds or POLL_S
end

-- One look: the route and its text as it came (some signatures are over its numbers as they are
-- spelled); or nil, why there is none, and after how many seconds to ask again: nil, never.
local function look(self, body)
  local result = shot.post(self.url, json.encode(body), self.options)
  if result.outcome ~= "ok" then return nil, result.error end
  local text = result:tail()
  if result.status ~= 200 then
    local why = ("the autoscaler answered %d: %s"):format(result.status, plain(text))
    return nil, why, BUSY[result.status] and client_route.retry_after(result) or nil
  end
  local route, wrong = json.decode(text)
  if type(route) ~= "table" then
    return nil, "the autoscaler's answer is not a JSON object: " .. tostring(wrong)
  end
  if type(route.url) == "string" and route.url ~= "" then
    route.url = route.url:gsub("/+$", "")
    return route, text
  end
  body.request_idx = route.request_idx or body.request_idx
  local status = type(route.status) == "string" and ": " .. plain(route.status) or ""
  return nil, "no worker is free" .. status, POLL_S
end

--- Asks until a worker is free, or until the moment `deadline`. give_up(why), called before each
--- wait, ends it when it returns true. Returns the route and its text, or nil and why not.
function Asker:get(cost, deadline, give_up)
  local body = {
    endpoint = self.endpoint, api_key = self.key, cost = cost, request_idx = 0,
    replay_timeout = 60,
  }
  while true do
    local route, text, wait_s = look(self, body)
    if route or not wait_s then return route, text end
    if give_up(text) or now() + wait_s > deadline then return nil, text end
    await.sleep(wait_s)
  end
end

--- The body of a request for the worker of this route. session_id: nil for none.
function client_route.envelope(route_text, payload_text, session_id)
  local session = session_id and ',"session_id":' .. json.encode(session_id) or ""
  return '{"auth_data":' .. route_text .. ',"payload":' .. payload_text .. session .. "}"
end

return client_route

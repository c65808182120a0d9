-- SPDX-License-Identifier: MIT
-- What a client does, step by step: ask the autoscaler for a worker, then post to that worker.
--   luaworker run examples/hello_world/client.lua -k KEY -e ENDPOINT [-l]
-- (`luaworker call` does the same for any worker.)
local worker = require "luaworker"
local cli = require "luaworker.cli"
local console = require "luaworker.client_console"
local http = require "luaworker.http"
local words = require "luaworker.words"

local options = cli.parse(arg, {
  usage = "luaworker run examples/hello_world/client.lua",
  { "key", "KEY", "the endpoint's API key", alias = "k", required = true },
  { "endpoint", "NAME", "the endpoint's name", alias = "e", default = "hello_world" },
  { "local", nil, "ask the autoscaler on this machine, " .. console.LOCAL, alias = "l" },
  { "autoscaler", "URL", "ask this one (default: " .. console.AUTOSCALER .. ")" },
})
local autoscaler = options.autoscaler or options["local"] and console.LOCAL or console.AUTOSCALER

-- Step 0: certificates of the cloud's workers are signed by its own root, which is fetched here.
cli.check(console.set_trust {
  production = autoscaler == console.AUTOSCALER, console = console.URL, key = options.key,
})

--- Step 1: a route. cost is the workload that the request will be, in the unit that the worker's
--- count_workload has: the autoscaler plans with it. While no worker is free the answer has no url.
local function get_route(cost)
  local ask = {
    endpoint = options.endpoint, api_key = options.key, cost = cost,
    request_idx = 0, -- a new request; asking again, the number that the first answer gave it
    replay_timeout = 60,
  }
  for _ = 1, 60 do
    local response = cli.check(http.post(autoscaler .. "/route/", {
      headers = { Authorization = "Bearer " .. options.key },
      json = ask,
    }))
    if response.status ~= 200 then
      cli.fail(1, "the autoscaler answered %d: %s", response.status, response:body())
    end
    local route = response:json() -- url, cost, endpoint, reqnum, request_idx, signature
    if route.url then return route end
    ask.request_idx = route.request_idx -- keeps our place
    io.stderr:write("waiting: ", tostring(route.status), "\n")
    worker.sleep(1)
  end
  cli.fail(1, "no worker became free in a minute")
end

--- Step 2: the request. The route goes along whole and as it came: its signature tells the worker
--- that the autoscaler sent us. One with too much to do answers 429 and says when to come again;
--- then another worker may be free, so the route is asked for anew.
local function call(path, payload)
  local route = get_route(worker.count_tokens(payload.prompt))
  local response = cli.check(http.post(route.url .. path, {
    json = { auth_data = route, payload = payload },
  }))
  if response.status == 429 then
    worker.sleep(tonumber(response.headers["retry-after"]) or 1)
    return call(path, payload)
  end
  if response.status ~= 200 then cli.fail(1, "%d: %s", response.status, response:body()) end
  return response
end

local payload = { prompt = words.sample(50), max_response_tokens = 40 }

-- An answer given whole.
print(call("/generate", payload):json().response)

-- An answer that comes token by token, as server-sent events.
for event in call("/generate_stream", payload):events() do
  if event.data ~= "[DONE]" then
    io.write(worker.json.decode(event.data).token)
    io.flush()
  end
end
print()

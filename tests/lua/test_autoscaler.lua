-- SPDX-License-Identifier: MIT
-- luaworker.autoscaler: routing by load, signed answers in the wire's shape, bounded memory.
local autoscaler = require "luaworker.autoscaler"
local check = require "check"

local clock = 1000

local function new_scaler(scheme)
  return autoscaler.new {
    scheme = scheme,
    endpoint = "hello_world",
    sign = function(text) return "signed " .. text end,
    now = function() return clock end,
  }
end

local function report(id, fields)
  local out = {
    id = id, mtoken = "", version = "1.1.0", loadtime = 3.5, new_load = 0, cur_load = 0,
    rej_load = 0, max_perf = 100, cur_perf = 0, error_msg = "", num_requests_working = 0,
    num_requests_recieved = 0, working_request_idxs = {}, additional_disk_usage = 0,
    cur_capacity = 0, max_capacity = 0, url = "http://10.0.0." .. id .. ":3000",
  }
  for name, value in pairs(fields or {}) do
    out[name] = value
  end
  return out
end

local function tell(scaler, ...)
  local status, value = scaler:worker_status(report(...))
  check.ok(status == 200 and value.ok == true, status)
end

local function ask(scaler, fields)
  local body = { endpoint = "hello_world", api_key = "k", cost = 10, request_idx = 0 }
  for name, value in pairs(fields or {}) do
    body[name] = value
  end
  local status, value = scaler:route(body)
  check.ok(status == 200, status)
  return value
end

do -- the answer has the wire's shape, and the signature is over the canonical text
  local scaler = new_scaler()
  tell(scaler, 1)
  local route = ask(scaler, { cost = "12.5" })
  check.eq(route.url, "http://10.0.0.1:3000")
  check.eq(route.signature, 'signed {\n    "url": "http://10.0.0.1:3000"\n}')
  check.eq(route.cost, "12.5")
  check.eq(route.endpoint, "hello_world")
  check.eq(route.reqnum, 1)
  check.eq(route.request_idx, 1)
  check.eq(type(route.__request_id), "string")
  local again = ask(scaler)
  check.eq(again.reqnum, 2)
  check.eq(again.request_idx, 2)
end

do -- each scheme signs its own fields, as json.dumps(indent=4) prints them
  local numbers = '"reqnum": 1,\n    '
  local text = {
    sorted = '{\n    "cost": 12.5,\n    "endpoint": "hello_world",\n    ' .. numbers
      .. '"request_idx": 1,\n    "url": "http://10.0.0.1:3000"\n}',
    legacy = '{\n    "cost": 12.5,\n    "endpoint": "hello_world",\n    ' .. numbers
      .. '"url": "http://10.0.0.1:3000"\n}',
  }
  for scheme, wanted in pairs(text) do
    local scaler = new_scaler(scheme)
    tell(scaler, 1)
    check.eq(ask(scaler, { cost = 12.5 }).signature, "signed " .. wanted)
  end
  local odd = { cost = "\xc3\xa9\x7f\"", endpoint = "e", reqnum = 2 ^ 53, url = "u" }
  check.eq(autoscaler.signed_text("legacy", odd), '{\n    "cost": "\\u00e9\\u007f\\"",\n'
    .. '    "endpoint": "e",\n    "reqnum": 9007199254740992,\n    "url": "u"\n}')
end

do -- no worker: no url, why, and a number that a later poll keeps
  local scaler = new_scaler()
  local route = ask(scaler)
  check.eq(route.url, nil)
  check.eq(route.status, "no worker has reported yet")
  check.eq(route.request_idx, 1)
  tell(scaler, 1, { loadtime = 0 })
  tell(scaler, 2, { error_msg = "out of memory" })
  tell(scaler, 3, { url = "" })
  route = ask(scaler, { request_idx = route.request_idx })
  check.eq(route.url, nil)
  check.eq(route.status, "no worker is ready: 1 loading, 1 in error, 1 without a URL")
  check.eq(route.request_idx, 1)
  tell(scaler, 1)
  route = ask(scaler, { request_idx = route.request_idx })
  check.eq(route.request_idx, 1)
  check.eq(route.reqnum, 1)
  check.eq(route.url, "http://10.0.0.1:3000")
end

do -- the least load in seconds of work wins, not the least load
  local scaler = new_scaler()
  tell(scaler, 1, { cur_load = 100, max_perf = 1000 })
  tell(scaler, 2, { cur_load = 50, max_perf = 100 })
  check.eq(ask(scaler, { cost = 0 }).url, "http://10.0.0.1:3000")
  tell(scaler, 1, { cur_load = 900, max_perf = 1000 })
  check.eq(ask(scaler, { cost = 0 }).url, "http://10.0.0.2:3000")
end

do -- a burst between two reports is spread; a report starts the count anew
  local scaler = new_scaler()
  for id = 1, 3 do
    tell(scaler, id)
  end
  local count = {}
  for _ = 1, 30 do
    local url = ask(scaler).url
    count[url] = (count[url] or 0) + 1
  end
  for id = 1, 3 do
    check.eq(count["http://10.0.0." .. id .. ":3000"], 10)
  end
  tell(scaler, 2)
  for _ = 1, 5 do
    check.eq(ask(scaler).url, "http://10.0.0.2:3000")
  end
end

do -- requests that cost nothing take turns
  local scaler = new_scaler()
  tell(scaler, 1)
  tell(scaler, 2)
  local first, second = ask(scaler, { cost = 0 }).url, ask(scaler, { cost = 0 }).url
  check.ok(first ~= second)
  check.eq(ask(scaler, { cost = 0 }).url, first)
end

do -- a silent worker is dropped after a minute, not before
  local scaler = new_scaler()
  tell(scaler, 1)
  clock = clock + 60
  check.ok(ask(scaler).url)
  clock = clock + 1
  check.eq(ask(scaler).status, "no worker has reported yet")
  check.eq(#scaler:list_workers(), 0)
end

do -- workers off the cloud are all number 0: the URL tells them apart
  local scaler = new_scaler()
  tell(scaler, 0, { url = "http://127.0.0.1:3000" })
  tell(scaler, 0, { url = "http://127.0.0.1:4000" })
  tell(scaler, 7)
  tell(scaler, 7, { url = "http://10.0.0.8:3000" })
  local list = scaler:list_workers()
  check.eq(#list, 3)
  check.eq(list[1].url, "http://10.0.0.8:3000")
  check.eq(list[1].id, 7)
  check.eq(list[1].status, "ready")
end

do -- requests that make no sense
  local scaler = new_scaler()
  check.eq(scaler:route {}, 422)
  local status, value = scaler:route { endpoint = "other" }
  check.eq(status, 404)
  check.eq(value.error, 'no endpoint is called "other" here; this one is "hello_world"')
  check.eq(scaler:worker_status {}, 422)
  check.eq(scaler:worker_status { id = 1 }, 422)
  local bad_urls = {
    "x", 'http://a"b', "http://a\\b", "http://a\nb", "http://a b", "http://\195\169", "ftp://a",
  }
  for _, url in ipairs(bad_urls) do
    check.eq(scaler:worker_status(report(1, { url = url })), 422)
  end
  check.eq(scaler:worker_status(report(1, { cur_load = "many" })), 422)
  check.eq(scaler:worker_status(report(1, { error_msg = 5 })), 422)
  check.eq(scaler.worker_count, 0)
end

do -- a signer that fails is an error, not an unsigned route
  local scaler = autoscaler.new {
    endpoint = "e", now = function() return clock end,
    sign = function() return nil, "no key" end,
  }
  tell(scaler, 1)
  local status, value = scaler:route { endpoint = "e" }
  check.eq(status, 500)
  check.eq(value.error, "no key")
end

do -- both forms of delete_requests
  local scaler = new_scaler()
  tell(scaler, 1)
  ask(scaler)
  ask(scaler)
  clock = clock + 2
  local ended = scaler:delete_requests {
    worker_id = 1,
    requests = {
      { request_idx = 1, success = true, status = "Cancelled" }, { request_idx = 99 }, 5,
    },
  }
  check.eq(#ended, 2)
  check.eq(ended[1].status, "Cancelled")
  check.eq(ended[1].seconds, 2)
  check.eq(ended[2].status, "Error")
  check.eq(ended[2].seconds, nil)
  check.eq(autoscaler.describe_ended({ worker_id = 1 }, ended[1]),
    "request 1 ended: Cancelled on worker 1, told 2.000 s after its route")
  check.eq(scaler.requests[1], nil)
  ended = scaler:delete_requests { request_idxs = { 2 }, success = true }
  check.eq(ended[1].status, "Success")
  check.eq(next(scaler.requests), nil)
  check.eq(#scaler:delete_requests {}, 0)
  check.eq(#scaler:delete_requests { requests = "x", request_idxs = 5 }, 0)
end

do -- memory is bounded, whatever clients and workers say
  local scaler = new_scaler()
  tell(scaler, 1)
  for _ = 1, 25000 do
    ask(scaler)
  end
  ask(scaler, { request_idx = 1 })
  ask(scaler, { request_idx = 1e9 })
  ask(scaler, { request_idx = -5 })
  ask(scaler, { request_idx = 24000.5 })
  local count = 0
  for _ in pairs(scaler.requests) do
    count = count + 1
  end
  check.ok(count <= 10000, count)
  for id = 2, 1000 do
    tell(scaler, id)
  end
  check.eq(scaler:worker_status(report(1001)), 503)
  tell(scaler, 500)
  clock = clock + 61
  tell(scaler, 1001)
  check.eq(scaler.worker_count, 1)
end

do -- the readable line
  check.eq(autoscaler.describe_report(report(3, { cur_load = 12.25, num_requests_recieved = 4 })),
    "worker 3 ready | load 12.25 (new 0, rejected 0) | perf 0 of 100 | working 0, received 4 | "
    .. "http://10.0.0.3:3000")
  check.ok(autoscaler.describe_report(report(3, { loadtime = 0 })):find "worker 3 loading")
  local line = autoscaler.describe_report(report(3, { error_msg = "bad\n\27[31mfile" }))
  check.ok(line:find("error: bad  [31mfile", 1, true), line)
end

do -- the endpoint's own key
  local found = new_scaler():list_endpoints().results[1]
  check.eq(found.endpoint_name, "hello_world")
  check.eq(type(found.api_key), "string")
  check.eq(type(found.id), "number")
end

check.done()

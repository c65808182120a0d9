-- SPDX-License-Identifier: MIT
-- Measuring a route: what its calls carry, which round counts, what becomes of failures. The model
-- is a server of this same program.
local check = require "check"
local worker = require "luaworker"
local base = require "luaworker.base"
local benchmark = require "luaworker.benchmark"
local route = require "luaworker.route"

local now = base.C.lw_api_now

local seen -- { body text, request id } of each call to the model
local behave

local model = worker.http.serve {
  routes = {
    worker.route("POST", "/m", function(request)
      seen[#seen + 1] = { request:body(), request.headers["x-request-id"], request.headers }
      return behave(request, #seen)
    end),
  },
}
local url = "http://127.0.0.1:" .. model.port

local function ok()
  return worker.json { done = true }
end

--- Measures a route with these options and hooks: workload/s, or nil and why, or nil, nil, raised.
local function measure(opts, hooks, answer)
  seen, behave = {}, answer or ok
  local entry = hooks or {}
  entry.label, entry.workload = "POST /a", entry.workload or route.DEFAULT_WORKLOAD
  local fine, rate, why = pcall(benchmark.run, "/a", opts, entry, function()
    return url .. (opts.endpoint or "/m")
  end)
  if fine then return rate, why end
  return nil, nil, tostring(rate)
end

local function bodies()
  local out = {}
  for i, one in ipairs(seen) do
    out[i] = one[1]
  end
  return table.concat(out, " ")
end

local function counter()
  local n = 0
  return function()
    n = n + 1
    return { n = n }
  end
end

do -- rounds and calls
  local rate, why = measure { benchmark = { generator = counter(), runs = 2 } }
  check.ok(rate and rate > 0, why)
  check.eq(#seen, 3, "one at a time: a warm-up and two rounds")
  check.eq(bodies(), '{"n":1} {"n":2} {"n":3}')
  check.eq(seen[1][2], "benchmark-1")
  check.eq(seen[3][2], "benchmark-3")
  check.eq(seen[1][3]["content-type"], "application/json")

  measure { benchmark = { generator = counter(), concurrency = 5, runs = 1, warmup = false } }
  check.eq(#seen, 1, "concurrency is for parallel routes")

  local parallel = { allow_parallel_requests = true }
  parallel.benchmark = { generator = counter() }
  measure(parallel)
  check.eq(#seen, 81, "1 + 8 * 10")
  parallel.benchmark = { generator = counter(), runs = 3, concurrency = 4, warmup = false }
  measure(parallel)
  check.eq(#seen, 12)
end

do -- side by side: the second call is answered before the first
  local order = {}
  local rate = measure({
    allow_parallel_requests = true,
    benchmark = { generator = counter(), runs = 1, concurrency = 2, warmup = false },
  }, nil, function(_, n)
    for _ = 1, n == 1 and 3000 or 0 do
      if #order > 0 then break end
      worker.sleep(0.01)
    end
    order[#order + 1] = n
    return "ok"
  end)
  check.ok(rate > 0)
  check.eq(table.concat(order, " "), "2 1")
end

do -- the best round
  local spec = { generator = counter(), runs = 3, warmup = true }
  local came, answered = {}, {}
  local rate = measure({ benchmark = spec }, { workload = 10 }, function(_, n)
    came[n] = now()
    worker.sleep(({ 0, 1, 0.02, 1 })[n])
    answered[n] = now()
    return "ok"
  end)
  check.ok(rate <= 10 / 0.02, "the warm-up does not count: " .. rate)
  check.ok(rate >= 10 / (came[4] - answered[2]), "the second round does: " .. rate)
end

do -- where payloads come from
  local dataset = { { n = 1 }, { n = 2 } }
  measure { benchmark = { dataset = dataset, runs = 2 } }
  check.eq(bodies(), '{"n":1} {"n":2} {"n":1}', "in turn")
  measure {
    benchmark = { dataset = dataset, generator = counter(), runs = 1, warmup = false },
    make_benchmark_payload = error,
  }
  check.eq(bodies(), '{"n":1}', "the generator goes first")
  local Input = worker.payload { n = "integer", s = { "string", default = "d" } }
  function Input.for_test() return Input { n = 7 } end
  measure {
    payload = Input, make_benchmark_payload = function() return { n = 8 } end,
    benchmark = { runs = 1, warmup = false },
  }
  check.eq(bodies(), '{"n":8}', "this route has no from_json_msg")
  measure({ payload = Input, benchmark = { runs = 1, warmup = false } },
    { from_json_msg = error, generate_payload_json = function(self) return self end })
  check.ok(bodies() == '{"n":7,"s":"d"}' or bodies() == '{"s":"d","n":7}', bodies())
end

do -- the hooks of requests
  local Input = worker.payload { n = "integer" }
  local hooks = {
    request_parser = function(message) return { n = message.number } end,
    from_json_msg = Input.from_json_msg,
    count_workload = function(one) return one.n * 2 end,
    generate_payload_json = function(one) return '{"made":' .. one.n .. "}" end,
  }
  local dataset = { { number = 4 } }
  local rate = measure({
    payload = Input, benchmark = { dataset = dataset, runs = 2 },
  }, hooks, function()
    worker.sleep(0.05)
    return "ok"
  end)
  check.eq(bodies(), '{"made":4} {"made":4} {"made":4}')
  check.ok(rate > 0 and rate <= 8 / 0.05, rate)
  check.eq(dataset[1].number, 4, "the dataset is as it was")

  hooks.count_workload = function() return 0 / 0 end
  local begun = now()
  rate = measure({ payload = Input, benchmark = { dataset = dataset, runs = 1 } }, hooks,
    function()
      worker.sleep(0.05)
      return "ok"
    end)
  check.ok(rate >= 100 / (now() - begun) and rate <= 100 / 0.05, "100 is counted: " .. rate)
end

do -- hooks that fail are named
  local function raised(hooks, spec)
    local rate, why, err = measure({ benchmark = spec or { generator = counter() } }, hooks)
    check.ok(rate == nil and why == nil)
    check.eq(#seen, 0, "the model was not asked")
    return err
  end
  local function boom() error "boom" end
  local function named(err, hook)
    local pattern = "^hook " .. hook .. " %(.*test_benchmark%.lua:(%d+)%): .*lua:(%d+): boom$"
    local defined, raised_at = err:match(pattern)
    check.ok(defined and defined == raised_at, err)
  end
  named(raised({}, { generator = boom }), "generator")
  check.has(raised({}, { generator = function() end }), "expected a payload, got nil")
  named(raised { request_parser = boom }, "request_parser")
  named(raised { from_json_msg = boom }, "from_json_msg")
  named(raised { generate_payload_json = boom }, "generate_payload_json")
  check.has(raised { generate_payload_json = function() return 5 end },
    "returned number 5, expected a table or JSON text")
  check.has(raised { generate_payload_json = function() return { print } end },
    "hook generate_payload_json")
  check.has(raised { from_json_msg = function() return worker.invalid { n = "missing" } end },
    "invalid payload: n: missing")
  check.has(raised { from_json_msg = function() error(worker.invalid { n = "odd" }) end },
    "invalid payload: n: odd")
  check.has(raised { request_parser = function() end }, "made no payload of it")
end

do -- a model that fails
  local spec = { generator = counter(), runs = 3 }
  local function fails(answer, text)
    local rate, why = measure({ benchmark = spec }, nil, answer)
    check.eq(rate, nil)
    check.has(why, "No successful responses from benchmark: ")
    check.has(why, text)
    check.eq(#seen, 2, "after the warm-up, the first such round is the last")
  end
  fails(function() return worker.json({ error = "no memory" }, 500) end,
    'the model answered 500: {"error":"no memory"}')
  fails(function() return worker.response { status = 201 } end, "the model answered 201")
  fails(function() error "inside" end, "the model answered 500")
  fails(function()
    local stream = worker.stream {}
    stream:write "half"
    error "broken off"
  end, "model http://127.0.0.1:")
  local rate, why = measure { endpoint = "/other", benchmark = spec }
  check.eq(rate, nil)
  check.has(why, "the model answered 404")
  rate, why = measure { benchmark = { generator = counter() }, first_byte = 30 }
  check.ok(rate, why)
  rate, why = measure({ benchmark = spec, first_byte = 0.05 }, nil, function()
    worker.sleep(0.5)
    return "late"
  end)
  check.eq(rate, nil)
  check.has(why, "No successful responses from benchmark: model http://")
end

do -- some calls fail: the others count
  local rate, why = measure({
    allow_parallel_requests = true,
    benchmark = { generator = counter(), runs = 1, concurrency = 4, warmup = false },
  }, { workload = 10 }, function(_, n)
    worker.sleep(0.1)
    return n > 2 and worker.json({}, 503) or worker.json {}
  end)
  check.ok(rate, why)
  check.ok(rate <= 20 / 0.1, "the workload of two: " .. tostring(rate))
end

do -- no workload at all
  local rate, why = measure({ benchmark = { generator = counter(), runs = 2 } },
    { count_workload = function() return 0 end })
  check.eq(rate, nil)
  check.has(why, "counted as 0")
end

do -- a round that does not end, and a server that is not there
  local spec = { generator = counter(), runs = 1, warmup = false, timeout = 0.1 }
  local _, _, err = measure({ benchmark = spec }, nil, function()
    worker.sleep(5)
    return "late"
  end)
  check.has(err, "1 of 1 calls were not answered within 0.1 s")
  local old = url
  url = "http://127.0.0.1:1"
  spec.timeout = 1.2
  local begun = os.time()
  local rate, why = measure { benchmark = spec }
  url = old
  check.eq(rate, nil)
  check.has(why, "No successful responses from benchmark: model http://127.0.0.1:1")
  check.ok(os.time() - begun < 60)
end

do -- remote functions
  local function remote_of(f, more)
    local spec = { generator = counter(), runs = 2, warmup = false }
    for key, value in pairs(more or {}) do
      spec[key] = value
    end
    return measure({ benchmark = spec }, { remote = f, workload = 5 })
  end
  local got = {}
  local rate = remote_of(function(one, request)
    got[#got + 1] = { one.n, request.id, request:json().n, request.path, request:body() }
    return { fine = true }
  end)
  check.ok(rate > 0)
  check.eq(#got, 2)
  check.eq(table.concat(got[2], " "), '2 benchmark-2 2 /a {"n":2}')
  check.eq(#seen, 0)
  check.ok(remote_of(function()
    local stream = worker.stream { content_type = "text/plain" }
    stream:write "a"
    stream:finish()
    return stream
  end) > 0, "nobody reads the stream")
  check.ok(remote_of(function() return worker.http.get(url .. "/m", { method = nil }) end) == nil,
    "405 is no success")
  check.ok(remote_of(function() return worker.http.post(url .. "/m") end) > 0)
  check.eq(#seen, 2)
  local _, why = remote_of(function() error "boom" end)
  check.has(why, "No successful responses from benchmark: hook remote (")
  check.has(why, "boom")
  _, why = remote_of(function() return worker.json({}, 503) end)
  check.has(why, "remote answered 503")
  _, why = remote_of(function() return nil, "not today" end)
  check.has(why, "not today")
  check.ok(remote_of(function() end) > 0, "nothing is an answer")
end

check.done()

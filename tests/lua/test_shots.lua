-- SPDX-License-Identifier: MIT
-- Shots at a port of this very program, percentiles and moments, in all modes of the JIT and the
-- collector. What shots measure is proven in tests/e2e/test_shots.py.
local check = require "check"
local worker = require "luaworker"
local await = require "luaworker.await"
local base = require "luaworker.base"
local shot = require "luaworker.shot"

local ffi, C, now = base.ffi, base.C, base.C.lw_api_now

local function new_quantile()
  return { handle = ffi.gc(C.lw_api_quantile_new(), C.lw_api_quantile_free) }
end

do -- percentiles
  local q = new_quantile().handle
  check.eq(C.lw_api_quantile_at(q, 0.5), 0)
  for i = 1, 1000 do
    C.lw_api_quantile_note(q, i / 1000)
  end
  C.lw_api_quantile_note(q, -1)
  C.lw_api_quantile_note(q, 0 / 0)
  check.eq(C.lw_api_quantile_count(q), 1002)
  check.eq(C.lw_api_quantile_min(q), 0)
  check.eq(C.lw_api_quantile_max(q), 1)
  check.ok(math.abs(C.lw_api_quantile_sum(q) - 500.5) < 1e-6)
  check.ok(math.abs(C.lw_api_quantile_at(q, 0.9) - 0.9) < 0.005)
  local other, cursor = new_quantile().handle, ffi.new "size_t[1]"
  local bucket, count, last = ffi.new "lw_quantile_bucket", 0, -1
  C.lw_api_quantile_note(other, 7000)
  C.lw_api_quantile_merge(q, other)
  check.eq(C.lw_api_quantile_max(q), 7000)
  while C.lw_api_quantile_next(q, cursor, bucket) ~= 0 do
    check.ok(bucket.lower > last and bucket.upper > bucket.lower and bucket.count > 0)
    count, last = count + bucket.count, bucket.lower
  end
  check.eq(count, 1003)
  C.lw_api_quantile_clear(q)
  check.eq(C.lw_api_quantile_count(q), 0)
  C.lw_api_quantile_note(q, 1e300)
  check.ok(C.lw_api_quantile_at(q, 1) > 1e8)
end

do -- moments
  local moment = now() + 0.02
  await.sleep_until(moment)
  check.ok(now() >= moment)
  local before = now()
  for _ = 1, 100 do
    await.sleep_until(before)
    await.sleep_until(-1)
    await.sleep_until(0 / 0)
  end
  check.ok(now() - before < 5)
  local ended = {}
  for i = 3, 1, -1 do
    worker.spawn(function()
      await.sleep_until(before + 0.05 + i * 0.02)
      ended[#ended + 1] = i
    end)
  end
  await.sleep_until(before + 0.2)
  while #ended < 3 do
    worker.sleep(0.01)
  end
  check.eq(table.concat(ended), "123")
end

local server = worker.http.serve {
  routes = {
    worker.post("/echo", function(request)
      return worker.response {
        status = 429, body = request:body(), headers = { ["Retry-After"] = "3", ["X-A"] = "b" },
      }
    end),
    worker.post("/events", function()
      local client = worker.stream { content_type = "text/event-stream" }
      for i = 1, 5 do
        client:write(("data: %d\n\n"):format(i))
        worker.sleep(0.003)
      end
      client:write "data: [DONE]\n\n"
      return client
    end),
    worker.get("/never", function() worker.sleep(3600) end),
  },
}
local root = ("http://127.0.0.1:%d"):format(server.port)

do -- a whole answer
  local options = { timeout = { connect = 5, total = 60 }, keep = { "x-a", "x-none" } }
  for i = 1, 50 do
    local text = ("%d "):format(i):rep(i)
    local r = shot.post(root .. "/echo", text, options)
    check.eq(r.outcome, "ok")
    check.eq(r.status, 429)
    check.eq(r:tail(), text)
    check.eq(r:header "retry-after", "3")
    check.eq(r:header "x-a", "b")
    check.eq(r:header "x-none", nil)
    check.eq(r.error, nil)
    check.eq(r.bytes, #text)
    check.eq(r.reused, i > 1)
    check.ok(r.started <= r.sent and r.sent <= r.head and r.head <= r.first, "moments")
    check.ok(r.first <= r.last and r.last <= r.ended and r.ended <= now(), "moments")
  end
end

do -- events of many at once; the gaps of all
  local gaps, over = new_quantile(), 0
  local options = { gaps = gaps, headers = { ["X-One"] = 1 } }
  for i = 1, 100 do
    worker.spawn(function()
      local host = i % 2 == 0 and root or root:gsub("127.0.0.1", "localhost")
      local r = shot.post(host .. "/events", "{}", options)
      check.eq(r.outcome, "ok", r.error)
      check.eq(r.events, 5)
      check.eq(r.gaps, 4)
      check.ok(r.is_stream and r.longest_gap > 0)
      over = over + 1
    end)
  end
  while over < 100 do
    collectgarbage()
    worker.sleep(0.005)
  end
  check.eq(C.lw_api_quantile_count(gaps.handle), 400)
end

do -- failures
  local r = shot.request("GET", root .. "/never", nil, { timeout = 0.05 })
  check.eq(r.outcome, "timeout")
  check.has(r.error, "did not finish its answer within 50 ms")
  check.eq(r:tail(), "")
  check.eq(r.head, 0)
  r = shot.post("http://127.0.0.1:1/", "x")
  check.eq(r.outcome, "connect")
  check.has(check.raises(shot.post, root, "x", { headers = { ["A B"] = "c" } }), "A B")
end

do -- shared bodies and plans outlive their owners' interest
  local plan, text = C.lw_api_plan_new("POST", 4), ("y"):rep(100000)
  local body = C.lw_api_body_new(text, #text)
  local url, shots = root .. "/echo", {}
  for i = 1, 10 do
    shots[i] = C.lw_api_shot_fire_body(plan, url, #url, body)
  end
  C.lw_api_body_free(body)
  C.lw_api_plan_free(plan)
  for i = 1, 10 do
    while C.lw_api_shot_wait(shots[i]) == base.AGAIN do
      await.wait()
    end
    check.eq(C.lw_api_shot_result(shots[i]).bytes, #text)
    C.lw_api_shot_tail(shots[i], base.span)
    check.eq(base.text(base.span), text:sub(1, 16384))
    if i % 2 == 0 then C.lw_api_shot_free(shots[i]) end -- the others are freed with the task
  end
end

check.done()

-- SPDX-License-Identifier: MIT
-- Handlers and calls over a real port of this very program: what handlers see, what becomes of what
-- they return, how answers are read.
local check = require "check"
local worker = require "luaworker"

local kept -- a request and a stream after their end
local spawned_with

local function stream_of(...)
  local client = worker.stream {
    content_type = "text/event-stream", headers = { ["X-Many"] = { "1", "2" } },
  }
  for _, piece in ipairs { ... } do
    client:write(piece)
  end
  return client
end

local handlers = {
  text = function() return "pong" end,
  json = function() return worker.json({ list = worker.json.array {}, n = 1 }, 201) end,
  response = function()
    return worker.response {
      status = 404, headers = { ["X-A"] = "b" }, body = "gone", content_type = "text/x",
    }
  end,
  empty = function() return worker.response { status = 204 } end,
  see = function(request)
    return worker.json {
      method = request.method, path = request.path, query = request.query,
      a = request.headers["x-a"], body = request:body(), id_length = #request.id,
      remote = request.remote_addr,
      session = tostring(request.session),
    }
  end,
  parse = function(request)
    local value, err = request:json()
    return worker.json { value = value or worker.json.null, err = err }
  end,
  stream = function() return stream_of("a", "", "b\n", "c") end,
  stream_without_return = function() stream_of("x") end,
  events = function()
    return stream_of("data: 1\r", "\n\r\nevent: e\nid: 7\ndata: 2\n", "data\n\n")
  end,
  sleep = function()
    worker.sleep(0.001)
    local each = coroutine.wrap(function()
      for i = 1, 3 do
        worker.sleep(0.001)
        coroutine.yield(i)
      end
    end)
    return tostring(each() + each() + each())
  end,
  keep = function(request)
    local client = worker.stream {}
    kept = { request = request, client = client, path = request.path }
    client:write "x"
    return client
  end,
  spawn = function()
    worker.spawn(function(...) spawned_with = { n = select("#", ...), ... } end, 1, nil, "c", nil)
    return "ok"
  end,
  long = function() return ("z"):rep(3000000) end,
  boom = function() error "boom" end,
  table = function() return {} end,
  nothing = function() end,
  bad_header = function() return worker.response { headers = { ["a\nb"] = "x" } } end,
  cut = function()
    worker.stream({}):write "partial"
    error "late"
  end,
  base64 = function(request) return worker.base64.encode(request:body()) end,
}

local routes = {}
for name, handler in pairs(handlers) do
  routes[#routes + 1] = worker.get("/" .. name, handler)
  routes[#routes + 1] = worker.post("/" .. name, handler)
end
local server = worker.http.serve { routes = routes }
local url = ("http://127.0.0.1:%d/"):format(server.port)

local function get(name)
  local answer, err = worker.http.get(url .. name)
  check.ok(answer, ("GET /%s: %s"):format(name, tostring(err)))
  return answer
end

do -- kinds of answers
  local answer = get "text"
  check.eq(answer.status, 200)
  check.eq(answer.content_type, "text/plain; charset=utf-8")
  check.eq(answer:body(), "pong")
  check.eq(answer:body(), "pong", "twice")
  answer = get "json"
  check.eq(answer.status, 201)
  check.eq(answer.headers["content-type"], "application/json")
  local value = answer:json()
  check.eq(value.n, 1)
  check.ok(worker.json.is_array(value.list), "an empty array stays one")
  check.eq(answer:json().n, 1, "twice")
  answer = get "response"
  check.eq(answer.status, 404)
  check.eq(answer.content_type, "text/x")
  check.eq(answer.headers["x-a"], "b")
  check.eq(answer:body(), "gone")
  answer = get "empty"
  check.eq(answer.status, 204)
  check.eq(answer:body(), "")
end

do -- what a handler sees
  local answer = assert(worker.http.post(url .. "see?a=1&b=x%20y&a=2&flag", {
    headers = { ["X-A"] = { "p", "q" } }, body = "bytes\0more",
  }))
  local seen = answer:json()
  check.eq(seen.method, "POST")
  check.eq(seen.path, "/see")
  check.eq(seen.query.a, "2")
  check.eq(seen.query.b, "x y")
  check.eq(seen.query.flag, "")
  check.eq(seen.a, "p, q")
  check.eq(seen.body, "bytes\0more")
  check.ok(seen.id_length > 0)
  check.has(seen.remote, "127.0.0.1")
  check.eq(seen.session, "nil")
end

do -- JSON that a client sent
  local answer = assert(worker.http.post(url .. "parse", { json = { a = { 1, 2 } } }))
  check.eq(answer:json().value.a[2], 2)
  answer = assert(worker.http.post(url .. "parse", { body = "{" }))
  local said = answer:json()
  check.eq(said.value, worker.json.null)
  check.ok(type(said.err) == "string")
end

do -- streams, read in each way
  local answer = get "stream"
  check.eq(answer.content_type, "text/event-stream")
  check.eq(answer.headers["x-many"], "1, 2")
  local all = {}
  for chunk in answer:chunks() do
    all[#all + 1] = chunk
  end
  check.eq(table.concat(all), "ab\nc")
  all = {}
  for line in get("stream"):lines() do
    all[#all + 1] = line
  end
  check.eq(table.concat(all, "|"), "ab|c")
  all = {}
  for event in get("events"):events() do
    all[#all + 1] = ("%s %s %s"):format(event.event, tostring(event.id), event.data)
  end
  check.eq(table.concat(all, "|"), "message nil 1|e 7 2\n")
  check.eq(get("stream_without_return"):body(), "x")
  check.eq(#get("long"):body(), 3000000)
end

do -- waiting, inside a coroutine of the handler's own too
  check.eq(get("sleep"):body(), "6")
end

do -- handles are dead after their request
  check.eq(get("keep"):body(), "x")
  check.eq(kept.path, "/keep")
  check.has(check.raises(function() return kept.request.id end), "the request has ended")
  check.has(check.raises(function() return kept.request:body() end), "the request has ended")
  check.has(check.raises(function() kept.client:write "y" end), "the request has ended")
end

do -- spawned tasks
  get("spawn"):body()
  worker.sleep(0.01)
  check.eq(spawned_with and spawned_with.n, 4)
  check.eq(spawned_with and spawned_with[3], "c")
end

do -- failures answer 500 and tell clients nothing of the inside
  for _, name in ipairs { "boom", "table", "nothing", "bad_header" } do
    local answer = get(name)
    check.eq(answer.status, 500, name)
    local said = answer:json()
    check.eq(said.source, "script", name)
    check.eq(said.error, "the worker script failed in handler; its log says how, under request "
      .. answer.headers["x-request-id"], name)
  end
  local ok, err = pcall(function() return get("cut"):body() end)
  check.eq(ok, false, "a cut answer is never whole: " .. tostring(err))
  check.eq(get("text"):body(), "pong", "and the program goes on")
end

do -- calls that can't succeed, and calls used wrongly
  local answer, err = worker.http.get "http://127.0.0.1:1/"
  check.eq(answer, nil)
  check.has(err, "127.0.0.1:1")
  answer, err = worker.http.get(url .. "text", { timeout = { total = 0.001, connect = 0.001 } })
  check.ok(answer or type(err) == "string")
  check.has(check.raises(worker.http.get, url, { timeuot = {} }), 'did you mean "timeout"?')
  check.has(check.raises(worker.http.get, 5), "expected a method and a URL")
  answer = get "text"
  answer:close()
  answer:close()
  check.has(check.raises(answer.body, answer), "this answer was closed")
  answer = get "stream"
  answer:chunks()
  check.has(check.raises(answer.body, answer), "read in pieces")
  check.has(check.raises(worker.stream), "there is no request to answer")
  check.has(check.raises(worker.model.get, "/"), "only workers have a model server")
end

do -- answers that nobody keeps are closed by the collector
  for _ = 1, 50 do
    get "stream"
  end
  collectgarbage()
  collectgarbage()
  check.eq(get("text"):body(), "pong")
end

do -- what reads for streams follows no handle that is not of a call of this task
  local direct, base = require "luaworker.direct", require "luaworker.base"
  local answer = get "stream"
  local dead = base.ffi.cast("struct lw_call *", answer._call.call)
  answer:close()
  local stranger = base.ffi.cast("struct lw_call *", 8)
  for _, handle in ipairs { false, "text", {}, 7LL, base.ffi.new "int8_t", stranger, dead } do
    local piece, code = direct.call_read(handle)
    check.eq(piece, nil)
    check.eq(code, base.MISUSE)
  end
  local read = get("stream"):chunks()
  check.has(check.raises(read, 5), "expected an answer of a server")
  check.has(check.raises(read, {}), "expected an answer of a server")
  check.has(check.raises(read, answer), "this answer was closed")
end

do -- odds and ends
  local answer = assert(worker.http.post(url .. "base64", { body = "\0\1\2\255" }))
  check.eq(answer:body(), "AAEC/w==")
  check.eq(worker.base64.decode "AAEC/w==", "\0\1\2\255")
  check.eq(worker.base64.decode "AAEC/w=", nil)
  check.eq(worker.env("NO_SUCH_VARIABLE", 5), 5)
  local text = worker.file.read("check.lua", { below = arg[0]:match "^(.*)/" or "." })
  check.eq(text:sub(1, 7), "-- SPDX")
  check.eq(worker.file.read("../check.lua", { below = "tests" }), nil)
  check.eq(worker.file.read("/etc/passwd", { below = "/" }), nil)
  check.ok(worker.count_tokens "one two three" >= 3)
end

check.done()

-- SPDX-License-Identifier: MIT
-- Calls functions of the worker's and the standard library at random, with random values, in every
-- place where a script can run: for scripts that script_fuzz.py makes. What it calls raises mostly;
-- what it must never do is crash the process. The same seed makes the same choices.
local worker = require "luaworker"
local words = require "luaworker.words"

local random = math.random
local kept, kept_count, KEPT_MAX = {}, 0, 48
local monkey = { model = "http://127.0.0.1:1", loops = false, calls = 0 }

-- A thing to come back to: a handle of this request in a later one, another task's, a dead one.
local function keep(value)
  if value == nil then return end
  kept_count = kept_count + 1
  kept[kept_count <= KEPT_MAX and kept_count or random(KEPT_MAX)] = value
  return value
end

local function one_of(list)
  return list[random(#list)]
end

-- Values

local function cyclic()
  local t = { name = "round" }
  t[1], t.self = t, t
  return t
end

local function deep()
  local t = {}
  for _ = 1, one_of { 10, 600, 20000 } do
    t = { t }
  end
  return t
end

local function strange()
  local meta = {
    __index = one_of { function(_, key) return key end, function() error "no such field" end },
    __tostring = one_of {
      function() return 5 end, function() return {} end, function() error {} end,
      function() worker.sleep(0.001) return "slept" end,
    },
    __call = function() return monkey.act() end,
    __len = function() return 1e9 end,
    __eq = function() return true end,
    __concat = function() return {} end,
    __newindex = function() error "fixed" end,
  }
  return setmetatable({ body = 5, status = "x", headers = 1 }, meta)
end

local numbers = {
  0, 1, -1, 2, 3, 0.5, 200, 204, 304, 404, 599, 1e3, 65536, 2 ^ 31, -2 ^ 31, 2 ^ 32, 2 ^ 53,
  2 ^ 63, 1e308, 1 / 0, -1 / 0, 0 / 0,
}
local texts = {
  "", "x", "\0", "\255\254", "a\r\nb: c", "GET", "POST", "/", "/echo", "/events?x=1", "%s%d%q",
  "..", "count", "k", "n", "string?", "[1,2", '{"a":1,"a":[{}],"b":1.0}', "[9007199254740993]",
  "data: x\n\ndata: [DONE]\n\n", "http://127.0.0.1:1/", "http://", "unix:/nowhere:/x", "*a", "rb",
  "content-type", "Content-Length", "Transfer-Encoding", ("x"):rep(100000), ("["):rep(5000),
}

local function fields()
  return {
    status = one_of { 200, 201, 204, 304, 404, 500, 42, "200", 0 / 0 },
    headers = one_of {
      { ["X-A"] = "b" }, { ["X-A"] = { "b", "c" } }, { ["bad name"] = "x" }, { [5] = 5 },
      { ["Content-Length"] = "3" }, { ["X"] = "a\nb" }, 5, cyclic(), { cyclic() }, {},
    },
    content_type = one_of { "text/event-stream", "a\nb", 5 },
    body = one_of { "text", ("b"):rep(300000), 5, {} },
  }
end

local function call_options()
  return {
    method = one_of { "GET", "POST", "HEAD", "X Y", 5 },
    url = monkey.model .. one_of { "/echo", "/stream", "/cut" },
    headers = one_of { { A = "b" }, { ["a b"] = "c" }, { A = {} }, cyclic(), 7 },
    body = one_of { "body", ("y"):rep(200000), 5 },
    json = one_of { { a = 1 }, 0 / 0, cyclic(), { 1, nil, 3 } },
    timeout = one_of {
      { total = 0.05 }, { first_byte = 0.02 }, { connect = 1e300 }, { idle = -1 }, {}, 5,
    },
  }
end

-- Only some of a table's fields: with all of them nearly every table has a wrong one.
local function some(make)
  return function()
    local out = {}
    for key, value in pairs(make()) do
      if random(3) == 1 then out[key] = value end
    end
    return out
  end
end

local function co_of(f)
  return keep(coroutine.create(f))
end

local makers = {
  function() return nil end,
  function() return random(2) == 1 end,
  function() return one_of(numbers) end,
  function() return one_of(numbers) end,
  function() return one_of(texts) end,
  function() return one_of(texts) end,
  function() return monkey.model .. one_of { "/echo", "/stream", "/events", "/cut", "/slow" } end,
  function() return {} end,
  function() return { one_of(numbers), one_of(texts), {} } end,
  function() return { 1, nil, 3, nil, 5 } end,
  some(fields), some(call_options), cyclic, deep, strange,
  function() return worker.json.null end,
  function() return worker.json.decode "[9007199254740993, 18446744073709551615, 1]"[random(3)] end,
  function() return worker.json.decode '{"a":[],"b":{},"c":"\\u00e9","d":1.0}' end,
  function() return function(...) return ... end end,
  function() return function() error(monkey.any()) end end,
  function() return function() worker.sleep(0.001) return monkey.any() end end,
  function() return function() coroutine.yield(monkey.any()) return monkey.act() end end,
  function() return monkey.act end,
  function() return co_of(monkey.act) end,
  function() return coroutine.running() end,
  function() return io.open("monkey.lua") end,
  function() return one_of(kept) end, function() return one_of(kept) end,
  function() return one_of(kept) end, function() return one_of(kept) end,
}

function monkey.any()
  if kept_count == 0 then return one_of(texts) end
  return one_of(makers)()
end
local any = monkey.any

-- Functions

local function functions_of(into, name, t, ...)
  local without = {}
  for _, key in ipairs { ... } do
    without[key] = true
  end
  for key, value in pairs(t) do
    if type(value) == "function" and not without[key] then
      into[#into + 1] = { name = name .. tostring(key), f = value }
    end
  end
end

local ours, standard = {}, {}
functions_of(ours, "worker.", worker, "sleep")
for _, name in ipairs { "json", "http", "model", "log", "base64", "file" } do
  functions_of(ours, "worker." .. name .. ".", worker[name])
end
functions_of(ours, "words.", words, "sample")
ours[#ours + 1] = { name = "worker.json", f = worker.json }
ours[#ours + 1] = { name = "words.sample", f = function(n, ...)
  return words.sample(type(n) == "number" and n % 50 or n, ...)
end }
ours[#ours + 1] = { name = "worker.sleep", f = function(n)
  return worker.sleep(type(n) == "number" and n > 0 and math.min(n, 0.01) or n)
end }

-- Without what only makes the run long, ends all at once, or leaves files behind.
functions_of(standard, "", _G, "print", "monkey", "loadfile", "dofile")
functions_of(standard, "string.", string, "rep")
functions_of(standard, "table.", table)
functions_of(standard, "os.", os, "remove", "rename", "tmpname")
functions_of(standard, "io.", io, "open", "lines", "tmpfile")
functions_of(standard, "coroutine.", coroutine)
functions_of(standard, "debug.", debug)
standard[#standard + 1] = { name = "string.rep", f = function(s, n)
  return string.rep(s, type(n) == "number" and n % 1000 or n)
end }

local methods = {
  "body", "json", "chunks", "lines", "events", "close", "read_to_end", "write", "finish",
}
local members = {
  "method", "path", "query", "query_string", "headers", "payload", "session", "id", "remote_addr",
  "status", "content_type", "_call", "fields", "opts", "text",
}

local function call_function(list)
  local one = one_of(list)
  return one.f(any(), any(), any(), any())
end

local function call_method()
  local object = one_of(kept)
  if random(6) == 1 then -- of another kind of object
    local f = one_of(kept)[one_of(methods)]
    return f(object, any())
  end
  return object[one_of(methods)](object, any(), any())
end

local function look()
  return one_of(kept)[one_of(members)]
end

local function meddle()
  local object = one_of(kept)
  if random(2) == 1 then
    object[one_of(members)] = any()
  else
    object[any()] = any()
  end
end

-- What copies a handle holds on to its inside.
local function copy()
  local object, out = one_of(kept), {}
  for key, value in pairs(object) do
    out[key] = value
  end
  return setmetatable(out, getmetatable(object))
end

local function read_some()
  local object, n = one_of(kept), 0
  for piece in object[one_of { "chunks", "lines", "events" }](object) do
    keep(piece)
    n = n + 1
    if random(4) == 1 then monkey.act() end
    if n > 10 then break end
  end
end

local function iterate()
  local object = one_of(kept)
  local f, state, first = object[one_of { "chunks", "lines", "events" }](object)
  keep(f)
  keep(state)
  return f(random(3) == 1 and any() or state, first)
end

-- Places

local places = {
  function(f) return pcall(f) end,
  function(f) return xpcall(f, monkey.act) end,
  function(f) return xpcall(f, debug.traceback) end,
  function(f) return select(2, coroutine.resume(co_of(f), any())) end,
  function(f) return coroutine.wrap(f)(any()) end,
  function(f) return coroutine.resume(one_of(kept), f) end,
  function(f) table.sort({ 3, 1, 2, 4 }, function(a, b) f() return a < b end) end,
  function(f) return ("a b c"):gsub("%a", f) end,
  function(f) return setmetatable({}, { __index = f }).x end,
  function(f) return tostring(setmetatable({}, { __tostring = f })) end,
  function(f) return worker.json.encode(setmetatable({}, { __index = f, __len = f })) end,
  function(f) return load(f)() end,
  function(f) worker.spawn(f, any()) end,
  function(f) worker.spawn(monkey.run, 3, f) end,
  function(f) return f() end,
  function(f) f() f() end,
}

local acts = {
  function() return call_function(ours) end,
  function() return call_function(ours) end,
  function() return call_function(standard) end,
  call_method, call_method, call_method, look, copy, read_some, iterate, meddle,
  function() return one_of(kept)(any(), any()) end,
  function() return keep(worker.stream(some(fields)())) end,
  function() return keep(worker.http.get(monkey.model .. one_of { "/echo", "/stream", "/cut" })) end,
  function() return keep(worker.model.get(one_of { "/echo", "/stream", "/events", "/cut" })) end,
  function() monkey_global = any() end,
  function() error(any()) end,
  function() error(worker.invalid(any())) end,
}

local depth = 0

--- One random act, now and then in a place of its own. Raises what comes.
function monkey.act()
  monkey.calls = monkey.calls + 1
  if depth > 4 or random(3) > 1 then return keep(one_of(acts)()) end
  depth = depth + 1
  local ok, value = pcall(one_of(places), monkey.act)
  depth = depth - 1
  if not ok then error(value, 0) end
  return keep(value)
end

local function spin()
  local n = 0
  while true do
    n = n + 1
    if random(1000000000) == n then pcall(error) end
  end
end

--- So many acts, each protected.
function monkey.run(n, f)
  for _ = 1, n do
    pcall(f or monkey.act)
  end
  if monkey.loops and random(40) == 1 then spin() end
end

-- Hooks

local function answer(model_response)
  local what = random(12)
  if what <= 3 then return worker.json { fine = true } end
  if what == 4 then return "text" end
  if what == 5 and model_response then return model_response end
  if what == 6 then return worker.response(some(fields)()) end
  if what == 7 then
    local stream = keep(worker.stream {})
    for _ = 1, random(4) do
      stream:write(("piece "):rep(random(2000)))
      if random(3) == 1 then pcall(monkey.act) end
    end
    if random(2) == 1 then return stream end
    return nil
  end
  if what == 8 then return worker.http.get(monkey.model .. "/stream") end
  if what == 9 then return worker.json(any()) end
  if what == 10 then error(any()) end
  return any()
end

--- A hook that does `n` acts, and returns what the hook of this name should, or should not.
function monkey.hook(name, n)
  return function(a, b)
    depth = 0 -- a task that was cancelled left it as it was
    keep(a)
    keep(b)
    monkey.run(random(0, n))
    if name == "handler" or name == "remote" then return answer() end
    if name == "generate_client_response" then return answer(b) end
    if random(8) == 1 then return any() end
    if name == "count_workload" then return one_of(numbers) end
    if name == "start" then return nil end
    if random(8) == 1 then return worker.invalid(any()) end
    return a
  end
end

function monkey.begin(seed, model, loops)
  math.randomseed(seed)
  monkey.model, monkey.loops = model, loops
  keep(worker.json.decode '{"first":{"second":[1,2,3]}}')
end

return monkey

-- SPDX-License-Identifier: MIT
-- Calls functions of the worker's and the standard library at random, with random values, in every
-- place where a script can run: for scripts that script_fuzz.py makes. What it calls raises mostly;
-- what it must never do is crash the process. The same seed makes the same choices.
local worker = require "luaworker"
local words = require "luaworker.words"
local values = require "monkey_values"

local random = math.random
local kept, keep, co_of = values.kept, values.keep, values.co_of
local one_of, any = values.one_of, values.any
local monkey = { loops = false }

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
  function() return keep(worker.stream(values.some_fields())) end,
  function()
    return keep(worker.http.get(values.model .. one_of { "/echo", "/stream", "/cut" }))
  end,
  function() return keep(worker.model.get(one_of { "/echo", "/stream", "/events", "/cut" })) end,
  function() monkey_global = any() end,
  function() error(any()) end,
  function() error(worker.invalid(any())) end,
}

local depth = 0

--- One random act, now and then in a place of its own. Raises what comes.
function monkey.act()
  if depth > 4 or random(3) > 1 then return keep(one_of(acts)()) end
  depth = depth + 1
  local ok, value = pcall(one_of(places), monkey.act)
  depth = depth - 1
  if not ok then error(value, 0) end
  return keep(value)
end

--- So many acts, each protected.
function monkey.run(n, f)
  for _ = 1, n do
    pcall(f or monkey.act)
  end
  if monkey.loops and random(40) == 1 then pcall(one_of(values.endless)) end
end

-- Hooks

local function answer(model_response)
  local what = random(12)
  if what <= 3 then return worker.json { fine = true } end
  if what == 4 then return "text" end
  if what == 5 and model_response then return model_response end
  if what == 6 then return worker.response(values.some_fields()) end
  if what == 7 then
    local stream = keep(worker.stream {})
    for _ = 1, random(4) do
      stream:write(("piece "):rep(random(2000)))
      if random(3) == 1 then pcall(monkey.act) end
    end
    if random(2) == 1 then return stream end
    return nil
  end
  if what == 8 then return worker.http.get(values.model .. "/stream") end
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
    if name == "count_workload" then return one_of(values.numbers) end
    if name == "start" then return nil end
    if random(8) == 1 then return worker.invalid(any()) end
    return a
  end
end

function monkey.begin(seed, model, loops)
  math.randomseed(seed)
  values.model, values.act, monkey.loops = model, monkey.act, loops
  keep(worker.json.decode '{"first":{"second":[1,2,3]}}')
end

return monkey

-- SPDX-License-Identifier: MIT
-- What monkey.lua calls with: values of every kind, among them handles of this request, of others
-- and of none; and functions without an end, for a worker that makes one.
local worker = require "luaworker"

local random = math.random
local kept, kept_count, KEPT_MAX = {}, 0, 48
-- model: the URL of the fake one; act: does anything at all, monkey.lua's.
local values = { kept = kept, model = "http://127.0.0.1:1", act = nil }

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
    __call = function() return values.act() end,
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
    url = values.model .. one_of { "/echo", "/stream", "/cut" },
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
  function() return values.model .. one_of { "/echo", "/stream", "/events", "/cut", "/slow" } end,
  function() return {} end,
  function() return { one_of(numbers), one_of(texts), {} } end,
  function() return { 1, nil, 3, nil, 5 } end,
  some(fields), some(call_options), cyclic, deep, strange,
  function() return worker.json.null end,
  function() return worker.json.decode "[9007199254740993, 18446744073709551615, 1]"[random(3)] end,
  function() return worker.json.decode '{"a":[],"b":{},"c":"\\u00e9","d":1.0}' end,
  function() return function(...) return ... end end,
  function() return function() error(values.any()) end end,
  function() return function() worker.sleep(0.001) return values.any() end end,
  function() return function() coroutine.yield(values.any()) return values.act() end end,
  function() return values.act end,
  function() return co_of(values.act) end,
  function() return coroutine.running() end,
  function() return io.open("monkey.lua") end,
  function() return one_of(kept) end, function() return one_of(kept) end,
  function() return one_of(kept) end, function() return one_of(kept) end,
}

function values.any()
  if kept_count == 0 then return one_of(texts) end
  return one_of(makers)()
end

-- Without an end, unless the worker makes one.
values.endless = {
  function() while true do kept_count = kept_count + 0 end end,
  function() while true do pcall(error) end end,
  function() while true do xpcall(error, error) end end,
  function() while true do coroutine.wrap(error)() end end,
  function()
    while true do coroutine.resume(co_of(function() while true do end end)) end
  end,
  function() local function again() return again() end again() end,
  function() local function deeper() return 1 + deeper() end deeper() end,
  function() table.sort({ 1, 2, 3 }, function() while true do end end) end,
  function() local t = {} while true do t[#t + 1] = { t } end end,
  function() local t = {} while true do t[#t + 1] = ("x"):rep(1e6) .. #t end end,
  function() local s = "x" while true do s = s .. s end end,
  function() return ("x"):rep(1e9) end,
  function() local t = { {} } while true do t = { t, t } worker.json.encode(t) end end,
}

values.keep, values.one_of, values.co_of, values.numbers = keep, one_of, co_of, numbers

--- A table of options for an answer, some of them wrong.
values.some_fields = some(fields)

return values

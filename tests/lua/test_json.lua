-- SPDX-License-Identifier: MIT
-- luaworker.json: what was given comes back, what was changed is written anew; refusals.
local base = require "luaworker.base"
local json = require "luaworker.json"
local buffer = require "string.buffer"
local checks = require "check"

local ffi = base.ffi
local check, equal = checks.ok, checks.eq

local function decoded(text)
  local value, err = json.decode(text)
  if value == nil then error(text .. ": " .. err) end
  return value
end

local function comes_back(text)
  equal(json.encode(decoded(text)), text, "round trip")
end

do -- the values of a document
  local v = decoded '{"s":"a\\u00e9\\n","i":-7,"f":0.5,"t":true,"u":false,"n":null,"a":[1,[],{}]}'
  equal(v.s, "a\195\169\n", "string")
  equal(v.i, -7, "integer")
  equal(v.f, 0.5, "fraction")
  equal(v.t, true, "true")
  equal(v.u, false, "false")
  equal(v.n, json.null, "null")
  equal(tostring(v.n), "null", "null as text")
  equal(#v.a, 3, "length")
  equal(#v.a[2], 0, "length of []")
  equal(decoded "false", false, "false alone")
  equal(decoded "null", json.null, "null alone")
  equal(decoded '"x"', "x", "string alone")
  equal(decoded '"a\\u0000b"', "a\0b", "NUL")
  local seen = 0
  for i, one in ipairs(v.a) do
    check(one == v.a[i], "ipairs")
    seen = seen + i
  end
  equal(seen, 6, "ipairs")
  for key in pairs(v) do
    seen = seen + #key
  end
  equal(seen, 13, "pairs")
  check(not pcall(function() return v.n.x end), "null can't be indexed")
end

do -- untouched, it is what it was; touched, the rest still is
  local text = '{"stop":[],"seed":9007199254740993,"x":{},"n":null,"f":1.0}'
  local v = decoded(text)
  equal(json.encode(v), text, "untouched")
  v.x = 5
  equal(json.encode(v), '{"stop":[],"seed":9007199254740993,"x":5,"n":null,"f":1.0}', "x changed")
  v.f = 2
  v.n = nil
  v.stop[1] = "."
  equal(json.encode(v), '{"stop":["."],"seed":9007199254740993,"x":5,"f":2}', "more changed")
  v.n = false
  equal(json.encode(v), '{"stop":["."],"seed":9007199254740993,"x":5,"n":false,"f":2}', "put back")
  v.zeta, v.alpha = 1, 2
  check(json.encode(v):find('"f":2,"alpha":2,"zeta":1}', 1, true) ~= nil, "new keys last, sorted")
end

do -- documents that come back byte for byte
  for _, text in ipairs {
    "{}", "[]", "[[]]", "[{}]", '{"a":{}}', '""', "0", "-0", "0.5", "true", "null", "1e+16",
    "-9223372036854775808", "18446744073709551615", "9007199254740992", "-9007199254740993",
    "[1.0,-0.0,1e5,1E5,0.10,100000000000000000000,1e400,1e-400,123456789012345678901234567890.5]",
    "[1.0,2,1.0,null,true,[1.50]]", '["\\/","/","\\u00e9","\195\169","\\n","\\u000a"]',
    '["\\ud83d\\ude00","\\ud800","\\u0000","\127"]', '{"":1}', '{"z":1,"a":2,"m":3}',
    '{"\\u00e9":1,"b":{"\\/":"\\/"}}', '{"1":1,"2":[{"3":[[[[]]]]}]}',
    '{"a":"' .. ("x"):rep(70000) .. '"}', '["' .. ("\\u20ac"):rep(300) .. '"]',
    '"' .. ("y\195\169\\n"):rep(2000) .. '"',
  } do
    comes_back(text)
  end
  equal(json.encode(decoded ' { "a" : [ 1.0 , 2 ] } '), '{"a":[1.0,2]}', "spaces go")
end

do -- texts stay with their values only
  local v = decoded '{"a":1.0,"b":"\\/","c":[1.0,1e2,3]}'
  v.b = "/other"
  v.c[2] = 7
  equal(json.encode(v), '{"a":1.0,"b":"/other","c":[1.0,7,3]}', "changed")
  table.remove(v.c, 1)
  equal(json.encode(v.c), "[7,3]", "items moved")
  v.c[3] = "new"
  equal(json.encode(v), '{"a":1.0,"b":"/other","c":[7,3,"new"]}', "item added")
  v.a = nil
  equal(json.encode(v), '{"b":"/other","c":[7,3,"new"]}', "removed")
end

do -- integers beyond 2^53
  local v = decoded '{"a":9007199254740993,"b":18446744073709551615,"c":9007199254740992}'
  check(v.a == 9007199254740993LL, "int64")
  check(v.b == 18446744073709551615ULL, "uint64")
  equal(type(v.c), "number", "2^53 is a number")
  v.a = v.a + 1
  local want = '{"a":9007199254740994,"b":18446744073709551615,"c":9007199254740992}'
  equal(json.encode(v), want, "sum")
  equal(json.encode { -5LL, 5ULL }, "[-5,5]", "cdata")
end

do -- doubled keys: the place of the first, the value of the last
  local v = decoded '{"a":1.0,"b":2,"a":3,"c":4,"b":2.0}'
  equal(v.a, 3, "last")
  equal(json.encode(v), '{"a":3,"b":2.0,"c":4}', "first place")
  equal(json.encode(decoded '{"a":{"x":1},"a":null}'), '{"a":null}', "a container, then null")
end

do -- plain tables
  equal(json.encode {}, "{}", "empty")
  equal(json.encode { 1, "a", true, json.null, { 2 } }, '[1,"a",true,null,[2]]', "list")
  equal(json.encode { b = 1, a = { c = {} } }, '{"a":{"c":{}},"b":1}', "sorted")
  equal(json.encode(json.array()), "[]", "array()")
  equal(json.encode(json.array {}), "[]", "array{}")
  equal(json.encode(json.object {}), "{}", "object{}")
  equal(json.encode(json.array { 1 }), "[1]", "array{1}")
  equal(json.encode(json.array(decoded "{}")), "[]", "an object marked anew")
  equal(json.encode(setmetatable({ a = 1 }, { __index = { b = 2 } })), '{"a":1}', "an instance")
  check(json.is_array(json.array()) and json.is_array { 1 }, "is_array")
  check(json.is_array(decoded "[]") and not json.is_array(decoded "{}"), "is_array, decoded")
  check(not json.is_array {} and not json.is_array "x", "not is_array")
  check(not pcall(json.array, 5), "array(5)")
  check(not pcall(json.array, setmetatable({}, {})), "an instance can't be marked")
end

do -- numbers and strings as they are printed
  equal(json.encode { 1e15, 0.1, 1 / 3, 1e16, 1e-5, -2.5, 123456789012 },
    "[1000000000000000,0.1,0.3333333333333333,1e+16,1e-05,-2.5,123456789012]", "numbers")
  equal(json.encode { 0, -0, 999999999, 1e9, -1e9, 2 ^ 53 },
    "[0,-0,999999999,1000000000,-1000000000,9007199254740992]", "integers")
  equal(json.encode 'a"\\\b\f\n\r\t\1/', '"a\\"\\\\\\b\\f\\n\\r\\t\\u0001/"', "escapes")
  equal(json.encode "\255", '"\239\191\189"', "not UTF-8")
  for _, n in ipairs { 1023, 1024, 1025, 5000 } do
    local s = ("z"):rep(n)
    equal(json.encode(s), '"' .. s .. '"', "plain string")
    equal(json.encode(s .. "\n"), '"' .. s .. '\\n"', "long string")
    equal(json.encode(("\1"):rep(n)), '"' .. ("\\u0001"):rep(n) .. '"', "all escaped")
  end
end

local function refuses(value, want)
  local ok, err = pcall(json.encode, value)
  check(not ok, "taken: " .. want)
  if not ok then equal(err, "JSON can't hold " .. want, "message") end
end

do -- what JSON can't hold, with its path
  refuses(print, "a function")
  refuses(nil, "a nil")
  refuses({ a = { b = { 1, { c = print } } } }, "a function (at a.b[2].c)")
  refuses({ 0 / 0 }, "NaN (at [1])")
  refuses({ x = math.huge }, "an infinite number (at x)")
  refuses({ x = -math.huge }, "an infinite number (at x)")
  refuses({ ffi.new "int[1]" }, "a cdata (at [1])")
  refuses({ 1, 2, x = 3 }, "a list with holes or other keys")
  refuses({ a = { 1, nil, 3, nil, nil, 6 } }, "a list with holes or other keys (at a)")
  refuses({ [true] = 1 }, "an object with a boolean as key")
  refuses({ q = { [2.5] = 1 } }, "an object with a number as key (at q)")
  local v = decoded '{"a":[1],"o":{"k":1}}'
  v.a.x = 1
  refuses(v, "a list with holes or other keys (at a)")
  v.a.x, v.o[1] = nil, 1
  refuses(v, "an object with a number as key (at o)")
  local ring = {}
  ring.ring = ring
  refuses(ring, "a table within itself, or 512 levels deep")
  equal(json.encode { 1 }, "[1]", "after errors")
end

do -- depth: 512 both ways, not more
  local deep = ("["):rep(512) .. ("]"):rep(512)
  comes_back(deep)
  local v, err = json.decode("[" .. deep .. "]")
  equal(v, nil, "513 levels")
  equal(err, "nested too deep at byte 513", "513 levels")
  refuses({ (decoded(deep)) }, "a table within itself, or 512 levels deep")
end

do -- refusals say where
  for text, want in pairs {
    [""] = "the text is empty at byte 1",
    ['{"a":[1,}'] = "not a value at byte 9",
    ['{"a":1'] = "the text ends too early at byte 7",
    ['["\1"]'] = "control character in a string at byte 3",
    ['["\255"]'] = "not UTF-8 at byte 3",
    ["[1] x"] = "more text after the document at byte 5",
  } do
    local v, err = json.decode(text)
    equal(v, nil, text)
    equal(err, want, text)
  end
  check(not pcall(json.decode, 5), "decode(5)")
  equal(json.decode_span(ffi.new("char[3]", "[1]"), 3)[1], 1, "decode_span")
end

do -- encode_to appends
  local buf = buffer.new():put("data: ")
  json.encode_to(buf, { a = 1 })
  json.encode_to(buf, "x")
  equal(buf:get(), 'data: {"a":1}"x"', "encode_to")
end

-- Random documents, the same in every run.

local seed = 12345

local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return math.floor(seed / 65536) % n + 1
end

local scalars = {
  "0", "-0", "1", "-17", "1.0", "0.5", "1e5", "1E-7", "12345678901234567890", "9007199254740993",
  "true", "false", "null", '""', '"a"', '"\\u00e9"', '"\195\169"', '"\\/\\\\\\""', '"\\n\\t"',
  '"long ' .. ("text "):rep(20) .. '"',
}

local function random_json(depth)
  local kind = depth > 5 and 3 or random(4)
  if kind > 2 then return scalars[random(#scalars)] end
  local parts = {}
  for i = 1, random(6) - 1 do
    local name = kind == 1 and "" or '"' .. (random(3) == 1 and "\\u006b" or "k") .. i .. '":'
    parts[i] = name .. random_json(depth + 1)
  end
  local inside = table.concat(parts, ",")
  return kind == 1 and "[" .. inside .. "]" or "{" .. inside .. "}"
end

-- A copy without forms.
local function bare(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, one in json.pairs(value) do
    out[key] = bare(one)
  end
  return json.is_array(value) and json.array(out) or out
end

do
  local wrong = 0
  for _ = 1, 500 do
    local text = "[" .. random_json(0) .. "]"
    local value = decoded(text)
    if json.encode(value) ~= text then wrong = wrong + 1 end
    local sorted = json.encode(bare(value))
    if json.encode(bare(decoded(sorted))) ~= sorted then wrong = wrong + 1 end
  end
  equal(wrong, 0, "random documents")
end

checks.done()

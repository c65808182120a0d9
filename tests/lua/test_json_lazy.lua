-- SPDX-License-Identifier: MIT
-- luaworker.json: long members of a request, which wait in C until they are read.
local base = require "luaworker.base"
local json = require "luaworker.json"
local checks = require "check"

local C = base.C
local check, equal = checks.ok, checks.eq

local function decoded(text)
  local value, err = json.decode(text)
  if value == nil then error(text .. ": " .. err) end
  return value
end

local function request_value(text)
  local doc = C.lw_api_doc_parse(text, #text)
  check(C.lw_api_doc_error(doc) == nil, "parsed")
  return json.from_doc(doc, 0, true)
end

local image = ("abcd"):rep(20000)
local request = '{"prompt":"p","image":"I","n":1.0,"escaped":"\\/I","list":["I"],"in":{"mask":"I"}}'
request = request:gsub("I", image)

do -- long members wait in C: written from there, read when asked for
  local v = request_value(request)
  equal(rawget(v, "image"), nil, "not read yet")
  equal(rawget(v["in"], "mask"), nil, "not read yet")
  equal(v.list[1], image, "items are read at once")
  equal(json.encode(v), request, "untouched")
  v.n = 2
  equal(json.encode(v), (request:gsub('"n":1.0', '"n":2')), "another changed")
  equal(rawget(v, "image"), nil, "writing does not read")
  equal(v.absent, nil, "an absent member")
  equal(v.image, image, "read")
  equal(rawget(v, "image"), image, "and kept")
  equal(v.escaped, "/" .. image, "unescaped")
  equal(json.encode(v), (request:gsub('"n":1.0', '"n":2')), "read, unchanged")
  v.image = "new"
  equal(json.encode(v), (request:gsub('"n":1.0', '"n":2'):gsub(image, "new", 1)), "changed")
end

do -- assigned before it was read
  local v = request_value(request)
  v.image = nil
  equal(v.image, nil, "removed")
  v.escaped = "short"
  equal(v.escaped, "short", "replaced")
  v["in"], v.list = nil, nil
  equal(json.encode(v), '{"prompt":"p","n":1.0,"escaped":"short"}', "written so")
  v.image = "back"
  equal(json.encode(v), '{"prompt":"p","image":"back","n":1.0,"escaped":"short"}', "in its place")
end

do -- pairs and next see them
  local v, names = request_value(request), {}
  for key, value in json.pairs(v) do
    names[#names + 1] = key .. "=" .. (type(value) == "string" and #value or type(value))
  end
  table.sort(names)
  local want = "escaped=80001 image=80000 in=table list=table n=number prompt=1"
  equal(table.concat(names, " "), want, "pairs")
  local one = request_value('{"image":"' .. image .. '"}')
  equal(select(2, json.next(one)), image, "next")
  equal(json.next(one, "image"), nil, "next at the end")
  check(not pcall(json.pairs, nil), "pairs(nil)")
end

do -- the text outlives everything but its tables
  local v = request_value(request)
  for _ = 1, 50 do
    request_value(request)
    decoded '{"some":"other"}'
  end
  collectgarbage()
  collectgarbage()
  equal(v["in"].mask, image, "after collection")
  equal(json.encode(v), request, "after collection")
end

do -- a subtree, and doubled long members
  local doc = C.lw_api_doc_parse(request, #request)
  local root
  for i = 1, 100 do
    if C.lw_api_doc_nodes(doc)[i].kind == C.LW_JSON_OBJECT then
      root = i
      break
    end
  end
  equal(json.encode(json.from_doc(doc, root, true)), '{"mask":"' .. image .. '"}', "subtree")
  local twice = '{"i":"' .. image .. '","b":1,"i":"x' .. image .. '"}'
  equal(json.encode(request_value(twice)), '{"i":"x' .. image .. '","b":1}', "lazy twice")
  equal(json.encode(request_value('{"i":"' .. image .. '","i":1}')), '{"i":1}', "lazy, then not")
  local last = '{"i":"' .. image .. '"}'
  equal(json.encode(request_value('{"i":1.0,' .. last:sub(2))), last, "not, then lazy")
end

checks.done()

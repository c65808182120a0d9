-- SPDX-License-Identifier: MIT
-- The rooms behind `luaworker check`: reading a text for places, globals in bytecode, trying hooks
-- out. The command itself, and exact lines, are tested end to end.
local check = require "check"
local await = require "luaworker.await"
local globals = require "luaworker.globals"
local mistakes = require "luaworker.mistakes"
local place = require "luaworker.place"
local sandbox = require "luaworker.sandbox"
local source = require "luaworker.source"
local worker = require "luaworker"

do -- words, lines, brackets
  local s = source.read [==[
#!/usr/bin/env luaworker
local a = "x\"]" -- } comment
--[[ { long
comment ]] local b = [=[ long ]]
string ]=] .. '\
end'
if a == b then f { 1, [2] = 3 } end
]==]
  local words = {}
  for i, word in ipairs(s.word) do
    words[i] = s.line[i] .. (s.is_string[i] and "s" or "") .. word:gsub("%s+", "_")
  end
  check.eq(table.concat(words, " "), '2local 2a 2= 2sx\\"] 4local 4b 4= 4s_long_]]_string_ 5. 5. '
    .. '5s\\_end 7if 7a 7== 7b 7then 7f 7{ 71 7, 7[ 72 7] 7= 73 7} 7end')
  local first, last = #s.word - 15, #s.word
  check.eq(s.word[first], "if")
  check.eq(s.close[first], last)
end

--- The line that a path leads to in the first table of a text, and how many keys were found.
local function line_of(text, path)
  local s = source.read(text)
  local found, line = source.follow(s, source.first_table(s, 1, #s.word), place.steps(path))
  return line, found
end

do -- following keys
  local text = [[
return f {
  a = { 1, 2,
    3 },
  ["b c"] = 1, b = function() local a, c = 1, { b = 2 }
    return a
  end, c = g(x, {
    d = 1; e = 2 }, { d = 3 }),
  [7] = { q =
    5 },
  { z = 1 },
}]]
  check.eq(line_of(text, "a[3]"), 3)
  check.eq(line_of(text, "b"), 4)
  check.eq(line_of(text, "c.e"), 7)
  check.eq(line_of(text, "[7].q"), 8)
  check.eq(line_of(text, "[1].z"), 10)
  local line, found = line_of(text, "a[4].x")
  check.eq(line, 2, "as far as it goes")
  check.eq(found, 1)
  line, found = line_of(text, "nowhere")
  check.eq(line, nil)
  check.eq(found, 0)
  check.eq(line_of("local t = {\n x = 1 }\nlocal u = t\nf { k = t }", "x"), 2)
end

do -- a key that is given a value once
  local s = source.read "a.x = 1\nb.y = 2 b.y = 3\nfunction I.z() end\nt['w'] = 1 print(v == 1)"
  check.eq(source.only_line(s, "x"), 1)
  check.eq(source.only_line(s, "y"), nil)
  check.eq(source.only_line(s, "z"), 3)
  check.eq(source.only_line(s, "w"), 4)
  check.eq(source.only_line(s, "v"), nil)
end

do -- what a file gives
  local s = source.read "if x then return 1 end\nlocal f = function() return 2 end\nreturn {\n}"
  check.eq(s.line[source.last_return(s)], 3)
  check.eq(source.last_return(source.read "local f = function() return 2 end"), nil)
end

do -- texts of errors
  local long = "/a/" .. ("long/"):rep(20) .. "x.lua"
  local finder = place.finder { { path = "w.lua", text = "" }, { path = long, text = "" } }
  local at, text = finder:split "w.lua:12: it: failed"
  check.eq(at.line, 12)
  check.eq(text, "it: failed")
  at = finder:split("..." .. long:sub(-57) .. ":3: x")
  check.eq(at.file, long)
  check.eq(finder:split "other.lua:3: x", nil)
  check.eq(select(2, finder:split "no place"), "no place")
end

--- What is found of globals in a text, without the file.
local function globals_of(text)
  local chunk, files = sandbox.compile("w.lua", text, "serve")
  assert(chunk, files)
  local found = {}
  globals.check(files, function(at, message) found[#found + 1] = at.line .. " " .. message end)
  return table.concat(found, "\n")
end

do -- globals
  check.eq(globals_of "local a = print return function() return a, string.format, _G end", "")
  check.eq(globals_of "x = 1\nfunction f() return x end", "")
  check.has(globals_of "return function()\nreturn function() return prnit end end",
    '2 the global prnit is defined nowhere, so it is nil, did you mean "print"?')
  check.has(globals_of "return function()\nx = 1 end", "2 the global x is assigned in a function")
  local twice = globals_of "return function()\nx = 1 x = 2 return nope, nope end"
  check.eq(select(2, twice:gsub("\n", "")), 1, twice)
end

do -- order and lines
  local list = mistakes.new "w.lua"
  list:add { message = "c", place = { file = "a.lua", line = 1 } }
  list:add { message = "b", path = "x.y", place = { file = "w.lua", line = 20 } }
  list:add { message = "a", severity = "warning", place = { file = "w.lua", line = 3 } }
  list:add { message = "0" }
  list:sort()
  local lines = {}
  for i, one in ipairs(list) do
    lines[i] = mistakes.line_of(one)
  end
  check.eq(table.concat(lines, "\n"),
    "w.lua: 0\nw.lua:3: warning: a\nw.lua:20: x.y: b\na.lua:1: c")
  check.eq(list:errors_text(), "w.lua: 0\nw.lua:20: x.y: b\na.lua:1: c")
  check.eq(list.errors, 3)
  check.eq(list.warnings, 1)
end

do -- trying out: what would wait ends it, whatever it does about that
  local reached = false
  local ok, err = await.rehearse(function()
    await.pcall(worker.sleep, 0)
    reached = true
  end)
  check.eq(ok, false)
  check.eq(err, await.CANCELLED)
  check.eq(reached, false)
  for _, wait in ipairs {
    function() worker.http.get "http://127.0.0.1:1/" end,
    function() worker.spawn(print) end,
    function() coroutine.wrap(function() worker.sleep(0) end)() end,
  } do
    check.eq(select(2, await.rehearse(wait)), await.CANCELLED)
  end
  check.eq(select(2, await.rehearse(error, "x", 0)), "x")
  check.eq(select(2, await.rehearse(function() return 5 end)), 5)
  worker.sleep(0) -- and all is as before
end

check.done()

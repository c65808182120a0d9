-- SPDX-License-Identifier: MIT
-- describe and it: the tests that a file offers, and running one of them with the hooks around it,
-- its failures, log lines and leftovers. Whoever runs files is testing_files.lua.
local base = require "luaworker.base"
local await = require "luaworker.await"
local expect = require "luaworker.testing_expect"
local failure = require "luaworker.failure"
local guard = require "luaworker.guard"
local instance = require "luaworker.testing_instance"
local kernel = require "luaworker.testing_kernel"
local mistakes = require "luaworker.mistakes"
local place = require "luaworker.testing_place"
local server = require "luaworker.testing_server"

local suite = {}

local group -- that takes what is described now; nil: no file is being loaded

local Skipped = {}

-- Offering --

local function new_group(name, parent)
  return {
    name = name, parent = parent, tests = parent and parent.tests or {},
    before_each = {}, after_each = {},
    skip = parent and parent.skip, only = parent and parent.only,
  }
end

local function check_offer(word, name, f)
  if not group then error(word .. ": it belongs in a test file, outside of a running test", 4) end
  if type(name) ~= "string" then
    error(word .. ": expected a name, got " .. base.show(name), 4)
  end
  if f ~= nil and type(f) ~= "function" then
    error(("%s %q: expected function, got %s"):format(word, name, base.show(f)), 4)
  end
end

local function describe(name, f, marks)
  check_offer("describe", name, f)
  local inner = new_group(mistakes.one_line(name), group)
  for key, value in pairs(marks or {}) do
    inner[key] = value
  end
  local outer = group
  group = inner
  local function leave(ok, ...)
    group = outer
    if not ok then error((...), 0) end
  end
  leave(pcall(f or function() end))
end

local function it(name, f, marks)
  check_offer("it", name, f)
  marks = marks or {}
  local names, above = { mistakes.one_line(name) }, group
  while above.parent do
    table.insert(names, 1, above.name)
    above = above.parent
  end
  table.insert(group.tests, {
    names = names, name = table.concat(names, " > "), f = f, group = group,
    place = place.on_stack()[1], only = marks.only or group.only,
    skip = marks.skip or group.skip or not f and "not written yet" or nil,
  })
end

-- it.skip(name, f), it.skip(name, reason, f): the reason may be left out, and so may f.
local function skipping(offer)
  return function(name, reason, f)
    if type(reason) == "function" then
      reason, f = nil, reason
    end
    reason = reason == nil and "skipped in the file" or mistakes.one_line(tostring(reason))
    offer(name, f, { skip = reason })
  end
end

-- A mark `only` is where it stands.
local function word(name, offer)
  return guard(name, {
    skip = skipping(offer),
    only = function(what, f)
      offer(what, f, { only = place.on_stack()[1] or "?" })
    end,
  }, {
    __call = function(_, what, f) offer(what, f) end,
  })
end

suite.describe, suite.it = word("describe", describe), word("it", it)

local function hook(name)
  return function(f)
    check_offer(name, name, f or false)
    table.insert(group[name], f)
  end
end

--- Each run around each test of the describe that they stand in, and of those within it.
suite.before_each, suite.after_each = hook "before_each", hook "after_each"

--- In a test: ends it here; it is told as skipped.
function suite.skip(reason)
  reason = mistakes.one_line(tostring(reason or "skipped by the test"))
  error(setmetatable({ reason = reason }, Skipped), 0)
end

-- Running --

local Caught = { __tostring = function(self) return self.text end }

local function caught(err)
  local meta = type(err) == "table" and getmetatable(err)
  if meta and (rawget(err, "is_unmet") or meta == Skipped or meta == Caught) then return err end
  if err == await.EXIT or err == await.CANCELLED then return err end
  return setmetatable({
    is_error = true, text = failure.show(err), places = place.on_stack(),
  }, Caught)
end

local function note(owner, err)
  if getmetatable(err) == Skipped then
    owner.skip = err.reason
  elseif err ~= await.EXIT and err ~= await.CANCELLED then
    kernel.fail(err)
  end
end

local function chain(from, name)
  local list, reversed = {}, name == "after_each"
  while from do
    for i = #from[name], 1, -1 do
      table.insert(list, reversed and #list + 1 or 1, from[name][i])
    end
    from = from.parent
  end
  return list
end

local function run_all(owner, list)
  for _, f in ipairs(list) do
    local ok, err = xpcall(f, caught)
    if not ok then
      note(owner, err)
      return false
    end
  end
  return true
end

local function body_of(owner)
  return function()
    instance.become_task()
    if run_all(owner, chain(owner.group, "before_each")) then run_all(owner, { owner.f }) end
    run_all(owner, chain(owner.group, "after_each"))
  end
end

-- The test waits, and nothing can end that.
local function tell_stuck(task)
  kernel.fail {
    is_error = true, places = place.on_stack(task.co),
    text = "nothing can end this wait: all tasks and servers are still",
  }
end

local function drive(task)
  local outcome
  repeat
    outcome = kernel.run(function() return task.ended end)
  until outcome ~= "stuck" or not kernel.unstick(task)
  if outcome == "stuck" then tell_stuck(task) end
  if outcome == "overtime" then kernel.fail(kernel.overtime) end
end

--- The body of a task of a test's own: what it raises goes to on_error.
function suite.body(f, on_error)
  return function()
    instance.become_task()
    local ok, err = xpcall(f, caught)
    if not ok then on_error(err) end
  end
end

--- f() in a coroutine of the kernel, for an owner of failures, until it ends.
function suite.drive(owner, file_instance, f, seconds)
  owner.failures, owner.logs, owner.expectations = {}, {}, {}
  kernel.owner = owner
  kernel.set_limit(seconds)
  owner.task = kernel.start { instance = file_instance, body = f }
  drive(owner.task)
end

--- After what an owner did: its tasks end, its servers go.
function suite.settle(owner)
  kernel.end_tasks(owner)
  kernel.set_limit(nil)
  server.forget(owner)
  expect.check_asked(owner)
  kernel.owner = nil
end

--- Runs a test: its failures stand in test.failures, the reason of a skipped one in test.skip.
function suite.run(test, file_instance, seconds)
  suite.drive(test, file_instance, body_of(test), seconds)
  suite.settle(test)
end

--- Runs a file's chunk, which offers tests: { tests, failures, logs }.
function suite.load(file, file_instance, chunk, seconds)
  group = new_group()
  file.tests = group.tests
  suite.drive(file, file_instance, function()
    instance.become_task()
    local ok, err = xpcall(chunk, caught)
    if not ok then note(file, err) end
  end, seconds)
  kernel.set_limit(nil)
  group = nil
end

return suite

-- SPDX-License-Identifier: MIT
-- luaworker.testing: the words in which tests of worker scripts are written. Only within `luaworker
-- test`, where nothing touches a network or the clock. docs/testing-workers.md tells all.
local base = require "luaworker.base"

if not base.is_testing then
  error("luaworker.testing: tests are run by `luaworker test`", 0)
end

local app = require "luaworker.testing_app"
local expect = require "luaworker.testing_expect"
local guard = require "luaworker.guard"
local kernel = require "luaworker.testing_kernel"
local server = require "luaworker.testing_server"
local suite = require "luaworker.testing_suite"
require "luaworker.testing_log"
require "luaworker.testing_task"

local clock = {}

--- Seconds since the run began, by the clock of the tests.
function clock.now()
  return kernel.time
end

--- Seconds since 1970: what os.time() tells a script, not rounded.
function clock.wall()
  return kernel.wall()
end

--- Lets so many seconds pass, and all that is due in them.
function clock.advance(seconds)
  if type(seconds) ~= "number" or seconds < 0 then
    error("clock.advance: expected seconds, got " .. base.show(seconds), 2)
  end
  local passed
  local me = kernel.current
  if not me then error("clock.advance: this waits: it belongs in a test", 2) end
  kernel.after(seconds, function()
    kernel.after(0, function() -- behind what is due at the same moment
      passed = true
      kernel.wake(me)
    end)
  end)
  kernel.wait_until(function() return passed end, "clock.advance")
end

--- Runs these functions at the same time, each as a task of its own, until all have returned: a
--- list of what each returned first.
local function parallel(...)
  local me, left, results, wrong = kernel.current, select("#", ...), {}, nil
  if not me then error("testing.parallel: this waits: it belongs in a test", 2) end
  for i, f in ipairs { ... } do
    kernel.start {
      instance = me.instance, model = me.model,
      body = suite.body(function() results[i] = f() end, function(err) wrong = wrong or err end),
      on_end = function()
        left = left - 1
        kernel.wake(me)
      end,
    }
  end
  kernel.wait_until(function() return left == 0 end, "testing.parallel")
  if wrong then error(wrong, 0) end
  return results
end

--- A worker script, taken in as by `serve`. path: beside the test file, or from the current
--- directory. opts: env = what os.getenv and worker.env see (nothing else), model, model_url.
local function load_app(path, opts)
  local loaded = app.load(kernel.instance.directory, path, opts)
  return loaded
end

--- A fake model server: an answer, a function(request) → answer, or a table of these by path.
--- Its .requests are what it was asked.
local function model(spec)
  return server.new(spec, "testing.model")
end

return guard("testing", {
  describe = suite.describe, it = suite.it, expect = expect.that,
  before_each = suite.before_each, after_each = suite.after_each, skip = suite.skip,
  load = load_app, model = model, http = server.at, parallel = parallel,
  clock = guard("testing.clock", clock), log = require("luaworker.testing_log").text,
})

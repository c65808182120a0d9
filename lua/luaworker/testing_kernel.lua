-- SPDX-License-Identifier: MIT
-- The turns of a test run: coroutines in the place of C's tasks (runtime/script/task.c), those to
-- be resumed in one queue, and timers by a clock that moves only when nothing else can happen.
-- Knows nothing of requests. Called by the other testing modules; owns all tasks of a run.
local base = require "luaworker.base"
local await = require "luaworker.await"
local place = require "luaworker.testing_place"

local real = base.ffi.C
local processor_seconds = os.clock

jit.off() -- compiled loops run no hooks, and the hook below stops what loops

local BEGIN_WALL = 1767225600 -- 2026-01-01 00:00:00 UTC

local kernel = {
  time = 0,      -- seconds since the run began, by the clock of the tests
  current = nil, -- the task that runs now
  instance = nil, -- the library and script that it belongs to: testing_instance.lua
  owner = nil,   -- what is being tested: takes failures, log lines and the tasks that begin now
  hook_seconds = 0, -- of the processor, that a script's task may take between two waits; 0: any
}

local tasks = {}
kernel.tasks = tasks
local ready, ready_first, ready_last = {}, 1, 0
local timers, timer_serial = {}, 0

-- Timers --

--- f() is called when the clock has moved by `seconds`. Those of one moment go in order.
function kernel.after(seconds, f)
  timer_serial = timer_serial + 1
  local timer = { at = kernel.time + math.max(seconds, 0), serial = timer_serial, f = f }
  local i = #timers
  while i > 0 and timers[i].at > timer.at do
    timers[i + 1] = timers[i]
    i = i - 1
  end
  timers[i + 1] = timer
  return timer
end

--- Fine to call for nil, twice, and for one that has fired.
function kernel.stop_timer(timer)
  if timer then timer.f = nil end
end

local function fire_next()
  local timer
  repeat
    timer = table.remove(timers, 1)
    if not timer then return false end
  until timer.f
  kernel.time = math.max(kernel.time, timer.at)
  timer.f()
  return true
end

-- Tasks --

--- Makes a task be resumed; once more than needed does no harm.
function kernel.wake(task)
  if task.queued or task.ended then return end
  task.queued = true
  ready_last = ready_last + 1
  ready[ready_last] = task
end

--- Starts a task: { instance } with a `job` for the library's main function, an `exchange` perhaps,
--- or a `body` of its own.
function kernel.start(task)
  task.calls = {}
  task.owner = kernel.current and kernel.current.owner or kernel.owner
  task.model = task.model or kernel.current and kernel.current.model
  task.co = coroutine.create(task.body or task.instance.main)
  tasks[#tasks + 1] = task
  kernel.wake(task)
  return task
end

local function forget(task)
  task.ended = true
  kernel.stop_timer(task.timer)
  for i, one in ipairs(tasks) do
    if one == task then
      table.remove(tasks, i)
      break
    end
  end
end

local function cancel_children(task)
  for _, child in ipairs { unpack(tasks) } do
    if child.parent == task then
      child.parent = nil
      kernel.cancel(child)
    end
  end
end

--- As when the client leaves: what it waits for says so from now on.
function kernel.cancel(task)
  task.cancelled = true
  cancel_children(task)
  for _, call in ipairs { unpack(task.calls) } do
    call:stop()
  end
  kernel.wake(task)
end

local function finish(task)
  cancel_children(task)
  while task.calls[1] do
    task.calls[1]:free()
  end
  forget(task)
  if task.on_end then task:on_end() end
end

local function resume(task)
  task.queued = false
  kernel.current, kernel.instance = task, task.instance
  task.since = processor_seconds()
  local ok, idle = coroutine.resume(task.co)
  kernel.current, kernel.instance = nil, nil
  if not ok and not kernel.overtime then
    kernel.fail("a task failed outside of its handler: " .. tostring(idle))
  end
  if not ok or idle == true or coroutine.status(task.co) == "dead" then finish(task) end
end

local function resume_next()
  if ready_first > ready_last then return false end
  local task = ready[ready_first]
  ready[ready_first] = nil
  ready_first = ready_first + 1
  if not task.ended then resume(task) end
  return true
end

-- Running --

--- Where the code runs that is at work now, and where the test stands that waits for it.
local function places_now(owner)
  local places = place.on_stack()
  local co = owner.task and owner.task ~= kernel.current and owner.task.co
  for _, one in ipairs(co and place.on_stack(co) or {}) do
    places[#places + 1] = one
  end
  return places
end

--- Notes that what is being tested has failed, whatever comes of it. what: a text, or a table as
--- testing_expect.lua and testing_suite.lua make them.
function kernel.fail(what)
  local owner = kernel.owner
  if not owner then return end
  if type(what) == "string" then
    what = { is_error = true, text = what, places = places_now(owner) }
  end
  owner.failures[#owner.failures + 1] = what
end

--- Turns until done() is true: "done". Or "stuck": nothing can happen any more. Or "overtime".
function kernel.run(done)
  local main = await.current()
  local outcome = "stuck"
  repeat
    if kernel.overtime then
      outcome = "overtime"
      break
    elseif done() then
      outcome = "done"
      break
    end
  until not resume_next() and not fire_next()
  await.set_current(main)
  return outcome
end

--- Ends what an owner has left behind: it may tidy up, but wait no more.
function kernel.end_tasks(owner)
  for _, task in ipairs { unpack(tasks) } do
    if task.owner == owner then kernel.cancel(task) end
  end
  local main = await.current()
  while not kernel.overtime and resume_next() do end -- luacheck: ignore 542
  await.set_current(main)
  for _, task in ipairs { unpack(tasks) } do
    if task.owner == owner then forget(task) end
  end
end

--- For a test's own code: waits until done() is true. `what` it waits for is told when nothing can
--- make it true any more.
function kernel.wait_until(done, what)
  local task = kernel.current
  if not task then error("this waits: it belongs in a test, a hook or a describe", 3) end
  while not done() do
    if task.stuck then
      task.stuck = nil
      error(what .. ": nothing can end this wait, all tasks and servers are still", 3)
    end
    task.waits = true
    await.wait()
    task.waits = false
  end
end

--- When kernel.run() is stuck: what waits for tasks in a test's own code gets an error; false when
--- there is none.
function kernel.unstick(task)
  if not task.waits or task.stuck then return false end
  task.stuck = true
  kernel.wake(task)
  return true
end

-- A test that computes for too long is stopped from within, by an error that no pcall of a script
-- holds up. So is a script's task, as by runtime/script/budget.c; its test goes on.

local function check_budget(task)
  local most = kernel.hook_seconds
  if task.body or most == 0 then return end
  local spent = processor_seconds() - task.since
  if spent < most or not place.is_author(3) and spent < 2 * most then return end
  task.since = processor_seconds() -- as long again for what unwinds
  local trace = debug.traceback("", 3)
  if coroutine.running() ~= task.co then trace = trace .. debug.traceback(task.co) end
  local text = ("ran for more than %g s without waiting (--hook-time)"):format(most)
  task.stopped = { text = (place.on_stack()[1] or "?") .. ": " .. text, trace = trace }
  error(task.stopped.text, 0)
end

--- From now on for so many seconds of real time; nil: no limit. What runs the tests is not stopped.
function kernel.set_limit(seconds)
  kernel.overtime = nil
  if not seconds then return debug.sethook() end
  local last, runner = real.lw_api_now() + seconds, coroutine.running()
  debug.sethook(function()
    local task = coroutine.running() ~= runner and kernel.current
    if real.lw_api_now() < last then
      if task then check_budget(task) end
      return
    end
    kernel.overtime = kernel.overtime or {
      is_error = true, text = ("ran for more than %g s: stopped"):format(seconds),
      places = kernel.owner and places_now(kernel.owner) or place.on_stack(),
    }
    if task then error(await.EXIT, 0) end
  end, "", 10000)
end

function kernel.wall()
  return BEGIN_WALL + kernel.time
end

return kernel

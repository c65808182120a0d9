-- SPDX-License-Identifier: MIT
-- Waiting: the only place that yields. A function of C that would wait answers LW_AGAIN; its caller
-- here yields and makes the same call again. A cancelled wait unwinds the task by an error value of
-- its own, `await.CANCELLED`, so that sequential code simply ends.
--
--   local code = C.lw_api_task_sleep(seconds)
--   while code == AGAIN do
--     await.wait()
--     code = C.lw_api_task_sleep(seconds)
--   end
--   await.check_cancel(code)
local base = require "luaworker.base"

local C, AGAIN, CANCELLED, TIMEOUT = base.C, base.AGAIN, base.CANCELLED, base.TIMEOUT
local yield, running, can_yield = coroutine.yield, coroutine.running, coroutine.isyieldable
local co_resume = coroutine.resume

local function sentinel(text)
  return setmetatable({}, { __tostring = function() return text end, __metatable = false })
end

local await = {
  CANCELLED = sentinel "the request was cancelled",
  EXIT = sentinel "the program exits",
}

-- What a coroutine of the author's own passes up when something inside it must wait.
local WAIT = sentinel "waiting"

-- The task that runs now, a table of task.lua; nil while a script is being loaded. Whoever resumes
-- after a wait finds its own task here again.
local current

-- Why an author may not resume this coroutine: it is a task's own, or waits in one.
local held = setmetatable({}, { __mode = "k" })

-- The coroutines of the author's that the last error ended, the innermost first: its traceback has
-- their stacks, too. No error: none.
local NOT_BROKEN = {}
local broken = NOT_BROKEN

--- The running task; raises when there is none.
function await.task()
  if not current then await.refuse(3) end
  return current
end

-- A hook is tried out while the script is loaded (rehearsal.lua): what waits ends the trial.
local is_rehearsal = false

--- Nothing may wait now: raises.
function await.refuse(level)
  if is_rehearsal then error(await.CANCELLED, 0) end
  error("this waits, so it can't be called while the script is loaded", level + 1)
end

local function end_rehearsal(task, ...)
  current, is_rehearsal = task, false
  return ...
end

--- pcall of f outside of any task. It raises CANCELLED when f would wait, whatever f does about it.
function await.rehearse(f, ...)
  local task = current
  current, is_rehearsal = nil, true
  return end_rehearsal(task, pcall(f, ...))
end

--- The running task, or nil.
function await.current()
  return current
end

--- For task.lua: authors may not resume this coroutine, which is a task's.
function await.hold(thread)
  held[thread] = "this coroutine is a request's or a task's own: only the worker resumes it"
end

--- For task.lua: a task begins (a table with its coroutine in .thread) or has ended (nil).
function await.set_current(task)
  current, broken = task, NOT_BROKEN
end

--- For task.lua: the coroutine's job is done; returns when it has got the next.
function await.idle()
  yield(true)
end

-- Before C is asked for a wait, or it would remember one that never came about.
local function check_can_wait(level)
  if not current then await.refuse(level + 1) end
  if not can_yield() then
    error("this waits, so it can't be called inside a function that table.sort, string.gsub or the "
      .. "like calls", level + 1)
  end
end

--- Waits until something that the running task waits for has changed.
function await.wait()
  local me = current
  if not me or not can_yield() then check_can_wait(3) end
  if running() == me.thread then
    yield()
    current = me
  else
    yield(WAIT) -- who resumes is at work for its own task
  end
end

--- coroutine.yield for authors: a hook itself has nobody to yield to, nor has a script's text.
function await.yield(...)
  local thread = running()
  if not thread or held[thread] then
    error("coroutine.yield: this is no coroutine of the script's own; to wait, call worker.sleep",
      2)
  end
  return yield(...)
end

-- A task that was cancelled or stopped, and a program that exits, end: no pcall of the author's may
-- hold them up, or one in a loop would spin for ever. What was stopped is known by C alone: its
-- error has come past handlers, which makes it another one, or is LuaJIT's own for no memory.
local function is_ending(err)
  return err == await.CANCELLED or err == await.EXIT or C.lw_api_stopped() ~= 0
end

--- For whoever caught an error of the author's: raises it again when it ends the task.
function await.check_ending(err)
  if is_ending(err) then error(err, 0) end
end

local function pass_endings(ok, first, ...)
  if not ok then await.check_ending(first) end
  return ok, first, ...
end

--- pcall and xpcall for authors.
function await.pcall(f, ...)
  return pass_endings(pcall(f, ...))
end

function await.xpcall(f, handler, ...)
  return pass_endings(xpcall(f, function(err)
    if is_ending(err) then return err end
    return handler(err)
  end, ...))
end

local function note_broken(co, err)
  if not rawequal(broken.err, err) then broken = { err = err } end
  if #broken < 8 then broken[#broken + 1] = co end
end

--- For trace.lua: those that this error ended.
function await.broken_by(err)
  return err ~= nil and rawequal(broken.err, err) and broken or NOT_BROKEN
end

local function settle(co, ok, first, ...)
  if ok and first == WAIT then
    held[co] = "this coroutine waits in another task"
    await.wait()
    held[co] = nil
    return settle(co, co_resume(co))
  end
  if not ok then note_broken(co, first) end
  return pass_endings(ok, first, ...)
end

--- coroutine.resume for authors: what waits inside their coroutine makes the whole task wait.
function await.resume(co, ...)
  local why = held[co]
  if why then return false, why end
  return settle(co, co_resume(co, ...))
end

local function unwrap(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

--- coroutine.wrap for authors.
function await.wrap(f)
  local co = coroutine.create(f)
  return function(...)
    return unwrap(await.resume(co, ...))
  end
end

--- Ends the task, silently, when the code says that it was cancelled.
function await.check_cancel(code)
  if code == CANCELLED then error(await.CANCELLED, 0) end
end

function await.sleep(seconds)
  if type(seconds) ~= "number" or seconds ~= seconds or seconds < 0 then
    error("sleep: expected seconds, got " .. base.show(seconds), 2)
  end
  check_can_wait(2)
  local code = C.lw_api_task_sleep(seconds)
  while code == AGAIN do
    await.wait()
    code = C.lw_api_task_sleep(seconds)
  end
  await.check_cancel(code)
end

--- Until a moment of base.C.lw_api_now(), to some microseconds. One that has passed is no wait.
function await.sleep_until(moment)
  local code = C.lw_api_task_sleep_until(moment)
  while code == AGAIN do
    await.wait()
    code = C.lw_api_task_sleep_until(moment)
  end
  await.check_cancel(code)
end

--- Waits until the task is cancelled: for a program, until it is asked to stop. Returns normally,
--- so that it can tidy up.
function await.cancelled()
  check_can_wait(2)
  while C.lw_api_task_wait_cancel() == AGAIN do
    await.wait()
  end
end

--- Waits until another task notifies `key`, a whole number. False when `seconds` passed first.
function await.notified(key, seconds)
  check_can_wait(2)
  local limit = seconds or -1
  local code = C.lw_api_task_wait_notify(key, limit)
  while code == AGAIN do
    await.wait()
    code = C.lw_api_task_wait_notify(key, limit)
  end
  await.check_cancel(code)
  return code ~= TIMEOUT
end

function await.notify(key)
  C.lw_api_task_notify(key)
end

return await

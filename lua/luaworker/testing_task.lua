-- SPDX-License-Identifier: MIT
-- What stands before C for the running task (script/api.c, script/task.c): its request, its job,
-- its waits, and the clock. Loaded by testing.lua.
local base = require "luaworker.base"
local kernel = require "luaworker.testing_kernel"

local C, real = base.C, base.ffi.C

function C.lw_api_task_request()
  return kernel.current.exchange
end

function C.lw_api_task_job()
  return kernel.current.job or 0
end

function C.lw_api_task_spawn(job)
  kernel.start { instance = kernel.instance, job = job }
  return base.OK
end

function C.lw_api_task_spawn_child(job)
  kernel.start { instance = kernel.instance, job = job, parent = kernel.current }
  return base.OK
end

function C.lw_api_job_done(result)
  kernel.current.result = result
end

function C.lw_api_job_failed(p, n)
  kernel.current.error = base.ffi.string(p, n)
end

function C.lw_api_stopped()
  local task = kernel.current
  return task and task.stopped and 1 or real.lw_api_stopped()
end

function C.lw_api_stop_text(text, traceback)
  local stopped = kernel.current and kernel.current.stopped
  if not stopped then return real.lw_api_stop_text(text, traceback) end
  text.p, text.n = stopped.text, #stopped.text
  traceback.p, traceback.n = stopped.trace, #stopped.trace
end

local function start_timer(task, seconds)
  task.timed = false
  task.timer = kernel.after(seconds, function()
    task.timed = true
    kernel.wake(task)
  end)
end

function C.lw_api_task_sleep(seconds)
  local task = kernel.current
  if task.cancelled then
    task.sleeping = false
    return base.CANCELLED
  elseif not task.sleeping then
    task.sleeping = true
    start_timer(task, seconds)
    return base.AGAIN
  elseif not task.timed then
    return base.AGAIN
  end
  task.sleeping = false
  return base.OK
end

function C.lw_api_task_sleep_until(when)
  return C.lw_api_task_sleep(math.max(0, when - kernel.time))
end

function C.lw_api_task_wait_cancel()
  return kernel.current.cancelled and base.CANCELLED or base.AGAIN
end

function C.lw_api_task_wait_notify(key, seconds)
  local task = kernel.current
  if not task.notify_key and not task.cancelled then
    task.notify_key, task.notified, task.timed = key, false, false
    if seconds >= 0 then start_timer(task, seconds) end
    return base.AGAIN
  end
  local code = task.notified and base.OK or task.cancelled and base.CANCELLED
    or task.timed and base.TIMEOUT or base.AGAIN
  if code ~= base.AGAIN then
    task.notify_key = nil
    kernel.stop_timer(task.timer)
  end
  return code
end

function C.lw_api_task_notify(key)
  for _, task in ipairs(kernel.tasks) do
    if task.notify_key == key and task.instance == kernel.instance then
      task.notified = true
      kernel.wake(task)
    end
  end
end

function C.lw_api_now()
  return kernel.time
end

function C.lw_api_wall()
  return kernel.wall()
end

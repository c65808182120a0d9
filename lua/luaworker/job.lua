-- SPDX-License-Identifier: MIT
-- What tasks without a request run, by the number that C was given: functions that were spawned,
-- and the script's own jobs, start() and the benchmark, of which C is told how they ended.
local base = require "luaworker.base"
local await = require "luaworker.await"
local failure = require "luaworker.failure"

local C = base.C
local catch = failure.catch

local job = {}

local spawned = {} -- by job number: { f, n, origin = of the request that it began in, ... }
local own = {}     -- by job number: { name, f, prefix }
local last = 0

local function next_number()
  last = last + 1
  return last
end

local function begin(start, f, ...)
  local number = next_number()
  spawned[number] = { f, select("#", ...), ... }
  spawned[number].origin = failure.origin_of(await.current())
  local code = start(number)
  if code == base.OK then return end
  spawned[number] = nil
  await.check_cancel(code)
  error("spawn: too many tasks", 3)
end

--- worker.spawn(f, ...): f runs as a task of its own, beginning in a later turn.
function job.spawn(f, ...)
  if type(f) ~= "function" then error("spawn: expected function, got " .. base.show(f), 2) end
  await.task()
  begin(C.lw_api_task_spawn, f, ...)
end

--- The same, but it ends with the running task.
function job.spawn_child(f, ...)
  begin(C.lw_api_task_spawn_child, f, ...)
end

--- A job of the script's own: its number, for C to start it by, as often as it likes. f returns a
--- number or nothing; nil and a sentence, or what it raises, behind the prefix, is why it failed.
function job.keep(name, f, prefix)
  local number = next_number()
  own[number] = { name = name, f = f, prefix = prefix or "" }
  return number
end

local function run_spawned(number)
  local call = spawned[number]
  spawned[number] = nil
  await.task().origin = call.origin
  local ok, caught = xpcall(call[1], catch, unpack(call, 3, call[2] + 2))
  if not ok then caught = failure.settle(caught) end
  if ok or failure.is_ending(caught) then return end
  failure.report(C.LW_FAILED_JOB, call.origin, "spawn", call[1], caught)
end

local function run_own(one)
  local ok, result, why = xpcall(one.f, catch)
  if not ok then
    result = failure.settle(result)
    if failure.is_ending(result) then return end
    if not failure.is_failure(result) then
      failure.report(C.LW_FAILED_JOB, nil, one.name, nil, result)
    end
    why = one.prefix .. failure.text_of(result)
  elseif why == nil then
    return C.lw_api_job_done(tonumber(result) or 0)
  end
  C.lw_api_job_failed(why, #why)
end

--- For task.lua: the running task does the job of this number.
function job.run(number)
  local one = own[number]
  if one then return run_own(one) end
  run_spawned(number)
end

return job

-- SPDX-License-Identifier: MIT
-- The two doors through which C enters Lua: `main`, the body of every coroutine, and `load`, which
-- takes in a script. A coroutine does one job, says so by yielding true, and is given the next.
local base = require "luaworker.base"
local await = require "luaworker.await"
local check = require "luaworker.check"
local failure = require "luaworker.failure"
local job = require "luaworker.job"
local log = require "luaworker.log"
local route = require "luaworker.route"
local sandbox = require "luaworker.sandbox"

local C = base.C
local catch = failure.catch

local task = {}

local main_chunk -- run: the program

local function run_request(me, r, number)
  local entry = route.entries[number]
  me.request, me.entry, me.handles = r, entry, { task = me, request = r, call = false }
  local ok, caught = xpcall(entry.walk, catch, me, entry, r)
  if not ok then route.fail(me, entry, r, failure.settle(caught)) end
end

local function run_program()
  local ok, caught = xpcall(main_chunk, catch, unpack(arg or {}))
  if not ok then caught = failure.settle(caught) end
  if ok or failure.is_ending(caught) then return end
  io.stdout:flush()
  io.stderr:write(failure.describe(caught), "\n")
  C.lw_api_exit(1)
end

local function next_job() -- alone: see base.lua
  return C.lw_api_task_request(), C.lw_api_task_job()
end

local function run_job(me)
  local r, number = next_job()
  if r ~= nil then return run_request(me, r, number) end
  if number == 0 then return run_program() end
  job.run(number)
end

-- What is known of a task. Of eight fields, which most get by with, to keep a stream's memory low.
local function new_task()
  return {
    thread = coroutine.running(),
    request = false, -- C's handle of the request that it answers
    handles = false, -- { task, request, call }: the script's objects of this request go through it
    entry = false,   -- the request's route, and the hook that runs
    hook = false,
    admitted = false,
    stream = false,  -- which the script answers with
    -- origin: whose failures are told, of who started it
    -- open_calls, answers: its own to servers (answer.lua)
    -- model_error, model_unreachable: of its last call to the model
    -- drops_stream: it measures (benchmark.lua)
  }
end

--- The body of every coroutine. Never returns.
function task.main()
  local me = new_task()
  await.hold(me.thread)
  while true do
    await.set_current(me)
    local ok, err = pcall(run_job, me)
    if not ok then log.error("a task failed outside of its hooks: " .. failure.show(err)) end
    route.retire(me) -- in any case: nothing that a script kept may reach what C frees now
    await.set_current(nil)
    await.idle()
  end
end

--- Takes in a script, outside of any task. mode "serve": makes it the worker, if nothing is wrong
--- with it; mode "run": the program of job 0. Raises what is wrong, one mistake a line.
function task.load(path, text, mode)
  if mode == "serve" then return check.offer(path, text) end
  local chunk, err = sandbox.compile(path, text, mode)
  if not chunk then error(err, 0) end
  main_chunk = chunk
end

return task

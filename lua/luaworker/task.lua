-- SPDX-License-Identifier: MIT
-- The two doors through which C enters Lua: `main`, the body of every coroutine, and `load`, which
-- takes in a script. A coroutine does one job, says so by yielding true, and is given the next.
local base = require "luaworker.base"
local await = require "luaworker.await"
local answer = require "luaworker.answer"
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
  me.request, me.entry = r, entry
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

local function run_job(me)
  local r = C.lw_api_task_request()
  local number = C.lw_api_task_job()
  if r ~= nil then return run_request(me, r, number) end
  if number == 0 then return run_program() end
  job.run(number)
end

--- The body of every coroutine. Never returns.
function task.main()
  local me = { thread = coroutine.running() }
  await.hold(me.thread)
  answer.equip(me)
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

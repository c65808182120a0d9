-- SPDX-License-Identifier: MIT
-- How much workload per second the model does: a route is measured by calls of its own, made as its
-- requests are made, but for the queue and the account. One call to warm up, then rounds of calls
-- side by side; the best round counts. Runs as a job of the script (job.lua), each call in a task
-- that ends with it. docs/benchmark.md tells it to users.
local base = require "luaworker.base"
local await = require "luaworker.await"
local answer = require "luaworker.answer"
local direct = require "luaworker.direct"
local failure = require "luaworker.failure"
local job = require "luaworker.job"
local json = require "luaworker.json"
local log = require "luaworker.log"
local response = require "luaworker.response"
local route = require "luaworker.route"
local sample = require "luaworker.sample"

local C = base.C
local now = C.lw_api_now

local RUNS, CONCURRENCY, ROUND_SECONDS = 8, 10, 600
local UNREACHABLE_SECONDS, PAUSE_SECONDS = 60, 0.5
local DONE = 0x62656e63 -- the key by which a round's last call wakes the benchmark
local SHOWN_BYTES = 200

local benchmark = {}

-- A run: { entry, opts (the route's), path, url, source, rounds, concurrency, seconds, and number
-- (of the last call) }. A call: { id, payload, body, workload }. A round: { left, workload,
-- answered, reason, unreachable, begun, ended }.

-- Calls --

local function header(call, name, value)
  C.lw_api_call_header(call, name, #name, value, #value)
end

local function open_call(run, one)
  local opts = run.opts
  local call = C.lw_api_call_open("POST", 4, run.url, #run.url)
  C.lw_api_call_of_model(call)
  header(call, "Content-Type", "application/json")
  header(call, "X-Request-Id", one.id)
  C.lw_api_call_body(call, one.body, #one.body)
  C.lw_api_call_timeouts(call, opts.connect or 5, opts.first_byte or 0, opts.idle or 0,
    opts.total or 0)
  return call
end

-- Reads to the end and drops it; the first bytes are returned, to show what a failure says.
local function drain(call)
  local shown
  while true do
    local piece, code = direct.call_read(call)
    if code == base.AGAIN then
      await.wait()
    elseif not piece then
      return code, shown or ""
    elseif not shown then
      shown = piece:sub(1, SHOWN_BYTES)
    end
  end
end

--- 200, or another status or nil with the reason, and whether the model could not be reached.
local function call_model(run, one)
  local call = open_call(run, one)
  local code = answer.await_head(call)
  await.check_cancel(code)
  if code ~= base.OK then return nil, answer.error_text(call, code), code == base.IO end
  local status = C.lw_api_call_status(call)
  local ending, shown = drain(call)
  await.check_cancel(ending)
  if ending ~= base.EOF then return nil, answer.error_text(call, ending), false end
  C.lw_api_call_close(call)
  if status == 200 then return 200 end
  return status, "the model answered " .. status .. (shown ~= "" and ": " .. shown or ""), false
end

-- What `remote` gets for a request.
local function stand_in(run, one)
  return {
    id = one.id, method = "POST", path = run.path, query_string = "", query = {}, headers = {},
    remote_addr = "", payload = one.payload,
    body = function() return json.encode(one.payload) end,
    json = function() return one.payload end,
  }
end

local function call_remote(run, one)
  local me, remote = await.task(), run.entry.remote
  me.drops_stream, me.model_unreachable = true, false
  local value, err = remote(one.payload, stand_in(run, one))
  me.drops_stream = false
  if value == nil and err ~= nil then return nil, tostring(err), me.model_unreachable end
  value = response.from_remote(value)
  if answer.is_answer(value) then value:read_to_end() end
  if value.status == 200 then return 200 end
  return value.status, "remote answered " .. tostring(value.status), me.model_unreachable
end

local function note_call(round, one, status, reason, unreachable)
  if status == 200 then
    round.workload = round.workload + one.workload
    round.answered = round.answered + 1
  else
    round.reason = round.reason or reason
    round.unreachable = round.unreachable or unreachable
  end
  log.debug("benchmark call %s: %s, workload %g, %.3f s", one.id, status == 200 and "200" or reason,
    one.workload, now() - round.begun)
  round.left = round.left - 1
  if round.left > 0 then return end
  round.ended = now()
  await.notify(DONE)
end

-- The body of a call's task.
local function run_call(run, round, one)
  local perform = run.entry.remote and call_remote or call_model
  local ok, status, reason, unreachable = xpcall(perform, failure.catch, run, one)
  if not ok then
    status = failure.settle(status)
    if failure.is_ending(status) then error(status, 0) end
    log.debug("benchmark call %s: %s", one.id, failure.describe(status))
    status, reason = nil, failure.text_of(status)
    if run.entry.remote then
      reason = "hook " .. route.place_of_hook("remote", run.entry.remote) .. ": " .. reason
      unreachable = await.task().model_unreachable
    end
  end
  note_call(round, one, status, reason, unreachable)
end

-- Rounds --

local function say(format, ...)
  local text = format:format(...)
  C.lw_api_measuring(text, #text)
end

local function make_sample(run)
  local ok, one = pcall(sample.make, run.opts.payload, run.entry, run.source)
  if ok then return one end
  if failure.is_failure(one) and one.caught then
    local origin = { route = run.entry.label, id = "" }
    failure.report(C.LW_FAILED_JOB, origin, "benchmark", one.f, one.caught)
  end
  error(one, 0)
end

local function make_call(run)
  local one = make_sample(run)
  run.number = run.number + 1
  one.id = "benchmark-" .. run.number
  await.sleep(0) -- requests may be running: theirs is the next turn
  return one
end

local function run_round(run, calls, deadline)
  local round = { left = #calls, workload = 0, answered = 0, begun = now() }
  for _, one in ipairs(calls) do
    job.spawn_child(run_call, run, round, one)
  end
  while round.left > 0 do
    local rest = deadline - now()
    if rest <= 0 or not await.notified(DONE, rest) and round.left > 0 then
      error(failure.new(504, "model", ("%d of %d calls were not answered within %g s"):format(
        round.left, #calls, run.seconds)), 0)
    end
  end
  return round
end

--- A round of so many calls, again and again while the model server can't be reached: it may be
--- starting. No longer than a minute, and than a round may take.
local function measure(run, count)
  local calls = {}
  for i = 1, count do
    calls[i] = make_call(run)
  end
  local begun, told = now(), false
  while true do
    local round = run_round(run, calls, now() + run.seconds)
    local give_up = begun + math.min(UNREACHABLE_SECONDS, run.seconds)
    if not round.unreachable or now() + PAUSE_SECONDS > give_up then return round end
    if not told then log.warn("benchmark: %s; trying again for a minute", round.reason) end
    told = true
    say("%s; trying again", round.reason)
    await.sleep(PAUSE_SECONDS)
  end
end

local function warm_up(run)
  say("measuring POST %s: warming up", run.path)
  local round = measure(run, 1)
  if round.answered == 0 then log.warn("benchmark: the warm-up call failed: %s", round.reason) end
end

-- nil and a sentence when the model failed it.
local function rate_of(run, i)
  say("measuring POST %s: round %d of %d", run.path, i, run.rounds)
  local round = measure(run, run.concurrency)
  if round.answered == 0 then
    return nil, "No successful responses from benchmark: " .. round.reason
  end
  local seconds = math.max(round.ended - round.begun, 1e-6)
  local rate = round.workload / seconds
  if round.answered < run.concurrency then
    log.warn("benchmark: round %d: %d of %d calls failed: %s", i, run.concurrency - round.answered,
      run.concurrency, round.reason)
  end
  log.debug("benchmark: round %d of %d: %.6g workload/s, %d of %d answered in %.3f s", i,
    run.rounds, rate, round.answered, run.concurrency, seconds)
  return rate
end

local function tell(run, rates, begun)
  local best, worst = rates[#rates], rates[1]
  local median = (rates[math.floor((#rates + 1) / 2)] + rates[math.ceil((#rates + 1) / 2)]) / 2
  log.info("benchmark: %.6g workload/s, the best of %d rounds of %d calls to POST %s; worst %.6g, "
    .. "median %.6g; %.1f s", best, run.rounds, run.concurrency, run.path, worst, median,
    now() - begun)
end

local function run_all(run)
  local begun = now()
  if run.opts.benchmark.warmup ~= false then warm_up(run) end
  local rates = {}
  for i = 1, run.rounds do
    local rate, why = rate_of(run, i)
    if not rate then return nil, why end
    rates[i] = rate
  end
  table.sort(rates)
  if rates[#rates] <= 0 then
    return nil, "benchmark: the workload of every payload was counted as 0"
  end
  tell(run, rates, begun)
  return rates[#rates]
end

--- Measures a route: workload/s, or nil and why not. opts: the route's and the backend's; entry:
--- its hooks, see backend.lua; find_url(): where its requests go.
function benchmark.run(path, opts, entry, find_url)
  local spec = opts.benchmark
  return run_all {
    entry = entry, opts = opts, path = path, url = find_url(),
    source = sample.source_of(opts), number = 0,
    rounds = spec.runs or RUNS, seconds = spec.timeout or ROUND_SECONDS,
    concurrency = opts.allow_parallel_requests and (spec.concurrency or CONCURRENCY) or 1,
  }
end

return benchmark

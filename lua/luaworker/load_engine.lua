-- SPDX-License-Identifier: MIT
-- Sends the requests of a load test and waits for their ends. Open loop: each request has its own
-- moment, whatever became of those before, and is a task of its own. Closed loop: N tasks that each
-- send when their answer is there. Called by load.lua.
local base = require "luaworker.base"
local await = require "luaworker.await"
local failure = require "luaworker.failure"
local job = require "luaworker.job"
local quantile = require "luaworker.quantile"
local record = require "luaworker.load_record"
local recorder = require "luaworker.load_recorder"
local schedule = require "luaworker.load_schedule"

local engine = {}

local C = base.C
local now = C.lw_api_now
local SLICE_S = 0.2     -- how long a sleep may hold up a stop
local DRAW_S, WORKERS_S, WORKERS_TRIES = 0.5, 2, 3
local CONNECT_S, TASKS_MOST = 10, 50000
local KEY_STOP, KEY_ENDED = -101, -102 -- of notifications

-- One request --

--- due: its intended moment; held: seconds for which the limit of those at once kept it back.
local function send_one(run, index, due, held)
  local begun = now()
  run.last_begun = begun
  local payload = run.payloads[(index - 1) % #run.payloads + 1]
  local one = {
    index = index, intended = due - run.start, workload = payload.workload,
    schedule_delay = math.max(begun - due - held, 0),
  }
  local ok, err = pcall(run.target.send, run.target, run, one, payload, due)
  if not ok then
    if failure.is_ending(err) then error(err, 0) end
    record.fail(one, run, due, "client", tostring(err))
  end
  run.recorder:note(one)
  if run.on_record then run.on_record(one) end
  if run.waits_for_end then await.notify(KEY_ENDED) end
end

local function begin_one(run, due)
  run.begun = run.begun + 1
  run.first_due, run.last_due = run.first_due or due, due
  run.recorder:begin(math.max(due, run.start) - run.start)
end

-- The open loop --

local function sleep_to(run, moment)
  while not run.stopping and moment - now() > SLICE_S do
    await.sleep_until(now() + SLICE_S)
  end
  if not run.stopping then await.sleep_until(moment) end
end

local function wait_for_end(run)
  run.waits_for_end = true
  await.notified(KEY_ENDED, SLICE_S)
  run.waits_for_end = false
end

--- Waits for a free place; for how many seconds this one, or one before it, was kept back.
local function wait_for_place(run, due)
  while run.recorder.in_flight >= run.limit and not run.stopping do
    wait_for_end(run)
    run.held_until = now()
  end
  local held = math.max(run.held_until - due, 0)
  if held > 0 then run.recorder:hold(held) end
  return held
end

local function open_loop(run)
  for moment in schedule.moments(run.settings) do
    local due = run.start + moment
    sleep_to(run, due)
    local held = wait_for_place(run, due)
    if run.stopping then return end
    begin_one(run, due)
    job.spawn(send_one, run, run.begun, due, held)
  end
end

-- The closed loop --

local function closed_client(run)
  local s = run.settings
  while not run.stopping and not (s.n and run.begun >= s.n) do
    local due = now()
    if s.duration_s and due - run.start >= s.duration_s then break end
    begin_one(run, due)
    send_one(run, run.begun, due, 0)
  end
  run.clients = run.clients - 1
end

local function closed_loop(run)
  run.clients = run.settings.concurrency
  for _ = 1, run.settings.concurrency do
    job.spawn(closed_client, run)
  end
  while run.clients > 0 do
    await.sleep(SLICE_S / 10)
  end
end

-- Beside them --

local function draw(run)
  run.elapsed = math.max(now() - run.start, 0)
  run.recorder:advance(run.elapsed)
  if run.view then run.view:draw(run) end
end

local function keep_drawing(run)
  while not run.over do
    draw(run)
    await.sleep(DRAW_S)
  end
end

local function keep_counting_workers(run)
  local failures = 0
  while not run.over and failures < WORKERS_TRIES do
    local count = run.target:count_workers()
    run.recorder.workers_eligible = count
    failures = count and 0 or failures + 1
    await.sleep(WORKERS_S)
  end
end

--- From now on the first signal to stop only stops the sending; a second one ends the program.
function engine.catch_stop(control)
  C.lw_api_on_stop(KEY_STOP)
  job.spawn_child(function()
    await.notified(KEY_STOP)
    if control.released then return end
    control.stopping = true
    if control.run then control.run.stopping = true end
  end)
end

--- Each signal ends the program again.
function engine.release_stop(control)
  control.released = true
  C.lw_api_on_stop(0)
  await.notify(KEY_STOP)
end

-- A run --

local function warm_up(run, control)
  local warm = {}
  for key, value in pairs(run.settings) do
    warm[key] = value
  end
  warm.n, warm.stages, warm.duration_s = nil, nil, run.settings.warmup_s
  warm.rps = run.settings.rps or run.settings.stages and schedule.first_rate(run.settings.stages)
  warm.warmup_s, warm.slo = 0, nil
  engine.run {
    settings = warm, payloads = run.payloads, target = run.target, view = run.view,
    phase = "warming up",
  }:go(control)
end

local Run = {}
Run.__index = Run

--- parts: settings, payloads = { { json, workload, model_body } }, target, and perhaps view,
--- on_record, phase (a text for the view).
function engine.run(parts)
  local settings, gaps = parts.settings, quantile.new()
  return setmetatable({
    settings = settings, payloads = parts.payloads, target = parts.target, view = parts.view,
    on_record = parts.on_record, phase = parts.phase,
    recorder = recorder.new(settings, gaps), begun = 0, elapsed = 0, start = 0,
    limit = math.min(settings.max_concurrency or TASKS_MOST, TASKS_MOST), held_until = 0,
    shot_options = {
      timeout = { connect = math.min(CONNECT_S, settings.timeout_s), total = settings.timeout_s },
      gaps = gaps, stream = settings.stream,
    },
  }, Run)
end

--- Does all of it. control.stopping, set by engine.catch_stop, ends it early.
function Run:go(control)
  if self.settings.warmup_s > 0 then warm_up(self, control) end
  control.run = self
  self.stopping = control.stopping
  local cpu = os.clock()
  self.start = now()
  job.spawn_child(keep_drawing, self)
  if self.target.count_workers then job.spawn_child(keep_counting_workers, self) end
  if self.settings.concurrency then closed_loop(self) else open_loop(self) end
  while self.recorder.in_flight > 0 do
    wait_for_end(self)
  end
  self.over = true
  self.elapsed = now() - self.start
  self.cpu_share = (os.clock() - cpu) / math.max(self.elapsed, 1e-3)
  return self
end

return engine

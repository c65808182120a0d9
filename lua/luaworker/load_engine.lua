-- SPDX-License-Identifier: MIT
-- Sends the requests of a load test and waits for their ends. Open loop: each request has its own
-- moment, whatever became of those before, and is a task of its own. Closed loop: N tasks that each
-- send when their answer is there. Called by load.lua.
local base = require "luaworker.base"
local await = require "luaworker.await"
local failure = require "luaworker.failure"
local job = require "luaworker.job"
local quantile = require "luaworker.quantile"
local recorder = require "luaworker.load_recorder"
local schedule = require "luaworker.load_schedule"
local target = require "luaworker.load_target"

local engine = {}

local C = base.C
local now = C.lw_api_now
local SLICE_S = 0.2     -- how long a sleep may hold up a stop
local DRAW_S, WORKERS_S = 0.5, 2
local KEY_STOP, KEY_ENDED = -101, -102 -- of notifications

-- One request --

local function finish(run, record)
  run.recorder:note(record)
  if run.on_record then run.on_record(record) end
  await.notify(KEY_ENDED)
end

--- due: its intended moment; held: seconds for which --max-concurrency kept it back.
local function send_one(run, index, due, held)
  local begun = now()
  run.first_begun, run.last_begun = run.first_begun or begun, begun
  local one = run.payloads[(index - 1) % #run.payloads + 1]
  local record = {
    index = index, intended = due - run.start, workload = one.workload,
    schedule_delay = math.max(begun - due - held, 0),
  }
  local ok, err = pcall(run.target.send, run.target, run, record, one, due)
  if not ok then
    if failure.is_ending(err) then error(err, 0) end
    target.fail(run, record, due, "client", tostring(err))
  end
  finish(run, record)
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

--- Waits for a free place; how long that took.
local function wait_for_place(run, due)
  local limit = run.settings.max_concurrency
  if not limit or run.recorder.in_flight < limit then return 0 end
  while run.recorder.in_flight >= limit and not run.stopping do
    await.notified(KEY_ENDED, SLICE_S)
  end
  local held = math.max(now() - due, 0)
  run.recorder:hold(held)
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
  await.notify(KEY_ENDED)
end

local function closed_loop(run)
  run.clients = run.settings.concurrency
  for _ = 1, run.settings.concurrency do
    job.spawn(closed_client, run)
  end
  while run.clients > 0 do
    await.notified(KEY_ENDED, SLICE_S)
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
  while not run.over do
    run.recorder.workers_eligible = run.target:count_workers()
    if run.recorder.workers_eligible == nil then return end
    await.sleep(WORKERS_S)
  end
end

--- From now on the first signal to stop only stops the sending; a second one ends the program.
function engine.catch_stop(control)
  C.lw_api_on_stop(KEY_STOP)
  job.spawn(function()
    await.notified(KEY_STOP)
    control.stopping = true
    if control.run then control.run.stopping = true end
  end)
end

-- A run --

local function warm_up(run, control)
  local warm = {}
  for key, value in pairs(run.settings) do
    warm[key] = value
  end
  warm.n, warm.stages, warm.duration_s = nil, nil, run.settings.warmup_s
  warm.rps = run.settings.rps or run.settings.stages and schedule.rate_at(run.settings, 0)
  warm.warmup_s, warm.slo = 0, nil
  if not warm.concurrency and warm.rps <= 0 then return end
  engine.run {
    settings = warm, payloads = run.payloads, target = run.target, view = run.view,
    phase = "warming up",
  }:go(control)
end

local Run = {}
Run.__index = Run

--- parts: settings, payloads = { { json, model_body, workload } }, target, and perhaps view,
--- on_record, phase (a text for the view).
function engine.run(parts)
  local settings, gaps = parts.settings, quantile.new()
  return setmetatable({
    settings = settings, payloads = parts.payloads, target = parts.target, view = parts.view,
    on_record = parts.on_record, phase = parts.phase,
    recorder = recorder.new(settings, gaps), begun = 0, elapsed = 0, start = 0,
    shot_options = { timeout = settings.timeout_s, gaps = gaps, stream = settings.stream },
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
    await.notified(KEY_ENDED, SLICE_S)
  end
  self.over = true
  self.elapsed = now() - self.start
  self.cpu_share = (os.clock() - cpu) / math.max(self.elapsed, 1e-3)
  return self
end

return engine

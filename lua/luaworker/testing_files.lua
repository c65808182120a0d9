-- SPDX-License-Identifier: MIT
-- Test files: finding them, and running each in an instance of its own. For `luaworker test`.
local base = require "luaworker.base"
local await = require "luaworker.await"
local failure = require "luaworker.failure"
local instance = require "luaworker.testing_instance"
local kernel = require "luaworker.testing_kernel"
local report = require "luaworker.testing_report"
local suite = require "luaworker.testing_suite"

local real = base.ffi.C

local files = {}

local MAX_DEPTH = 16

local function is_test(name)
  return name:find "_test%.lua$" ~= nil or name:find "_spec%.lua$" ~= nil
end

-- { names of files, names of directories }, sorted; nil and why not.
local function list_directory(path)
  local span = base.span
  if real.lw_api_directory(path, #path, span) ~= base.OK then
    return nil, base.ffi.string(real.lw_api_error())
  end
  local here = { f = {}, d = {} }
  for kind, name in base.text(span):gmatch "(.)(%Z+)%z" do
    table.insert(here[kind], name)
  end
  table.sort(here.f)
  table.sort(here.d)
  return here
end

local function add_below(found, path, depth)
  local here, err = list_directory(path)
  if not here then return err end
  local prefix = path == "." and "" or path:gsub("/*$", "/")
  for _, name in ipairs(here.f) do
    if is_test(name) then found[#found + 1] = prefix .. name end
  end
  for _, name in ipairs(here.d) do
    if depth < MAX_DEPTH and name ~= "node_modules" and name ~= "build" then
      add_below(found, prefix .. name, depth + 1)
    end
  end
end

--- The test files that these arguments name: files as they are, directories with all below them.
--- Nil and one sentence when one is not there.
function files.find(arguments)
  local found = {}
  for _, path in ipairs(arguments) do
    if list_directory(path) then
      add_below(found, path, 1)
    else
      local file, err = io.open(path, "rb")
      if not file then return nil, err end
      file:close()
      found[#found + 1] = path
    end
  end
  return found
end

-- What a test file sees is what programs see, but it can't end the run.
local function prepare(chunk)
  local env = getfenv(chunk)
  local own_os = {}
  for key, value in pairs(env.os) do
    own_os[key] = value
  end
  function own_os.exit()
    error("os.exit: a test does not end the run", 2)
  end
  rawset(env, "os", own_os)
  return chunk
end

local function read(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, err end
  local text = file:read "*a"
  file:close()
  return text
end

local function load_file(file, seconds)
  local text, err = read(file.path)
  local owner = instance.new()
  file.instance = owner
  owner.directory = file.path:match "^(.*/)" or ""
  local chunk
  if text then
    chunk, err = instance.module(owner, "luaworker.sandbox").compile(file.path, text, "run")
  end
  if chunk then return suite.load(file, owner, prepare(chunk), seconds) end
  file.tests, file.logs = {}, {}
  file.failures = { { is_error = true, text = err, places = {} } }
end

-- Between two tests the loop gets a turn: so Ctrl-C ends a run.
local function give_way()
  local code = real.lw_api_task_sleep(0)
  while code == base.AGAIN do
    await.wait()
    code = real.lw_api_task_sleep(0)
  end
  await.check_cancel(code)
end

local function selected(test, run)
  if run.only and not test.only then return false end
  return not run.filter or test.name:find(run.filter) ~= nil
end

local function run_test(run, file, test)
  test.file = file.path
  if not test.skip then suite.run(test, file.instance, run.seconds) end
  local state = test.failures and #test.failures > 0 and "failed" or test.skip and "skipped"
    or "passed"
  run.counts[state] = run.counts[state] + 1
  run.report:test(test, state)
  io.stdout:flush()
end

local function has_enough(run)
  return run.fail_fast and run.counts.failed > 0
end

local function run_file(run, file)
  if has_enough(run) then
    run.counts.left_out = run.counts.left_out + #file.tests
    return
  end
  run.report:begin_file(file)
  if #file.failures > 0 then
    run.counts.failed = run.counts.failed + 1
    run.report:broken_file(file)
    return
  end
  for _, test in ipairs(file.tests) do
    if selected(test, run) and not has_enough(run) then
      give_way()
      run_test(run, file, test)
    else
      run.counts.left_out = run.counts.left_out + 1
    end
  end
end

local function list_file(run, file)
  if #file.failures > 0 then
    local at, lines = report.describe(file.failures[1])
    io.stderr:write("luaworker test: ", at and at .. ": " or "", lines[1], "\n")
    run.counts.failed = run.counts.failed + 1
  end
  for _, test in ipairs(file.tests) do
    if selected(test, run) then
      io.stdout:write(test.place or file.path, ": ", test.name, "\n")
      run.counts.passed = run.counts.passed + 1
    end
  end
end

-- run.only: where the first .only stands.
local function note_only(run, file)
  for _, test in ipairs(file.tests) do
    run.only = run.only or test.only
  end
end

-- Why some were left out.
local function reasons(run)
  local list = { run.only and ".only" or nil }
  if run.filter then list[#list + 1] = "--filter" end
  if has_enough(run) then list[#list + 1] = "--fail-fast" end
  return table.concat(list, " or ")
end

local function close_file(file)
  if file.expectations then suite.settle(file) end
end

--- Runs these files: { filter, seconds, hook_seconds, fail_fast, report, only_list } → counts. The
--- files are loaded first, since one .only holds for all.
function files.run(paths, run)
  local begun = real.lw_api_now()
  kernel.hook_seconds = run.hook_seconds
  run.counts = { passed = 0, failed = 0, skipped = 0, left_out = 0 }
  local loaded = {}
  for i, path in ipairs(paths) do
    give_way()
    loaded[i] = { path = path, names = { path } }
    load_file(loaded[i], run.seconds)
    note_only(run, loaded[i])
  end
  for _, file in ipairs(loaded) do
    kernel.owner = nil
    if run.only_list then list_file(run, file) else run_file(run, file) end
    close_file(file)
  end
  run.counts.seconds = real.lw_api_now() - begun
  run.counts.only, run.counts.why_left_out = run.only, reasons(run)
  return run.counts
end

--- Whether a filter is a pattern that Lua takes.
function files.check_filter(filter)
  local ok, err = pcall(string.find, "", filter)
  return ok or nil, not ok and failure.text_of(err) or nil
end

return files

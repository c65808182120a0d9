-- SPDX-License-Identifier: MIT
-- Hooks are tried before any client comes: the payloads that a route would be benchmarked with walk
-- through them as a request's does. Nothing is sent; a hook that would wait is left there. Called
-- by check.lua; the walk is sample.lua's.
local base = require "luaworker.base"
local await = require "luaworker.await"
local backend = require "luaworker.backend"
local definition = require "luaworker.definition"
local failure = require "luaworker.failure"
local place = require "luaworker.place"
local sample = require "luaworker.sample"

local C = base.C

local rehearsal = {}

local DATASET_MAX = 20 -- payloads of a dataset that are tried: the load has to be quick

local parts = {
  generator = ".benchmark.generator", dataset = ".benchmark.dataset",
  make_benchmark_payload = ".make_benchmark_payload", for_test = ".payload.for_test",
}

--- The path of a hook of the route at `path`: its own, of its payload's class, or of the backend.
local function path_of_hook(one, path, name)
  if parts[name] then return path .. parts[name] end
  if one.opts[name] ~= nil then return path .. "." .. name end
  local class = one.opts.payload
  return class and class[name] ~= nil and path .. ".payload." .. name or name
end

-- raised: by sample.lua.
local function add(report, run, raised)
  local at, text = report.finder:of_error(raised.caught or raised.why)
  local from = raised.hook ~= run.source[1] and ", with the payload of " .. run.source[1] or ""
  local path = path_of_hook(run.one, run.path, raised.hook)
  if raised.hook == "dataset" then path = path .. "[" .. run.index .. "]" end
  report.list:add {
    path = path,
    message = run.entry.label .. from .. ": " .. text
      .. (run.has_start and " (but start() has not run before)" or ""),
    severity = run.has_start and "warning" or "error",
    place = at or report.finder:owned(place.of_function(raised.f)) or report.place_of(path),
  }
end

local function add_note(report, run)
  report.list:add {
    path = run.path, severity = "note", place = report.place_of(run.path),
    message = run.entry.label .. ": a hook waits for something, so what comes after is not tried",
  }
end

--- One payload's walk. False: it went wrong or could not be gone to its end.
local function try(report, run)
  local ok, caught = await.rehearse(sample.make, run.opts.payload, run.entry, run.source, true)
  if ok then return true end
  if caught == await.CANCELLED then
    add_note(report, run)
  elseif failure.is_failure(caught) and caught.hook then
    add(report, run, caught)
  else
    error(caught, 0)
  end
  return false
end

local walked = {
  "request_parser", "from_json_msg", "count_workload", "workload", "generate_payload_json",
  "remote",
}

-- Routes often share a class: the same payloads through the same hooks tell nothing new.
local function is_tried(tried, entry, source)
  for _, other in ipairs(tried) do
    local same = other.source[2] == source[2]
    for _, name in ipairs(walked) do
      same = same and other.entry[name] == entry[name]
    end
    if same then return true end
  end
  tried[#tried + 1] = { entry = entry, source = source }
  return false
end

local function try_route(report, value, i, tried)
  local one = value.opts.routes[i]
  local opts, entry = backend.work_of(one, value.opts)
  local source = sample.source_of(opts)
  if not source or is_tried(tried, entry, source) then return end
  local run = {
    one = one, opts = opts, entry = entry, source = source, path = "routes[" .. i .. "]",
    has_start = value.opts.start ~= nil,
  }
  local dataset = source[1] == "dataset" and opts.benchmark.dataset
  for index = 1, dataset and math.min(#dataset, DATASET_MAX) or 1 do
    run.index = index
    if not try(report, run) then return end
  end
end

--- Tries the hooks of the routes that is_good(i) says are free of other errors, and adds to
--- report.list what goes wrong. With a start() those are warnings: it may make what hooks need.
function rehearsal.run(report, value, is_good)
  local tried = {}
  for i, one in ipairs(value.opts.routes) do
    if is_good(i) and definition.is_work(one) then try_route(report, value, i, tried) end
    if C.lw_api_stopped() ~= 0 then return C.lw_api_stop_forget() end -- one endless hook is enough
  end
end

return rehearsal

-- SPDX-License-Identifier: MIT
-- One request's walk through its hooks. An entry holds what the script said of a route, resolved
-- once when it was loaded (backend.lua); its `walk` is one of those below. Runs inside task.lua's
-- protected call: whatever is raised ends this request only.
local base = require "luaworker.base"
local await = require "luaworker.await"
local answer = require "luaworker.answer"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local model = require "luaworker.model"
local request = require "luaworker.request"
local response = require "luaworker.response"

local C, span = base.C, base.span
local OK, AGAIN, BUSY = base.OK, base.AGAIN, base.BUSY
local wait = await.wait

local DEFAULT_WORKLOAD = 100
local BIG_PAYLOAD = 256 * 1024

local route = {
  DEFAULT_WORKLOAD = DEFAULT_WORKLOAD,
  entries = {}, -- by the job number that C was given
}

--- Numbers an entry for C.
function route.add_entry(entry)
  local entries = route.entries
  local job = #entries + 1
  entries[job] = entry
  return job
end

function route.is_workload(value)
  return type(value) == "number" and value >= 0 and value < math.huge
end

--- What the route's hook counts; DEFAULT_WORKLOAD when it fails to.
function route.count_workload(entry, payload)
  local hook = entry.count_workload
  local ok, workload = xpcall(hook, failure.catch, payload)
  if not ok and (failure.is_ending(workload) or C.lw_api_stopped() ~= 0) then error(workload, 0) end
  if ok and route.is_workload(workload) then return workload end
  if ok then
    workload = "returned " .. base.show(workload) .. ", expected a number of at least 0"
  elseif failure.is_failure(workload) then
    workload = workload.text
  end
  local origin = failure.origin_of(await.current()) or { route = entry.label, id = "" }
  failure.report(C.LW_FAILED_WORKLOAD, origin, "count_workload", hook, workload)
  return DEFAULT_WORKLOAD
end

--- Refuses the payload: 422.
function route.refuse(r, invalid)
  local text = json.encode { payload = invalid.fields }
  C.lw_api_request_invalid(r, text, #text)
end

local function set_model_body(r, value)
  if type(value) == "string" then return C.lw_api_request_set_model_body(r, value, #value) end
  if type(value) ~= "table" then
    error("returned " .. base.show(value) .. ", expected a table or JSON text", 0)
  end
  json.encode_for_model(r, value)
end

--- The payload as the hooks see it; nil when it was refused.
local function read_payload(task, entry, r)
  local payload = request.decode_payload(r)
  if entry.request_parser then
    task.hook = "request_parser"
    payload = entry.request_parser(payload)
  end
  if entry.from_json_msg and not failure.is_invalid(payload) then
    task.hook = "from_json_msg"
    payload = entry.from_json_msg(payload)
  end
  if failure.is_invalid(payload) then return route.refuse(r, payload) end
  if payload == nil then error("returned no payload", 0) end
  return payload
end

-- Each step over a payload of megabytes takes milliseconds, in which no token of any other stream
-- moves: between two of them the loop gets a turn.
local function give_way(r)
  C.lw_api_request_text(r, C.LW_REQUEST_PAYLOAD, span)
  if span.n > BIG_PAYLOAD then await.sleep(0) end
end

local function ask_admission(r, workload) -- alone: see base.lua
  local code = C.lw_api_request_admit(r, workload)
  return code
end

--- Reads, counts and admits. False when the request has been answered already; true, and for
--- `remote` the payload, which others need no longer.
local function prepare(task, entry, r)
  give_way(r)
  local payload = read_payload(task, entry, r)
  if payload == nil then return false end
  give_way(r)
  local workload = entry.workload
  if entry.count_workload then
    task.hook = "count_workload"
    workload = route.count_workload(entry, payload)
    give_way(r)
  end
  if entry.generate_payload_json then
    task.hook = "generate_payload_json"
    set_model_body(r, entry.generate_payload_json(payload))
    give_way(r)
  end
  local code = ask_admission(r, workload)
  while code == AGAIN do
    wait()
    code = ask_admission(r, workload)
  end
  if code == BUSY then return false end
  await.check_cancel(code)
  if code ~= OK then error("admission: " .. base.code_name(code), 0) end
  return true, entry.remote and payload
end

local function run_remote(task, entry, payload)
  task.hook = "remote"
  local value, err = entry.remote(payload, request.of(task))
  if value == nil and err ~= nil then error(err, 0) end
  response.answer(task, response.from_remote(value))
end

--- A signed envelope: payload hooks if there are any, the model, the response hook if there is one.
function route.work(task, entry, r)
  local is_admitted, payload = true, nil
  if entry.has_payload_hook then is_admitted, payload = prepare(task, entry, r) end
  if not is_admitted then return end
  task.admitted = true
  if entry.remote then return run_remote(task, entry, payload) end
  local respond = entry.generate_client_response
  if not respond then return C.lw_api_request_forward(r) end
  local model_response = model.answer_to_request(task, r)
  task.hook = "generate_client_response"
  local value, err = respond(request.of(task), model_response)
  response.answer(task, value, err)
end

--- A plain handler.
function route.handle(task, entry, _)
  task.hook = "handler"
  local value, err = entry.handler(request.of(task))
  response.answer(task, value, err)
end

--- A hook's name with its place.
function route.place_of_hook(name, f)
  local place = failure.place_of(f)
  return place and ("%s (%s)"):format(name, place) or name
end

--- What came of an error inside a walk: the client's answer and the log line.
function route.fail(task, entry, r, caught)
  if failure.is_ending(caught) then return end
  if failure.is_failure(caught) then
    local text = caught.text
    C.lw_api_request_fail(r, caught.status, caught.source, text, #text, "", 0)
    return
  end
  local invalid = type(caught) == "table" and caught.invalid
  if invalid and entry.has_payload_hook and not task.admitted then
    local ok, wrong = pcall(route.refuse, r, invalid)
    if ok then return end
    caught = failure.catch(wrong) -- what the script refused it with is no JSON
  end
  local hook, origin = task.hook or "none", failure.origin_of(task)
  local why = failure.report(C.LW_FAILED_REQUEST, origin, hook, entry[hook], caught)
  local text = ("the worker script failed in %s; its log says how, under request %s"):format(hook,
    origin.id)
  C.lw_api_request_fail(r, 500, "script", text, #text, why, #why)
end

--- At the end of a task: nothing of its request can be reached from Lua any more.
function route.retire(task)
  answer.retire(task)
  if task.handles then task.handles.request = false end
  task.request, task.handles, task.entry = false, false, false
  task.hook, task.admitted, task.stream = false, false, false
  if task.origin then task.origin = nil end
  if task.model_error then task.model_error = nil end
end

return route

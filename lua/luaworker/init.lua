-- SPDX-License-Identifier: MIT
-- require "luaworker": the words that a worker script is written in, gathered from their rooms.
local base = require "luaworker.base"
local await = require "luaworker.await"
local definition = require "luaworker.definition"
local failure = require "luaworker.failure"
local guard = require "luaworker.guard"
local http = require "luaworker.http"
local job = require "luaworker.job"
local json = require "luaworker.json"
local model = require "luaworker.model"
local payload = require "luaworker.payload"
local response = require "luaworker.response"

local function count(text) -- alone: see base.lua
  local tokens = base.C.lw_api_count_tokens(text, #text)
  return tokens
end

local function count_tokens(text)
  base.expect_string(text, "count_tokens")
  local tokens = count(text)
  return tokens
end

local readers = {}

function readers.number(text)
  return tonumber(text)
end

local truths = { ["true"] = true, yes = true, on = true, y = true, t = true, ["1"] = true }
local lies = { ["false"] = true, no = true, off = true, n = true, f = true, ["0"] = true }

function readers.boolean(text)
  text = text:lower()
  if truths[text] then return true end
  if lies[text] then return false end
end

--- worker.env(name, default): the environment variable, as the default's type when that is a
--- number or a boolean; the default when it is unset or empty.
local function env(name, default)
  base.expect_string(name, "worker.env")
  local text = os.getenv(name)
  if text == nil or text == "" then return default end
  local read = readers[type(default)]
  if not read then return text end
  local value = read(text)
  if value == nil then
    -- not what it is: it may be a secret, and this is logged
    error(("%s: expected %s, got another text"):format(name, type(default)), 2)
  end
  return value
end

-- worker.json(value, status) answers; worker.json.encode and the rest are the JSON module's.
local json_word = guard("worker.json", {
  encode = json.encode, decode = json.decode, null = json.null,
  array = json.array, object = json.object, is_array = json.is_array,
}, {
  __call = function(_, value, status)
    return response.json(value, status)
  end,
})

return guard("luaworker", {
  backend = definition.new,
  payload = payload.class,
  get = definition.get,
  post = definition.post,
  route = definition.route,
  forward = definition.forward,
  response = response.new,
  json = json_word,
  stream = response.stream,
  invalid = failure.invalid,
  http = guard("worker.http", http),
  model = guard("worker.model", { request = model.request, get = model.get, post = model.post }),
  sleep = await.sleep,
  spawn = job.spawn,
  log = guard("worker.log", require "luaworker.log"),
  env = env,
  base64 = guard("worker.base64", require "luaworker.base64"),
  file = guard("worker.file", require "luaworker.file"),
  count_tokens = count_tokens,
})

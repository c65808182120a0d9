-- SPDX-License-Identifier: MIT
-- A stand-in for a model server: answers prompts with plain English words, whole or token by token,
-- at a steady rate. Run it with `luaworker run examples/hello_world/model_server.lua --help`.
local worker = require "luaworker"
local now = require("luaworker.base").C.lw_api_now -- in seconds, never going back
local cli = require "luaworker.cli"
local http = require "luaworker.http"
local words = require "luaworker.words"

local options = cli.parse(arg, {
  usage = "luaworker run @model_server",
  about = "A stand-in for a model server: POST /generate, POST /generate_stream, GET /healthcheck.",
  { "port", "N", "where to listen", type = "integer", min = 0, max = 65535, default = 5001 },
  { "host", "ADDRESS", "on which address", default = "127.0.0.1" },
  { "log", "FILE", "write the log lines that a worker looks for" },
  { "rate", "N", "tokens a second for each request; 0: at once", type = "number", min = 0,
    default = 500 },
  { "whole-rate", "N", "the same for answers that are given whole; --rate's when not given",
    type = "number", min = 0 },
  { "tokens", "N", "never more tokens than this in an answer", type = "integer", min = 1,
    default = 4096 },
  { "load-seconds", "S", "how long it loads before it is ready", type = "number", min = 0,
    default = 0 },
})

local loaded = false
local whole_rate = options.whole_rate or options.rate

--- The prompt and the number of tokens asked for, or nil and the refusal.
local function read_request(request)
  if not loaded then return nil, worker.json({ error = "still loading" }, 503) end
  local body = request:json()
  if type(body) ~= "table" or type(body.prompt) ~= "string" then
    return nil, worker.json({ error = "expected { prompt, max_response_tokens }" }, 422)
  end
  local asked = tonumber(body.max_response_tokens) or options.tokens
  return body.prompt, math.max(0, math.min(math.floor(asked), options.tokens))
end

local function generate(request)
  local prompt, count = read_request(request)
  if not prompt then return count end
  if whole_rate > 0 then worker.sleep(count / whole_rate) end
  return worker.json { response = words.sample(count, prompt), tokens = count }
end

local function generate_stream(request)
  local prompt, count = read_request(request)
  if not prompt then return count end
  local client = worker.stream { content_type = "text/event-stream" }
  local next_word = words.source(prompt)
  local started = now()
  for i = 1, count do
    -- Each token has its own time, so a slow turn does not slow down the whole stream.
    local due = options.rate > 0 and started + i / options.rate or started
    worker.sleep(math.max(0, due - now()))
    client:write(('data: {"token": "%s "}\n\n'):format(next_word()))
  end
  client:write "data: [DONE]\n\n"
  return client
end

local function healthcheck()
  if not loaded then return worker.json({ status = "loading" }, 503) end
  return worker.json { status = "ok" }
end

local log = options.log and cli.check(io.open(options.log, "w"))

local function log_line(text)
  if log then
    log:write(text, "\n")
    log:flush()
  end
end

local _, server = cli.check(pcall(http.serve, {
  host = options.host,
  port = options.port,
  routes = {
    worker.post("/generate", generate),
    worker.post("/generate_stream", generate_stream),
    worker.get("/healthcheck", healthcheck),
  },
}))
print(("model server on http://%s:%d"):format(options.host, server.port))
io.stdout:flush()

for part = 1, 3 do
  log_line(('{"level":"INFO","message":"Download part %d of 3"}'):format(part))
  worker.sleep(options.load_seconds / 3)
end
loaded = true
log_line("server has started")

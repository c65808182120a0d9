-- SPDX-License-Identifier: MIT
-- config.py for luaworker: a model server that speaks OpenAI's completions, passed through; /count
-- answers by a function, without the model.
local worker = require "luaworker"

local function parse_request(payload)
  payload.max_tokens = payload.max_tokens or 64
  return payload
end

local function workload(payload)
  return payload.max_tokens or 0
end

local function benchmark_payload()
  return { prompt = "Tell a story.", max_tokens = 32 }
end

local function count_words(payload)
  local words = 0
  for _ in (payload.text or ""):gmatch "%S+" do
    words = words + 1
  end
  return { words = words }
end

return worker.backend {
  model_server_url = os.getenv "MODEL_SERVER_URL" or "http://127.0.0.1:18000",
  model_log_file = os.getenv "MODEL_LOG",
  log_actions = {
    model_loaded = "Application startup complete.",
    model_error = "Traceback (most recent call last):",
    info = "Loading weights",
  },
  routes = {
    worker.post("/v1/completions", {
      allow_parallel_requests = true,
      max_queue_time = 60,
      request_parser = parse_request,
      count_workload = workload,
      benchmark = { generator = benchmark_payload, runs = 3, concurrency = 4 },
    }),
    worker.post("/count", {
      allow_parallel_requests = true,
      max_queue_time = 30,
      remote = count_words,
      count_workload = 1,
    }),
  },
  max_sessions = 4,
}

-- SPDX-License-Identifier: MIT
-- handlers.py for luaworker: clients send a text and get a summary; the model server speaks
-- OpenAI's completions.
local worker = require "luaworker"

local Summary = worker.payload { text = "string", max_words = "integer" }

function Summary.for_test()
  return Summary { text = ("All is well that ends well. "):rep(20), max_words = 30 }
end

-- The class above tells of missing fields and wrong types by itself.
local parse = Summary.from_json_msg
function Summary.from_json_msg(msg)
  local payload = parse(msg) -- or a refusal, which has no max_words
  if (payload.max_words or 0) > 500 then return worker.invalid { max_words = "at most 500" } end
  return payload
end

function Summary:generate_payload_json()
  return { prompt = "Summarize: " .. self.text, max_tokens = self.max_words * 2 }
end

function Summary:count_workload()
  return self.max_words * 2
end

local function summary_response(_, model_response)
  if model_response.status ~= 200 then
    return worker.response { status = model_response.status }
  end
  local answer = model_response:json()
  return worker.json { summary = answer.choices[1].text:match "^%s*(.-)%s*$" }
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
    worker.post("/summary", {
      payload = Summary,
      endpoint = "/v1/completions",
      allow_parallel_requests = true,
      max_queue_time = 60,
      benchmark = { runs = 3, concurrency = 4 },
      generate_client_response = summary_response,
    }),
    worker.get("/ping", function() return "pong" end),
    worker.get("/models", worker.forward "/v1/models"),
  },
}

-- An LLM server with two endpoints: /generate answers whole, /generate_stream token by token.
local worker = require "luaworker"
local words = require "luaworker.words"

---@class Input: luaworker.Payload
---@field prompt string
---@field max_response_tokens integer
local Input = worker.payload { prompt = "string", max_response_tokens = "integer" }

function Input.for_test()
  return Input { prompt = words.sample(250), max_response_tokens = 300 }
end

function Input:count_workload()
  return worker.count_tokens(self.prompt)
end

local function generate_client_response(_, model_response)
  if model_response.status ~= 200 then
    return worker.response { status = model_response.status }
  end
  return worker.json(model_response:json())
end

local function stream_client_response(_, model_response)
  if model_response.status ~= 200 then
    return worker.response { status = model_response.status }
  end
  local client = worker.stream { content_type = "text/event-stream" }
  for chunk in model_response:chunks() do
    client:write(chunk)
  end
  return client
end

return worker.backend {
  model_server_url = os.getenv "MODEL_SERVER_URL" or "http://127.0.0.1:5001",
  model_log_file = os.getenv "MODEL_LOG",
  allow_parallel_requests = true,
  log_actions = {
    model_loaded = "server has started",
    model_error = "Exception: corrupted model file",
    info = '"message":"Download',
  },
  routes = {
    worker.post("/generate", {
      payload = Input,
      generate_client_response = generate_client_response,
      benchmark = { runs = 3, concurrency = 10 },
    }),
    worker.post("/generate_stream", {
      payload = Input,
      generate_client_response = stream_client_response,
    }),
    worker.get("/ping", function() return "pong" end),
    worker.get("/healthcheck", worker.forward()),
  },
}

-- An LLM server with two endpoints: /generate answers whole, /generate_stream token by token.
local worker = require "luaworker"
local words = require "luaworker.words"

-- What a client sends: these fields, of these types. Anything else is refused with 422.
---@class Input: luaworker.Payload
---@field prompt string
---@field max_response_tokens integer
---@overload fun(fields: table): Input
local Input = worker.payload { prompt = "string", max_response_tokens = "integer" }

-- An input to measure the model with, also for `luaworker call`.
function Input.for_test()
  return Input { prompt = words.sample(250), max_response_tokens = 300 }
end

-- How much work an input is, in a unit of your choice: the autoscaler plans with it.
function Input:count_workload()
  return worker.count_tokens(self.prompt)
end

-- What the client gets, made from the model's answer. Without such a function the route passes
-- that answer on as it comes.
---@param _ luaworker.Request
---@param model_response luaworker.ModelResponse
local function generate_client_response(_, model_response)
  if model_response.status ~= 200 then
    return worker.response { status = model_response.status }
  end
  return worker.json(model_response:json())
end

---@param _ luaworker.Request
---@param model_response luaworker.ModelResponse
local function stream_client_response(_, model_response)
  if model_response.status ~= 200 then
    return worker.response { status = model_response.status }
  end
  local client = worker.stream { content_type = "text/event-stream" }
  for chunk in model_response:chunks() do -- waits for the model; others run meanwhile
    client:write(chunk) -- waits for a slow client; ends here when it has left
  end
  return client
end

return worker.backend {
  model_server_url = os.getenv "MODEL_SERVER_URL" or "http://127.0.0.1:5001",
  model_log_file = os.getenv "MODEL_LOG",
  allow_parallel_requests = true, -- false: one request at a time, the others wait in line
  log_actions = { -- parts of lines in the model's log
    model_loaded = "server has started", -- the worker is ready no sooner
    model_error = "Exception: corrupted model file",
    info = '"message":"Download', -- copied into the worker's own log
  },
  routes = {
    worker.post("/generate", {
      payload = Input,
      generate_client_response = generate_client_response,
      benchmark = { runs = 3, concurrency = 10 }, -- finds how much the model can do a second
    }),
    worker.post("/generate_stream", {
      payload = Input,
      generate_client_response = stream_client_response,
    }),
    worker.get("/ping", function() return "pong" end),
    worker.get("/healthcheck", worker.forward()),
  },
}

-- Any server that speaks the OpenAI API (vLLM, SGLang, llama.cpp, ...). Payloads and answers pass
-- as they are; the workload is the number of tokens that a client asks for. ENVELOPE=false serves
-- the model's own clients, which send their payload without an envelope around it.
local worker = require "luaworker"

local DEFAULT_TOKENS = 256 -- when the client names no limit

-- The unit that the autoscaler plans with: tokens. Routes without it count 100 for each request.
local function count_tokens_asked_for(payload)
  return tonumber(payload.max_completion_tokens) or tonumber(payload.max_tokens) or DEFAULT_TOKENS
end

return worker.backend {
  model_server_url = worker.env("MODEL_SERVER_URL", "http://127.0.0.1:18000"),
  model_log_file = worker.env "MODEL_LOG",
  allow_parallel_requests = true,
  envelope = worker.env("ENVELOPE", true),
  count_workload = count_tokens_asked_for,
  log_actions = { -- parts of lines in the model's log: vLLM and SGLang, llama.cpp
    model_loaded = { "Application startup complete.", "server is listening on" },
    model_error = { "RuntimeError: Engine", "EngineDeadError", "INFO exited: vllm" },
    info = '"message":"Download',
  },
  routes = {
    -- No hooks here: the answer comes back as the model gives it, streamed when it streams.
    worker.post("/v1/completions", {
      benchmark = { -- finds how many tokens a second the model makes for ten clients
        generator = function()
          return { model = worker.env("MODEL_NAME", "default"), prompt = "hi", max_tokens = 500 }
        end,
      },
    }),
    worker.post "/v1/chat/completions",
    worker.post("/v1/embeddings", { count_workload = 1 }),
    worker.get("/v1/models", worker.forward()), -- answered by the model; needs no signature
    worker.get("/health", worker.forward()),
  },
}

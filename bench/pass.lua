-- For the benchmark: two routes without hooks, so that payload and answer stay in C.
local worker = require "luaworker"

return worker.backend {
  model_server_url = os.getenv "MODEL_SERVER_URL" or "http://127.0.0.1:5001",
  allow_parallel_requests = true,
  routes = {
    worker.post("/generate", {}),
    worker.post("/generate_stream", {}),
  },
}

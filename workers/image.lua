-- An image server that speaks the web UI's API (AUTOMATIC1111, Forge and their kin): POST
-- /sdapi/v1/txt2img makes pictures from a prompt. It makes one at a time, so requests wait here in
-- line; whoever would wait longer than MAX_QUEUE_TIME seconds is sent to another worker (429).
local worker = require "luaworker"
local words = require "luaworker.words"

-- What a client may ask for: a type, with "?" what may be left out, or a default. Fields that are
-- not named here are refused: some change the server's settings, others the cost of a picture.
---@class Picture: luaworker.Payload
---@field prompt string
---@field negative_prompt string
---@field steps integer
---@field width integer
---@field height integer
---@field cfg_scale number
---@field batch_size integer
---@field seed integer
---@field sampler_name? string
---@overload fun(fields: table): Picture
local Input = worker.payload {
  prompt = "string",
  negative_prompt = { "string", default = "" },
  steps = { "integer", default = 20 },
  width = { "integer", default = 512 },
  height = { "integer", default = 512 },
  cfg_scale = { "number", default = 7 },
  batch_size = { "integer", default = 1 },
  seed = { "integer", default = -1 }, -- -1: the server chooses one
  sampler_name = "string?",
  extra = "error",
}

local bounds = {
  steps = { 1, 150 },
  width = { 64, 2048 },
  height = { 64, 2048 },
  cfg_scale = { 1, 30 },
  batch_size = { 1, 8 },
  seed = { -1, 4294967295 },
}

-- What came, as an Input, or what is wrong with it: 422 {"payload": {"steps": "..."}}.
function Input.from_json_msg(message)
  local input = Input(message) -- refuses what has the wrong fields or types
  local wrong = {}
  for name, range in pairs(bounds) do
    if input[name] < range[1] or input[name] > range[2] then
      wrong[name] = ("expected %d to %d"):format(range[1], range[2])
    end
  end
  if input.width % 8 ~= 0 then wrong.width = "expected a multiple of 8" end
  if input.height % 8 ~= 0 then wrong.height = "expected a multiple of 8" end
  if next(wrong) then return worker.invalid(wrong) end
  return input
end

-- The unit of work is one step of a picture of 512 x 512.
function Input:count_workload()
  return self.steps * self.batch_size * self.width * self.height / (512 * 512)
end

-- For the benchmark and `luaworker call`.
function Input.for_test()
  return Input { prompt = "a photograph of " .. words.sample(12) }
end

-- What the client gets: the server's answer as it came, or for one that asks for image/png the
-- (first) picture itself. What is large is read only for the latter.
---@param request luaworker.Request
---@param model_response luaworker.ModelResponse
local function generate_client_response(request, model_response)
  if model_response.status ~= 200 or request.headers.accept ~= "image/png" then
    return model_response
  end
  local answer = model_response:json()
  local png = answer.images and answer.images[1] and worker.base64.decode(answer.images[1])
  if not png then return worker.json({ error = "the model has made no picture" }, 502) end
  local info = worker.json.decode(answer.info) -- JSON within the JSON
  return worker.response {
    content_type = "image/png",
    headers = { ["X-Seed"] = info and info.seed },
    body = png,
  }
end

return worker.backend {
  model_server_url = worker.env("MODEL_SERVER_URL", "http://127.0.0.1:7860"),
  model_log_file = worker.env "MODEL_LOG",
  log_actions = { -- parts of the lines in the server's log
    model_loaded = { "Model loaded in ", "Startup time: " },
    model_error = "Stable diffusion model failed to load",
    info = "Downloading: ",
  },
  routes = {
    worker.post("/sdapi/v1/txt2img", {
      payload = Input,
      allow_parallel_requests = false,
      max_queue_time = worker.env("MAX_QUEUE_TIME", 120),
      on_disconnect = "drain", -- the server ends a picture even when nobody waits for it
      generate_client_response = generate_client_response,
      benchmark = { runs = 3 },
    }),
    worker.get("/sdapi/v1/sd-models", worker.forward()),
    worker.get("/sdapi/v1/progress", worker.forward()),
    worker.get("/ping", function() return "pong" end),
  },
}

-- SPDX-License-Identifier: MIT
-- A stand-in for model servers of three kinds: hello_world's own, OpenAI's API and an image server.
-- It answers with plain English words at a steady rate, and with pictures of one colour. Run it
-- with `luaworker run examples/hello_world/model_server.lua --help`.
local worker = require "luaworker"
local bit = require "bit"
local now = require("luaworker.base").C.lw_api_now -- in seconds, never going back
local cli = require "luaworker.cli"
local http = require "luaworker.http"
local words = require "luaworker.words"

local options = cli.parse(arg, {
  usage = "luaworker run @model_server",
  about = "A stand-in for a model server.\n"
    .. "POST /generate, /generate_stream, /v1/completions, /v1/chat/completions, /v1/embeddings,\n"
    .. "/sdapi/v1/txt2img; GET /healthcheck, /health, /v1/models, /sdapi/v1/sd-models,\n"
    .. "/sdapi/v1/progress.",
  { "port", "N", "where to listen", type = "integer", min = 0, max = 65535, default = 5001 },
  { "host", "ADDRESS", "on which address", default = "127.0.0.1" },
  { "log", "FILE", "write the log lines that a worker looks for" },
  { "rate", "N", "tokens a second for each request; 0: at once", type = "number", min = 0,
    default = 500 },
  { "whole-rate", "N", "the same for answers that are given whole; --rate's when not given",
    type = "number", min = 0 },
  { "tokens", "N", "never more tokens than this in an answer", type = "integer", min = 1,
    default = 4096 },
  { "step-ms", "MS", "how long a picture of 512 x 512 takes for each of its steps", type = "number",
    min = 0, default = 5 },
  { "load-seconds", "S", "how long it loads before it is ready", type = "number", min = 0,
    default = 0 },
})

local loaded = false
local whole_rate = options.whole_rate or options.rate

--- The request's JSON object; nil and the refusal while the model loads, or when it is none.
local function read_object(request)
  if not loaded then return nil, worker.json({ error = "still loading" }, 503) end
  local body = request:json()
  if type(body) == "table" then return body end
  return nil, worker.json({ error = "expected a JSON object" }, 422)
end

local function tokens_of(asked)
  return math.max(0, math.min(math.floor(tonumber(asked) or options.tokens), options.tokens))
end

--- Takes the time that so many tokens take when they are given whole.
local function generate_whole(count)
  if whole_rate > 0 then worker.sleep(count / whole_rate) end
end

--- Calls each(i) for so many tokens at --rate. Each token has its own time, so that a slow turn
--- does not slow down the whole stream.
local function pace(count, each)
  local started = now()
  for i = 1, count do
    local due = options.rate > 0 and started + i / options.rate or started
    worker.sleep(math.max(0, due - now()))
    each(i)
  end
end

-- hello_world's own two endpoints --

--- The prompt and the number of tokens asked for, or nil and the refusal.
local function read_request(request)
  local body, refusal = read_object(request)
  if not body then return nil, refusal end
  if type(body.prompt) ~= "string" then
    return nil, worker.json({ error = "expected { prompt, max_response_tokens }" }, 422)
  end
  return body.prompt, tokens_of(body.max_response_tokens)
end

local function generate(request)
  local prompt, count = read_request(request)
  if not prompt then return count end
  generate_whole(count)
  return worker.json { response = words.sample(count, prompt), tokens = count }
end

local function generate_stream(request)
  local prompt, count = read_request(request)
  if not prompt then return count end
  local client = worker.stream { content_type = "text/event-stream" }
  local next_word = words.source(prompt)
  pace(count, function()
    client:write(('data: {"token": "%s "}\n\n'):format(next_word()))
  end)
  client:write "data: [DONE]\n\n"
  return client
end

-- The OpenAI API --

local MODEL_ID = "stand-in"

local function openai_refusal(message)
  return worker.json({ error = { message = message, type = "invalid_request_error" } }, 400)
end

--- What is asked of a completion: { id, object, chat, prompt, count, usage }; nil and the refusal.
local function read_completion(request, chat)
  local body, refusal = read_object(request)
  if not body then return nil, refusal end
  local prompt = body.prompt
  if chat then
    local last = type(body.messages) == "table" and body.messages[#body.messages]
    if type(last) ~= "table" then return nil, openai_refusal "messages: expected a list" end
    prompt = type(last.content) == "string" and last.content or worker.json.encode(last)
  end
  if type(prompt) ~= "string" then return nil, openai_refusal "prompt: expected a string" end
  local count = tokens_of(body.max_completion_tokens or body.max_tokens or 16)
  local asked = worker.count_tokens(prompt)
  return {
    id = (chat and "chatcmpl-" or "cmpl-") .. request.id, chat = chat, prompt = prompt,
    model = body.model or MODEL_ID, count = count, stream = body.stream == true,
    object = chat and "chat.completion" or "text_completion",
    usage = { prompt_tokens = asked, completion_tokens = count, total_tokens = asked + count },
    tells_usage = type(body.stream_options) == "table" and body.stream_options.include_usage,
  }
end

local function completion_of(one, object, choices)
  return { id = one.id, object = object, created = os.time(), model = one.model, choices = choices }
end

local function choice_of(one, field, text, reason)
  local choice = { index = 0, finish_reason = reason or worker.json.null }
  if one.chat then
    choice[field] = { role = "assistant", content = text }
  else
    choice.text = text
  end
  return { choice }
end

local function stream_completion(one)
  local client = worker.stream { content_type = "text/event-stream" }
  local object = one.chat and "chat.completion.chunk" or one.object
  local next_word = words.source(one.prompt)
  local function send(choices, usage)
    local chunk = completion_of(one, object, choices)
    chunk.usage = usage
    client:write("data: " .. worker.json.encode(chunk) .. "\n\n")
  end
  pace(one.count, function() send(choice_of(one, "delta", next_word() .. " ")) end)
  send(choice_of(one, "delta", "", "length"))
  if one.tells_usage == true then send(worker.json.array {}, one.usage) end
  client:write "data: [DONE]\n\n"
  return client
end

local function complete(request, chat)
  local one, refusal = read_completion(request, chat)
  if not one then return refusal end
  if one.stream then return stream_completion(one) end
  generate_whole(one.count)
  local choices = choice_of(one, "message", words.sample(one.count, one.prompt), "length")
  local answer = completion_of(one, one.object, choices)
  answer.usage = one.usage
  return worker.json(answer)
end

local function embed(request)
  local body, refusal = read_object(request)
  if not body then return refusal end
  local input = type(body.input) == "table" and body.input or { tostring(body.input) }
  local data, tokens = {}, 0
  for i, text in ipairs(input) do
    data[i] = { object = "embedding", index = i - 1, embedding = { 0.5, -0.5, 0.5, -0.5 } }
    tokens = tokens + worker.count_tokens(tostring(text))
  end
  return worker.json {
    object = "list", model = body.model or MODEL_ID, data = worker.json.array(data),
    usage = { prompt_tokens = tokens, total_tokens = tokens },
  }
end

local function list_models()
  local model = { id = MODEL_ID, object = "model", created = 0, owned_by = "luaworker" }
  return worker.json { object = "list", data = { model } }
end

-- The image server --

--- Four bytes, the highest first.
local function big_endian(number)
  return string.char(bit.band(bit.rshift(number, 24), 255), bit.band(bit.rshift(number, 16), 255),
    bit.band(bit.rshift(number, 8), 255), bit.band(number, 255))
end

local function crc32(text)
  local crc = -1
  for i = 1, #text do
    crc = bit.bxor(crc, text:byte(i))
    for _ = 1, 8 do
      crc = bit.bxor(bit.rshift(crc, 1), bit.band(0xedb88320, -bit.band(crc, 1)))
    end
  end
  return bit.bnot(crc)
end

local function adler32(text)
  local low, high = 1, 0
  for i = 1, #text do
    low = (low + text:byte(i)) % 65521
    high = (high + low) % 65521
  end
  return high * 65536 + low
end

local function chunk(kind, content)
  return big_endian(#content) .. kind .. content .. big_endian(crc32(kind .. content))
end

--- A PNG of 8 x 8 pixels, of one colour that follows from the seed: RGB, its rows not compressed.
local function picture(seed)
  local colour = string.char(seed % 256, math.floor(seed / 256) % 256, seed * 7 % 256)
  local rows = ("\0" .. colour:rep(8)):rep(8)
  local length = string.char(#rows % 256, math.floor(#rows / 256))
  local inverse = string.char(255 - #rows % 256, 255 - math.floor(#rows / 256))
  local packed = "\120\1\1" .. length .. inverse .. rows .. big_endian(adler32(rows))
  return "\137PNG\r\n\26\n" .. chunk("IHDR", big_endian(8) .. big_endian(8) .. "\8\2\0\0\0")
    .. chunk("IDAT", packed) .. chunk("IEND", "")
end

local function text_to_image(request)
  local asked, refusal = read_object(request)
  if not asked then return refusal end
  local width, height = tonumber(asked.width) or 512, tonumber(asked.height) or 512
  local steps = tonumber(asked.steps) or 50
  local count = math.min(tonumber(asked.batch_size) or 1, 16)
  local seed = tonumber(asked.seed) or -1
  if seed < 0 then seed = math.random(0, 4294967295) end
  worker.sleep(options.step_ms / 1000 * steps * count * width * height / (512 * 512))
  local images, seeds = {}, {}
  for i = 1, count do
    seeds[i] = seed + i - 1
    images[i] = worker.base64.encode(picture(seeds[i]))
  end
  local info = { prompt = asked.prompt, seed = seed, all_seeds = seeds, width = width,
    height = height, steps = steps, batch_size = count }
  return worker.json { images = images, parameters = asked, info = worker.json.encode(info) }
end

local function list_checkpoints()
  return worker.json { { title = "stand-in.safetensors", model_name = MODEL_ID } }
end

local function progress()
  return worker.json { progress = 0, eta_relative = 0, state = { job_count = 0 } }
end

-- The server --

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
    worker.post("/v1/completions", function(request) return complete(request, false) end),
    worker.post("/v1/chat/completions", function(request) return complete(request, true) end),
    worker.post("/v1/embeddings", embed),
    worker.get("/v1/models", list_models),
    worker.get("/health", healthcheck),
    worker.post("/sdapi/v1/txt2img", text_to_image),
    worker.get("/sdapi/v1/sd-models", list_checkpoints),
    worker.get("/sdapi/v1/progress", progress),
  },
}))
print(("model server on http://%s:%d"):format(options.host, server.port))
io.stdout:flush()

for part = 1, 3 do
  log_line(('{"level":"INFO","message":"Download part %d of 3"}'):format(part))
  worker.sleep(options.load_seconds / 3)
end
loaded = true
log_line "server has started"
log_line "INFO:     Application startup complete." -- vLLM, SGLang
log_line(("Startup time: %.1fs (load model: %.1fs)."):format(options.load_seconds,
  options.load_seconds)) -- Stable Diffusion web UI

-- Tests of openai.lua, for `luaworker test`.
local testing = require "luaworker.testing"
local describe, it, expect = testing.describe, testing.it, testing.expect

local app = testing.load "openai.lua"

describe("a completion", function()
  it("is asked for with the client's own bytes, and passed on as it comes", function()
    local model = testing.model { events = { { choices = { { delta = "Hi" } } }, "[DONE]" } }
    local payload = '{"model":"m", "stream":true, "messages":[], "temperature":1.0}'
    local answer = app:post("/v1/chat/completions", payload, { model = model })
    expect(model.requests[1].body):to_equal(payload)
    expect(model.requests[1].path):to_equal("/v1/chat/completions")
    expect(answer.headers["content-type"]):to_equal("text/event-stream")
    expect(answer.chunks):to_have_length(2)
    expect(answer:events()[2].data):to_equal("[DONE]")
  end)

  it("that the model refuses is refused with its status", function()
    local model = { status = 400, json = { error = { message = "no such model" } } }
    local answer = app:post("/v1/completions", { model = "x" }, { model = model })
    expect(answer.status):to_equal(400)
    expect(answer:json().error.message):to_equal("no such model")
    expect(answer.outcome):to_equal("success")
  end)
end)

describe("the workload", function()
  local function workload_of(path, payload)
    return app:post(path, payload, { model = { json = {} } }).workload
  end

  it("is the number of tokens asked for", function()
    expect(workload_of("/v1/completions", { max_tokens = 7 })):to_equal(7)
    expect(workload_of("/v1/completions", { max_tokens = "12" })):to_equal(12)
    expect(workload_of("/v1/chat/completions", { max_completion_tokens = 9, max_tokens = 1 }))
      :to_equal(9)
  end)

  it("has a default, and embeddings weigh little", function()
    expect(workload_of("/v1/chat/completions", {})):to_equal(256)
    expect(workload_of("/v1/embeddings", { input = "text" })):to_equal(1)
  end)

  it("of the benchmark is that of its tokens, for the model of MODEL_NAME", function()
    local named = testing.load("openai.lua", { env = { MODEL_NAME = "llama" } })
    local made = named:benchmark_payload()
    expect(made.payload.model):to_equal("llama")
    expect(made.workload):to_equal(500)
  end)
end)

describe("the rest", function()
  it("is answered by the model", function()
    local model = testing.model { ["/v1/models"] = { json = { data = {} } }, ["/health"] = "" }
    expect(app:get("/v1/models", { model = model }):json()):to_equal { data = {} }
    expect(app:get("/health", { model = model }).status):to_equal(200)
  end)

  it("needs no envelope with ENVELOPE=false", function()
    local bare = testing.load("openai.lua", { env = { ENVELOPE = "false" } })
    local model = testing.model { json = {} }
    bare:post("/v1/completions", { prompt = "hi" }, { model = model })
    expect(model.requests[1].json):to_equal { prompt = "hi" }
  end)
end)

-- Tests of hello_world.lua, for `luaworker test`.
local testing = require "luaworker.testing"
local describe, it, expect = testing.describe, testing.it, testing.expect

local app = testing.load "hello_world.lua"
local payload = { prompt = "one two three", max_response_tokens = 5 }

describe("/generate", function()
  it("answers what the model answers", function()
    local model = testing.model { json = { response = "hi", tokens = 1 } }
    local answer = app:post("/generate", payload, { model = model })
    expect(answer.status):to_equal(200)
    expect(answer:json()):to_equal { response = "hi", tokens = 1 }
    expect(answer.outcome):to_equal("success")
    expect(model.requests):to_have_length(1)
    expect(model.requests[1].path):to_equal("/generate")
    expect(model.requests[1].json):to_equal(payload)
  end)

  it("passes the model's status on, without a body", function()
    local answer = app:post("/generate", payload, { model = { status = 503, body = "busy" } })
    expect(answer.status):to_equal(503)
    expect(answer.body):to_equal("")
    expect(answer.outcome):to_equal("error")
  end)

  it("answers 502 when the model can't be reached", function()
    local answer = app:post("/generate", payload, { model = { refuses = true } })
    expect(answer.status):to_equal(502)
    expect(answer:json().error):to_match("refused the connection")
  end)
end)

describe("the payload", function()
  it("is refused with what is wrong in it, and the model is not asked", function()
    local model = testing.model { json = {} }
    local answer = app:post("/generate", { prompt = 3 }, { model = model })
    expect(answer.status):to_equal(422)
    expect(answer:json().payload):to_equal {
      prompt = "expected string, got integer", max_response_tokens = "missing parameter",
    }
    expect(model.requests):to_equal {}
  end)

  it("weighs what its prompt has of tokens", function()
    local model = testing.model { json = {} }
    local long = { prompt = ("word "):rep(1000), max_response_tokens = 5 }
    local little = app:post("/generate", payload, { model = model }).workload
    expect(app:post("/generate", long, { model = model }).workload):to_be_above(100 * little)
  end)

  it("is made for measuring, too", function()
    local made = app:benchmark_payload()
    expect(made.payload.max_response_tokens):to_equal(300)
    expect(made.workload):to_be_above(100)
  end)
end)

describe("/generate_stream", function()
  it("passes each piece on as it comes", function()
    local model = { chunks = { "data: a\n\n", 2, "data: b\n\n" } }
    local answer = app:post("/generate_stream", payload, { model = model })
    expect(answer.headers["content-type"]):to_equal("text/event-stream")
    expect(answer.chunks):to_equal { "data: a\n\n", "data: b\n\n" }
    expect(answer.seconds):to_be_near(2)
    expect(answer.ended):to_be(true)
  end)

  it("breaks its answer off when the model does", function()
    local model = { chunks = { "data: a\n\n", "data: b\n\n" }, breaks_after = 1 }
    local answer = app:post("/generate_stream", payload, { model = model })
    expect(answer.body):to_equal("data: a\n\n")
    expect(answer.broken):to_be(true)
    expect(answer.outcome):to_equal("error")
  end)

  it("lets go of the model when the client leaves", function()
    local model = testing.model { chunks = { "data: a\n\n", 1, "data: b\n\n" } }
    local answer = app:post("/generate_stream", payload, { model = model, leave_after = 1 })
    expect(answer.outcome):to_equal("cancelled")
    expect(model.requests[1].closed):to_be(true)
  end)
end)

describe("beside them", function()
  it("/ping is answered here", function()
    expect(app:get("/ping").body):to_equal("pong")
  end)

  it("/healthcheck is answered by the model", function()
    local model = testing.model { ["/healthcheck"] = { json = { ok = true } } }
    expect(app:get("/healthcheck", { model = model }):json()):to_equal { ok = true }
  end)
end)

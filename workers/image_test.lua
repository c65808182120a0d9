-- Tests of image.lua, for `luaworker test`.
local testing = require "luaworker.testing"
local worker = require "luaworker"
local describe, it, expect = testing.describe, testing.it, testing.expect

local app = testing.load "image.lua"
local path = "/sdapi/v1/txt2img"
local picture = "\137PNG and so on"
local answer_of_model = {
  images = { worker.base64.encode(picture) },
  parameters = { prompt = "a cat" },
  info = worker.json.encode { seed = 7, all_seeds = { 7 } },
}

local function ask(payload, opts)
  opts = opts or {}
  opts.model = opts.model or testing.model { json = answer_of_model }
  return app:post(path, payload, opts)
end

describe("what the client gets", function()
  it("is the server's answer as it came", function()
    local answer = ask { prompt = "a cat" }
    expect(answer.status):to_equal(200)
    expect(answer:json()):to_equal(answer_of_model)
    expect(answer.outcome):to_equal("success")
  end)

  it("is the picture itself for who asks for image/png", function()
    local answer = ask({ prompt = "a cat" }, { headers = { Accept = "image/png" } })
    expect(answer.body):to_equal(picture)
    expect(answer.headers["content-type"]):to_equal("image/png")
    expect(answer.headers["x-seed"]):to_equal("7")
  end)

  it("is an error when the server has made no picture", function()
    local model = { json = { images = worker.json.array {}, info = "{}" } }
    local opts = { model = model, headers = { Accept = "image/png" } }
    expect(ask({ prompt = "a cat" }, opts).status):to_equal(502)
  end)

  it("is the server's own error", function()
    local model = { status = 500, json = { error = "OutOfMemoryError" } }
    local answer = ask({ prompt = "a cat" }, { model = model })
    expect(answer.status):to_equal(500)
    expect(answer:json().error):to_equal("OutOfMemoryError")
  end)
end)

describe("a payload", function()
  local function refusal(payload)
    payload.prompt = payload.prompt or "a cat"
    local answer = ask(payload)
    expect(answer.status):to_equal(422)
    return answer:json().payload
  end

  it("has defaults", function()
    local sent = ask({ prompt = "a cat" }).model:last().json
    expect(sent.steps):to_equal(20)
    expect(sent.width):to_equal(512)
    expect(sent.seed):to_equal(-1)
  end)

  it("has bounds", function()
    expect(refusal { steps = 0 }):to_equal { steps = "expected 1 to 150" }
    expect(refusal { width = 4096, height = 100 }):to_equal {
      width = "expected 64 to 2048", height = "expected a multiple of 8",
    }
  end)

  it("has no fields of the server's settings", function()
    local wrong = refusal { override_settings = {} }
    expect(wrong):to_equal { override_settings = "unknown parameter" }
  end)

  it("weighs as many steps as it takes", function()
    expect(ask({ prompt = "a cat" }).workload):to_equal(20)
    expect(ask({ prompt = "a cat", width = 1024, batch_size = 3 }).workload):to_equal(120)
  end)

  it("is made for the benchmark", function()
    expect(app:benchmark_payload().workload):to_equal(20)
  end)
end)

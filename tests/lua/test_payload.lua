-- SPDX-License-Identifier: MIT
-- worker.payload: what classes take, what they refuse and in which words, what they send on.
local check = require "check"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local payload = require "luaworker.payload"

local encode = json.encode

--- What from_json_msg makes of this text.
local function take(class, text)
  return class.from_json_msg((assert(json.decode(text))))
end

--- The fields of a refusal, by name.
local function refusal(class, text)
  local made = take(class, text)
  check.ok(failure.is_invalid(made), "refused: " .. text)
  return made.fields or {}
end

--- The text after a decode, the class, and an encode.
local function round(class, text)
  local made = take(class, text)
  if failure.is_invalid(made) then return tostring(made) end
  return encode(made)
end

local Input = payload.class { prompt = "string", max_response_tokens = "integer" }

do -- a good message
  local made = take(Input, '{"prompt": "hi", "max_response_tokens": 300}')
  check.eq(made.prompt, "hi")
  check.eq(made.max_response_tokens, 300)
  check.eq(encode(made), '{"prompt":"hi","max_response_tokens":300}', "the order is the client's")
end

do -- missing and wrong fields, all at once
  local fields = refusal(Input, '{"prompt": 5}')
  check.eq(fields.prompt, "expected string, got integer")
  check.eq(fields.max_response_tokens, "missing parameter")
  fields = refusal(Input, '{"prompt": null, "max_response_tokens": 1.5}')
  check.eq(fields.prompt, "expected string, got null")
  check.eq(fields.max_response_tokens, "expected integer, got number")
end

do -- what is no object
  check.eq(take(Input, "[1]").fields, "expected object, got array")
  check.eq(take(Input, '"text"').fields, "expected object, got string")
  check.eq(refusal(Input, "{}").prompt, "missing parameter")
end

do -- each type takes its own and nothing else
  local samples = {
    string = '"a"', integer = "7", number = "1.5", boolean = "true", array = "[]", object = "{}",
  }
  for kind in pairs(samples) do
    local class = payload.class { x = kind }
    for other, text in pairs(samples) do
      local fits = kind == other or (kind == "number" and other == "integer")
      local made = take(class, '{"x":' .. text .. "}")
      check.eq(not failure.is_invalid(made), fits, kind .. " given " .. other)
    end
    check.eq(refusal(class, '{"x":null}').x, "expected " .. kind .. ", got null")
  end
  check.eq(round(payload.class { x = "any" }, '{"x":null}'), '{"x":null}')
  check.eq(round(payload.class { x = "integer" }, '{"x":9223372036854775807}'),
    '{"x":9223372036854775807}', "all 64 bits")
  check.ok(failure.is_invalid(take(payload.class { x = "integer" }, '{"x":1e999}')))
end

do -- unknown fields
  local text = '{"b":2,"a":1,"c":[]}'
  check.eq(round(payload.class { a = "integer" }, text), '{"a":1}', "dropped")
  check.eq(take(payload.class { a = "integer" }, text).b, nil)
  check.eq(round(payload.class { a = "integer", extra = "keep" }, text), text, "kept")
  local fields = refusal(payload.class { a = "integer", extra = "error" }, text)
  check.eq(fields.b, "unknown parameter")
  check.eq(fields.a, nil)
  check.eq(take(payload.class { extra = "string" }, '{"extra":"x"}').extra, "x", "a field's name")
end

do -- optional fields and defaults
  local class = payload.class {
    a = "string?", b = { "integer", default = 5 }, c = { "array", default = json.array {} },
  }
  local made = take(class, "{}")
  check.eq(made.a, nil)
  check.eq(made.b, 5)
  check.eq(encode(made), '{"b":5,"c":[]}')
  check.eq(take(class, '{"a":null,"b":null}').a, nil, "null is absence")
  check.eq(take(class, '{"a":null,"b":null}').b, 5)
  check.eq(take(class, '{"b":6}').b, 6)
  check.eq(refusal(class, '{"a":1}').a, "expected string, got integer")
  made.c[1] = "mine"
  check.eq(#take(class, "{}").c, 0, "a default is copied")
end

do -- nested fields
  local class = payload.class { options = { width = "integer", label = "string?" }, n = "integer" }
  check.eq(round(class, '{"n":1,"options":{"junk":1,"width":2}}'), '{"n":1,"options":{"width":2}}')
  check.eq(refusal(class, '{"n":1,"options":{"label":3}}')["options.label"],
    "expected string, got integer")
  check.eq(refusal(class, '{"n":1,"options":{}}')["options.width"], "missing parameter")
  check.eq(refusal(class, '{"n":1,"options":[]}').options, "expected object, got array")
  check.eq(class { n = 1, options = { width = 2 } }.options.width, 2)
end

do -- methods, on both kinds of instances
  local class = payload.class { prompt = "string" }
  function class:shout() return self.prompt:upper() end
  check.eq(take(class, '{"prompt":"a"}'):shout(), "A")
  check.eq(class { prompt = "b" }:shout(), "B")
  check.eq(encode(payload.class { list = "array" } { list = {} }), '{"list":[]}')
  check.eq(take(class, '{"prompt":"a"}').nothing, nil)
end

do -- an instance made by hand
  local made = Input { prompt = "hi", max_response_tokens = 3, other = 1 }
  check.eq(encode(made), '{"max_response_tokens":3,"prompt":"hi"}')
  check.eq(made.other, nil)
  local err = check.raises(Input, { prompt = "hi" })
  check.has(err, "max_response_tokens: missing parameter")
  check.has(check.raises(Input, 5), "expected object, got integer")
  local source = { prompt = "a", max_response_tokens = 1, junk = 2 }
  local _ = Input(source)
  check.eq(source.junk, 2, "the table given is left as it was")
end

do -- changes by hooks reach the model
  local made = take(Input, '{"prompt": "hi", "max_response_tokens": 300}')
  made.prompt = "changed"
  check.eq(encode(made), '{"prompt":"changed","max_response_tokens":300}')
end

do -- long strings are left in C until they are read
  local class = payload.class { image = "string", n = "integer" }
  local long = ("x"):rep(200000)
  local text = '{"junk":"' .. long .. '","image":"' .. long .. '","n":1}'
  local base = require "luaworker.base"
  local doc = base.C.lw_api_doc_parse(text, #text)
  local made = class.from_json_msg(json.from_doc(doc, 0, true))
  check.eq(rawget(made, "image"), nil, "not copied by the check")
  check.eq(encode(made), '{"image":"' .. long .. '","n":1}')
  check.eq(made.image, long)
  check.eq(made.junk, nil)
  function class:size() return #self.image end
  check.eq(made:size(), 200000)
  doc = base.C.lw_api_doc_parse(text, #text)
  local other = payload.class { image = "integer", n = "integer" }
  made = other.from_json_msg(json.from_doc(doc, 0, true))
  check.eq(made.fields.image, "expected integer, got string")
end

do -- mistakes in a class
  local class = payload.class {
    a = "strin", b = { "integer", default = "x", optional = true }, c = { d = 5 }, 7,
  }
  local said = {}
  for _, mistake in ipairs(payload.mistakes(class)) do
    said[#said + 1] = mistake.field .. ": " .. mistake.text
  end
  check.eq(table.concat(said, "\n"), table.concat({
    "1: expected the name of a field",
    'a: unknown type "strin", did you mean "string"?',
    'b.default: expected integer, got string "x"',
    "b.optional: unknown key",
    "c.d: expected a type, got number 5",
  }, "\n"))
  check.has(check.raises(payload.class, "prompt"), "expected a table of fields")
  check.ok(payload.is_class(class))
  check.ok(not payload.is_class({}))
end

check.done()

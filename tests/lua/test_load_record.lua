-- SPDX-License-Identifier: MIT
-- Tokens of an answer, as the model says: the last usage in it, whatever else a server sends.
local check = dofile((arg[0]:match "^(.*)/" or ".") .. "/check.lua")
local record = require "luaworker.load_record"

local function tokens_of(text, is_stream)
  local one = {}
  record.fill(one, { start = 0 }, {
    outcome = "ok", status = 200, is_stream = is_stream or false, events = 3, bytes = #text,
    started = 0, sent = 0, head = 0, first = 0, last = 0, ended = 1, longest_gap = 0,
    dns_s = 0, connect_s = 0, tls_s = 0, reused = true, retried = false,
    tail = function() return text end,
  }, 0)
  return one.tokens, one.tokens_from
end

local function usage(count)
  return ('"usage" : {"prompt_tokens":1,"completion_tokens": %s}'):format(count)
end

check.eq(tokens_of(""), nil, "nothing")
check.eq(tokens_of("{" .. usage(7) .. "}"), 7, "said once")
check.eq(tokens_of("{" .. usage(7) .. "}\n{" .. usage(9) .. "}"), 9, "the last of several")
check.eq(tokens_of("{" .. usage(7) .. '}\n{"usage":null}' .. ('{"usage": null}'):rep(50)), 7,
  "nulls behind it")
check.eq(tokens_of("{" .. usage(7) .. '}\n"usage":{"completion_tokens":8'), 7, "an end cut off")
check.eq(tokens_of('{"usage":{"output_tokens":5,"a":{"b":1}}}'), 5, "the other name")
check.eq(tokens_of('{"usage":{}}'), nil, "without a count")

-- What no result could hold.
check.eq(tokens_of("{" .. usage(("9"):rep(400)) .. "}"), nil, "more than a double holds")
check.eq(tokens_of("{" .. usage "99999999999999999999" .. "}"), nil, "more than one counts to")
check.eq(tokens_of("{" .. usage "9007199254740992" .. "}"), 2 ^ 53, "as much as that")
local count, from = tokens_of("data: {" .. usage(("9"):rep(400)) .. "}\n\n", true)
check.eq(count, 3, "then events are counted")
check.eq(from, "events", "and named")

-- Each of 1,800 that never end could cost a walk to the end.
local function seconds_of(walk)
  local begun = os.clock()
  for _ = 1, 50 do
    walk()
  end
  return os.clock() - begun
end

local open_ones = ('"usage":{'):rep(1800)
local one_walk = seconds_of(function() open_ones:match("^%b{}", 9) end)
local all = seconds_of(function() check.eq(tokens_of(open_ones), nil, "never closed") end)
check.ok(all < 100 * one_walk, ("never closed: %.4f s, one walk %.4f s"):format(all, one_walk))
check.done()

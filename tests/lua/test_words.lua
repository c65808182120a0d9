-- SPDX-License-Identifier: MIT
-- luaworker.words: the list is plain and free of doubles, seeds repeat, samples vary.
local check = require "check"
local words = require "luaworker.words"

do -- nothing is split before it is asked for
  check.ok(rawget(words, "list") == nil)
end

do -- the list: lower-case letters only, each word once, enough of them
  local seen = {}
  for _, word in ipairs(words.list) do
    check.ok(word:find "^[a-z]+$", word)
    check.ok(not seen[word], word)
    seen[word] = true
  end
  check.ok(#words.list >= 2000 and #words.list <= 4000, #words.list)
  check.ok(rawget(words, "list") == words.list, "split once only")
  check.ok(words.no_such_field == nil)
end

do -- a sample has as many words as asked for, all from the list
  local known = {}
  for _, word in ipairs(words.list) do
    known[word] = true
  end
  local count = 0
  for word in words.sample(250):gmatch "%S+" do
    check.ok(known[word], word)
    count = count + 1
  end
  check.ok(count == 250, count)
  check.ok(words.sample(0) == "")
  check.ok(not words.sample(3):find "^%s" and not words.sample(3):find "%s$")
end

do -- the same seed gives the same words, on every machine; others give others
  check.ok(words.sample(20, "a prompt") == words.sample(20, "a prompt"))
  check.ok(words.sample(20, 7) == words.sample(20, 7))
  check.ok(words.sample(20, 7) ~= words.sample(20, 8))
  check.ok(words.sample(20, "a") ~= words.sample(20, "b"))
  check.ok(words.sample(20, "") ~= words.sample(20, "a"))
  check.ok(words.sample(20, ("\0"):rep(3)) ~= words.sample(20, "\0"))
  check.ok(words.sample(5, 1) == "whose cat caravan stay stripe", words.sample(5, 1))
end

do -- neighbouring seeds don't begin alike
  local first = {}
  local different = 0
  for seed = 1, 100 do
    local word = words.sample(1, seed)
    if not first[word] then different = different + 1 end
    first[word] = true
  end
  check.ok(different > 80, different)
end

do -- without a seed the words differ each time, and all of the list comes up
  check.ok(words.sample(20) ~= words.sample(20))
  local seen, different = {}, 0
  for _ = 1, 60000 do
    local word = words.random_word()
    if not seen[word] then
      seen[word] = true
      different = different + 1
    end
  end
  check.ok(different > #words.list * 0.99, different)
end

do -- a source goes on where it was, and its words are those of the sample
  local source = words.source "seed"
  check.ok(source() .. " " .. source() .. " " .. source() == words.sample(3, "seed"))
end

check.done()

-- SPDX-License-Identifier: MIT
-- luaworker.words: the list is plain and free of doubles, seeds repeat, samples vary.
local words = require "luaworker.words"

do -- nothing is split before it is asked for
  assert(rawget(words, "list") == nil)
end

do -- the list: lower-case letters only, each word once, enough of them
  local seen = {}
  for _, word in ipairs(words.list) do
    assert(word:find "^[a-z]+$", word)
    assert(not seen[word], word)
    seen[word] = true
  end
  assert(#words.list >= 2000 and #words.list <= 4000, #words.list)
  assert(rawget(words, "list") == words.list, "split once only")
  assert(words.no_such_field == nil)
end

do -- a sample has as many words as asked for, all from the list
  local known = {}
  for _, word in ipairs(words.list) do
    known[word] = true
  end
  local count = 0
  for word in words.sample(250):gmatch "%S+" do
    assert(known[word], word)
    count = count + 1
  end
  assert(count == 250, count)
  assert(words.sample(0) == "")
  assert(not words.sample(3):find "^%s" and not words.sample(3):find "%s$")
end

do -- the same seed gives the same words, on every machine; others give others
  assert(words.sample(20, "a prompt") == words.sample(20, "a prompt"))
  assert(words.sample(20, 7) == words.sample(20, 7))
  assert(words.sample(20, 7) ~= words.sample(20, 8))
  assert(words.sample(20, "a") ~= words.sample(20, "b"))
  assert(words.sample(20, "") ~= words.sample(20, "a"))
  assert(words.sample(20, ("\0"):rep(3)) ~= words.sample(20, "\0"))
  assert(words.sample(5, 1) == "whose cat caravan stay stripe", words.sample(5, 1))
end

do -- neighbouring seeds don't begin alike
  local first = {}
  local different = 0
  for seed = 1, 100 do
    local word = words.sample(1, seed)
    if not first[word] then different = different + 1 end
    first[word] = true
  end
  assert(different > 80, different)
end

do -- without a seed the words differ each time, and all of the list comes up
  assert(words.sample(20) ~= words.sample(20))
  local seen, different = {}, 0
  for _ = 1, 60000 do
    local word = words.random_word()
    if not seen[word] then
      seen[word] = true
      different = different + 1
    end
  end
  assert(different > #words.list * 0.99, different)
end

do -- a source goes on where it was, and its words are those of the sample
  local source = words.source "seed"
  assert(source() .. " " .. source() .. " " .. source() == words.sample(3, "seed"))
end

---@meta luaworker.words
-- SPDX-License-Identifier: MIT
-- For editors, and the source of docs/api.md: what `require "luaworker.words"` returns.

--- Random text of plain English words, for test payloads: `require "luaworker.words"`.
---@class luaworker.words
local words = {}

--- So many random words with spaces between. The same seed gives the same words on every machine.
---@param n integer
---@param seed? number | string such as a prompt; without one the words differ each time
---@return string
function words.sample(n, seed) end

--- A function that returns the next random word at each call.
---@param seed? number | string
---@return fun(): string
function words.source(seed) end

--- One random word.
---@return string
function words.random_word() end

--- From now on the words that differ each time are those of this seed.
---@param seed number | string
function words.seed(seed) end

return words

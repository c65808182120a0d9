-- SPDX-License-Identifier: MIT
-- The other end of test_canon.py's pipe: takes batches of JSON documents and gives back each as
-- signatures want it. A batch: a line with their count, for each a line "bytes sort_keys", then all
-- bytes. The answer: for each a line with its size (-1: refused), then all bytes.
local base = require "luaworker.base"

local function read_sizes(count)
  local sizes = {}
  for i = 1, count do
    local n, sort_keys = io.read():match "^(%d+) ([01])$"
    sizes[i] = { tonumber(n), tonumber(sort_keys) }
  end
  return sizes
end

for line in io.lines() do
  local lengths, texts = {}, {}
  for i, size in ipairs(read_sizes(tonumber(line))) do
    local document = io.read(size[1])
    local code = base.C.lw_api_canon(document, #document, size[2], base.span)
    texts[i] = code == base.OK and base.text(base.span) or ""
    lengths[i] = code == base.OK and #texts[i] or -1
  end
  io.write(table.concat(lengths, "\n"), "\n", table.concat(texts))
  io.flush()
end

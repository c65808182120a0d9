-- SPDX-License-Identifier: MIT
-- worker.base64: the alphabet of RFC 4648 §4, with padding.
local base = require "luaworker.base"
local buffer = require "string.buffer"

local C = base.C

local KEPT_BYTES = 1024 * 1024

local base64 = {}

local scratch = buffer.new()

local function run(convert, text, size)
  scratch:reset()
  local p = scratch:reserve(size)
  local n = convert(text, #text, p, size)
  if n < 0 then return nil end
  scratch:commit(n)
  local out = scratch:get()
  if size > KEPT_BYTES then scratch:free() end
  return out
end

function base64.encode(text)
  base.expect_string(text, "base64.encode")
  return run(C.lw_api_base64_encode, text, math.floor((#text + 2) / 3) * 4 + 1)
end

--- The bytes, or nil and an error when the text is not base64.
function base64.decode(text)
  base.expect_string(text, "base64.decode")
  local bytes = run(C.lw_api_base64_decode, text, math.floor(#text / 4) * 3 + 4)
  if not bytes then return nil, "not base64" end
  return bytes
end

return base64

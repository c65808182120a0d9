-- SPDX-License-Identifier: MIT
-- The JIT as the runtime sets it up: loops over pairs() that end in a call of a C function find all
-- that is there (with trace stitching, Debian's LuaJIT loses some).
local check = require "check"

local write_table

local function write_value(out, value, depth)
  if type(value) == "table" then write_table(out, value, depth + 1) end
end

local function write_members(out, t, depth)
  local keys = {}
  for key in next, t do
    if type(key) ~= "string" then error "not a key" end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for i = 1, #keys do
    out[#out + 1] = keys[i]
    write_value(out, rawget(t, keys[i]), depth)
  end
  return #keys
end

function write_table(out, t, depth)
  if depth > 512 then error("too deep", 0) end
  out[#out + 1] = write_members(out, t, depth) == 0 and "{}" or "}"
end

local lost = 0
for _ = 1, 3000 do
  local ring = {}
  ring.ring = ring
  if pcall(write_value, {}, ring, 0) then lost = lost + 1 end
end
check.eq(lost, 0, "rings whose member was not found")

check.done()

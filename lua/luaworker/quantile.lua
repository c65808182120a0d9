-- SPDX-License-Identifier: MIT
-- Durations of which percentiles are wanted: floor/quantile for Lua. Seconds; within 0.4 %.
local base = require "luaworker.base"

local ffi, C = base.ffi, base.C

local quantile = {}

local Quantile = {}
Quantile.__index = Quantile

function quantile.new()
  return setmetatable({ handle = ffi.gc(C.lw_api_quantile_new(), C.lw_api_quantile_free) },
    Quantile)
end

function Quantile:note(seconds)
  C.lw_api_quantile_note(self.handle, seconds)
end

--- The value that this share of all (0 to 1) is not above; 0 when there is none.
function Quantile:at(share)
  return C.lw_api_quantile_at(self.handle, share)
end

function Quantile:count()
  return tonumber(C.lw_api_quantile_count(self.handle))
end

function Quantile:max()
  return C.lw_api_quantile_max(self.handle)
end

function Quantile:clear()
  C.lw_api_quantile_clear(self.handle)
end

--- { count, mean, min, p50, p90, p95, p99, p99_9, max }
function Quantile:summary()
  local count = self:count()
  return {
    count = count, mean = C.lw_api_quantile_sum(self.handle) / count,
    min = C.lw_api_quantile_min(self.handle), max = self:max(),
    p50 = self:at(0.5), p90 = self:at(0.9), p95 = self:at(0.95), p99 = self:at(0.99),
    p99_9 = self:at(0.999),
  }
end

local cursor, bucket = ffi.new "size_t[1]", ffi.new "lw_quantile_bucket"

--- { { upper bound, count } }, ascending, without the empty ones.
function Quantile:buckets()
  local out = {}
  cursor[0] = 0
  while C.lw_api_quantile_next(self.handle, cursor, bucket) ~= 0 do
    out[#out + 1] = { bucket.upper, tonumber(bucket.count) }
  end
  return out
end

local shares = { 0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1 }

--- { { share, value } }: as far as the count has something to say.
function Quantile:curve()
  local out, count = {}, self:count()
  for _, share in ipairs(shares) do
    if share == 1 or count * (1 - share) >= 1 then out[#out + 1] = { share, self:at(share) } end
  end
  return count > 0 and out or {}
end

return quantile

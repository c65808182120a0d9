-- SPDX-License-Identifier: MIT
-- Fires shots as the test says and prints what was measured, a JSON line each:
--
--   luaworker run shots.lua PLAN.json
--
-- The plan: { trust = { ca, insecure }, at_once, shots = { { method, url, body, options } } }.
-- Behind them comes a line with the gaps of all, { count, sum, max, zeros }.
local worker = require "luaworker"
local base = require "luaworker.base"
local shot = require "luaworker.shot"

local C = base.C

local file = assert(io.open(arg[1]))
local plan = worker.json.decode(file:read "*a")
file:close()

if plan.trust then
  local ca = plan.trust.ca or ""
  if C.lw_api_http_trust(ca, #ca, plan.trust.insecure and 1 or 0) ~= base.OK then
    io.stderr:write(base.last_error(), "\n")
    os.exit(3)
  end
end

local gaps = base.ffi.gc(C.lw_api_quantile_new(), C.lw_api_quantile_free)
local options_of = {}

-- Shots with equal options share one plan, as those of a load test do.
local function options(one)
  local key = worker.json.encode(one.options or {})
  if not options_of[key] then
    local made = one.options or {}
    made.gaps = { handle = gaps }
    options_of[key] = made
  end
  return options_of[key]
end

local function fire(one, number)
  local o = options(one)
  local result = shot.request(one.method or "POST", one.url, one.body, o)
  local out = { number = number, text = result:tail(), retry_after = result:header "retry-after" }
  for name, value in pairs(result) do
    if type(value) ~= "table" and name:sub(1, 1) ~= "_" then out[name] = value end
  end
  if out.text:find "[\128-\255]" then out.text = #out.text end
  print(worker.json.encode(out))
  io.stdout:flush()
end

local running = 0
for number, one in ipairs(plan.shots) do
  if plan.at_once then
    running = running + 1
    worker.spawn(function()
      fire(one, number)
      running = running - 1
    end)
  else
    fire(one, number)
  end
end
while running > 0 do
  worker.sleep(0.01)
end

local cursor, bucket = base.ffi.new "size_t[1]", base.ffi.new "lw_quantile_bucket"
local zeros = 0
if C.lw_api_quantile_next(gaps, cursor, bucket) ~= 0 and bucket.lower == 0 then
  zeros = bucket.count
end
print(worker.json.encode {
  count = C.lw_api_quantile_count(gaps), sum = C.lw_api_quantile_sum(gaps),
  max = C.lw_api_quantile_max(gaps), zeros = zeros,
})

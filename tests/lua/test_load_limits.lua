-- SPDX-License-Identifier: MIT
-- The SLO and thresholds of load tests: reading and judging.
local check = dofile((arg[0]:match "^(.*)/" or ".") .. "/check.lua")
local limits = require "luaworker.load_limits"

for text, seconds in pairs {
  ["250ms"] = 0.25, ["1.5s"] = 1.5, ["2m"] = 120, ["1h"] = 3600, ["10"] = 10, [".5s"] = 0.5,
  [" 3 s "] = 3, ["100us"] = 1e-4,
} do
  check.ok(math.abs(limits.seconds_of(text) - seconds) < 1e-12, "seconds of " .. text)
end
for _, text in ipairs { "", "s", "-1s", "1d", "1 2s", "0x10", "inf", "nan" } do
  check.eq(limits.seconds_of(text), nil, "seconds of " .. text)
end

-- The SLO --
local slo = limits.parse_slo "ttft:200ms, itl:50ms,e2e:2s"
check.eq(slo.ttft_s, 0.2)
check.eq(slo.itl_s, 0.05)
check.eq(slo.e2e_s, 2)
check.ok(select(2, limits.parse_slo "ttft:1s,ttft:2s"):find "twice", "an slo twice")
for _, text in ipairs { "", "ttft", "ttft:", "ttft:fast", "first:1s", "ttft:1s,", "ttft=1s",
  "ttft:200", "ttft:0s", "ttft:9999h" } do
  local got, why = limits.parse_slo(text)
  check.ok(got == nil and why:find "ttft:TIME", "slo " .. text)
end
local function record(class, ttft, gap, e2e)
  return { class = class, ttft = ttft, longest_gap = gap, e2e = e2e }
end
check.ok(limits.is_good(slo, record("ok", 0.2, 0.05, 2)), "at the limits")
check.ok(not limits.is_good(slo, record("ok", 0.21, 0, 1)), "late first token")
check.ok(not limits.is_good(slo, record("ok", 0.1, 0.06, 1)), "a long gap")
check.ok(not limits.is_good(slo, record("ok", 0.1, 0, 2.1)), "late end")
check.ok(not limits.is_good(slo, record("http 500", 0.1, 0, 0.1)), "a failure")
check.ok(limits.is_good({ e2e_s = 1 }, record("ok", 9, 9, 0.9)), "only what is limited")

-- Thresholds --
local result = {
  reached = { ended = 200 },
  outcomes = { ok = 198, ["http 500"] = 2 },
  latency = { ttft = { p95 = 0.19, p99_9 = 0.5, mean = 0.1 } },
  throughput = { requests_per_s = 10, tokens_per_s = 400, workload_per_s = 7 },
}
local function holds(text)
  local list, why = limits.parse_thresholds(text)
  check.ok(list, why)
  local judged, all = limits.judge(list, result)
  check.eq(judged[1].text, text)
  return all, judged[1].value
end
check.eq(holds "ttft.p95<200ms", true)
check.eq(holds "ttft.p95<190ms", false, "not below itself")
check.eq(holds "ttft.p95<=190ms", true)
check.eq(holds "ttft.p99.9>400ms", true)
check.eq(select(2, holds "ttft.mean<1s"), 0.1)
check.eq(holds "errors<2%", true)
check.eq(holds "errors<1%", false)
check.eq(holds "errors<=0.01", true)
check.eq(holds "ok>=99%", true)
check.eq(holds "rps>9.5", true)
check.eq(holds "tokens_per_s>1000", false)
check.eq(holds "e2e.p50<1h", false, "what was not measured does not hold")
check.eq(holds "goodput>0", false, "nor does a goodput without SLO")
local many = limits.parse_thresholds "ttft.p95<200ms, errors<5% ,rps > 3"
check.eq(#many, 3)
check.eq(many[3].limit, 3)
for _, text in ipairs {
  "", "ttft<1s", "ttft.p42<1s", "ttft.p95=1s", "ttft.p95<fast", "x.p50<1s", "errors<", "errors<1%%",
  "rps>1s,", "ttft.p95<5%", "ttft.p95<200", "errors<-1", "errors<nan", "errors<inf", "errors<5",
  "errors<150%", "rps>50%", "rps>0x10", "rps>1e99", "ok>1.1.1%",
} do
  local got, why = limits.parse_thresholds(text)
  check.ok(got == nil and why:find "ttft.p95", "threshold " .. text)
end

check.done()

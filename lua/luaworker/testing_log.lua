-- SPDX-License-Identifier: MIT
-- The log of a test: what stands before C's logging. Lines go to the request that they are about
-- and to the test, nowhere else.
local base = require "luaworker.base"
local kernel = require "luaworker.testing_kernel"

local C, ffi, real = base.C, base.ffi, base.ffi.C

local log = {}

local levels = {
  [tonumber(real.LW_LEVEL_DEBUG)] = "debug", [tonumber(real.LW_LEVEL_INFO)] = "info",
  [tonumber(real.LW_LEVEL_WARN)] = "warn", [tonumber(real.LW_LEVEL_ERROR)] = "error",
}

local function note(level, text)
  local line = { level = level, text = text }
  local task, owner = kernel.current, kernel.owner
  if task and task.exchange then table.insert(task.exchange.logs, line) end
  if owner then table.insert(owner.logs, line) end
end

function C.lw_api_log_enabled()
  return 1
end

function C.lw_api_log(level, p, n)
  note(levels[tonumber(level)], ffi.string(p, n))
end

function C.lw_api_hook_failed(_, route, hook, at, _, text, n, trace, trace_n)
  route, hook, at = ffi.string(route), ffi.string(hook), ffi.string(at)
  note("error", ("%s%s: %s%s%s"):format(route ~= "" and route .. ", " or "", hook,
    at ~= "" and at .. ": " or "", ffi.string(text, n),
    trace_n > 0 and "\n" .. ffi.string(trace, trace_n) or ""))
end

function C.lw_api_measuring() end

function C.lw_api_script_file() end

--- All lines since the test began, each "level text".
function log.text()
  local out = {}
  for i, line in ipairs(kernel.owner and kernel.owner.logs or {}) do
    out[i] = line.level .. " " .. line.text .. "\n"
  end
  return table.concat(out)
end

return log

-- SPDX-License-Identifier: MIT
-- worker.log: lines in the worker's own log. With more than one argument the first is a format.
local base = require "luaworker.base"

local C = base.C
local format = string.format

local log = {}

local function writer(level)
  return function(message, ...)
    if C.lw_api_log_enabled(level) == 0 then return end
    local text = tostring(message)
    if select("#", ...) > 0 then text = format(text, ...) end
    C.lw_api_log(level, text, #text)
  end
end

log.debug = writer(C.LW_LEVEL_DEBUG)
log.info = writer(C.LW_LEVEL_INFO)
log.warn = writer(C.LW_LEVEL_WARN)
log.error = writer(C.LW_LEVEL_ERROR)

return log

---@meta luaworker.load
-- SPDX-License-Identifier: MIT
-- For editors, and the source of docs/api.md: what `require "luaworker.load"` returns.

--- Load tests, in programs of `luaworker run`: `require "luaworker.load"`.
---@class luaworker.load
local load = {}

--- For a `test_load.lua`: reads the flags of `luaworker load` from the command line, tests this
--- route, prints the report, and ends the program. Does not return.
---@param script string a worker script: a path from the program's own folder, or the current one
---@param route string the path of one of its POST routes
function load.main(script, route) end

--- Runs a load test and returns what `--json` writes. A mistake in the settings ends the program
--- with 2, what can't be begun with 1.
---@param given luaworker.LoadSettings
---@return table result
function load.run(given) end

return load

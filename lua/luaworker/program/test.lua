-- SPDX-License-Identifier: MIT
-- `luaworker test`: runs tests of worker scripts. Ends with 0 when all passed, 1 when one failed, 2
-- when used wrongly or when there was nothing to run.
local base = require "luaworker.base"
local cli = require "luaworker.cli"
local files = require "luaworker.testing_files"
local report = require "luaworker.testing_report"

local options = cli.parse(arg, {
  usage = "luaworker test",
  about = "Runs tests of worker scripts, which need no network, no model and no time.\n"
    .. "FILES are test files, or directories in which all *_test.lua and *_spec.lua are run;\n"
    .. "without any, those below the current directory.\n"
    .. "Ends with 0 when all passed, 1 when one failed, 2 when there was nothing to run.",
  operands = { "[FILES...]" },
  { "filter", "PATTERN", "run only tests whose full name matches this Lua pattern" },
  { "list", nil, "print the tests instead of running them" },
  { "tap", nil, "print TAP (version 13), for programs" },
  { "fail-fast", nil, "stop after the first failure" },
  { "timeout", "SECONDS", "stop a test that runs longer", type = "number", default = 10,
    min = 0.01 },
  { "hook-time", "SECONDS", "processor time of a hook between two waits, as of serve; 0: any",
    type = "number", default = 1, min = 0 },
  { "forbid-only", nil, "fail when a test or describe has .only, left behind by mistake" },
  { "no-color", nil, "no colours on a terminal either" },
})

if options.filter then
  local ok, err = files.check_filter(options.filter)
  if not ok then cli.fail(2, "--filter: %s", err) end
end

local arguments = { unpack(options) }
local found, err = files.find(#arguments > 0 and arguments or { "." })
if not found then cli.fail(2, "%s", err) end
if #found == 0 then cli.fail(2, "no test files (*_test.lua, *_spec.lua) found") end

local in_colour = base.ffi.C.lw_api_stdout_is_terminal() == 1 and not options.no_color
  and not os.getenv "NO_COLOR"
local out = not options.list and report.new(options.tap, in_colour) or nil
local counts = files.run(found, {
  filter = options.filter, seconds = options.timeout, fail_fast = options.fail_fast,
  hook_seconds = options.hook_time,
  only_list = options.list, report = out,
})
if out then out:finish(counts) end
if counts.only then
  io.stdout:flush()
  io.stderr:write("luaworker test: ", counts.only, ": .only: nothing else was run\n")
  if options.forbid_only then cli.exit(1) end
end
if counts.failed > 0 then cli.exit(1) end
if counts.passed == 0 then
  local is_empty = counts.skipped + counts.left_out == 0
  cli.fail(2, "no test was run%s", is_empty and ": no describe or it in " .. found[1] or "")
end
cli.exit(0)

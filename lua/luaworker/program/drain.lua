-- SPDX-License-Identifier: MIT
-- `luaworker drain`: a running worker takes no new work from now on; waits until it has ended what
-- it has. For a preStop hook, before SIGTERM. Ends with 0 when nothing runs any more, 1 when the
-- time is over before that, 2 when used wrongly, 3 when it can't be asked.
local cli = require "luaworker.cli"
local internal_port = require "luaworker.internal_port"

local options = cli.parse(arg, {
  usage = "luaworker drain",
  about = "Tells a running worker to take no new work, and waits until it has ended what it has.\n"
    .. "It is asked on its internal port " .. internal_port.DEFAULT .. ".\n"
    .. "There is no way back but a restart. Ends with 0 when nothing runs any more, 1 when the\n"
    .. "time is over before that, 3 when it can't be asked.",
  operands = { "[URL]" },
  internal_port.OPTION,
  { "timeout", "S", "how long to wait for running requests", type = "number", min = 0, max = 86400,
    default = 25 },
})

local url = internal_port.url(options[1] or options.internal_addr or "", "/drain")
local _, answer, status = internal_port.ask("POST", ("%s?timeout=%s"):format(url, options.timeout),
  options.timeout)
if type(answer) ~= "table" or type(answer.seconds) ~= "number"
  or type(answer.in_flight) ~= "number" then
  internal_port.fail_foreign(url)
end
if status == 200 then
  print(("drained after %.1f s"):format(answer.seconds))
else
  print(("not drained after %g s: %d in flight"):format(options.timeout, answer.in_flight))
  cli.exit(1)
end

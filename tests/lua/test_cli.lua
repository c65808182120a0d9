-- SPDX-License-Identifier: MIT
-- luaworker.cli: what it reads, what it refuses and in which words.
local check = require "check"
local cli = require "luaworker.cli"

local spec = {
  usage = "luaworker run thing",
  about = "A thing.",
  { "port", "N", "where to listen", type = "integer", min = 0, max = 65535, default = 5001 },
  { "rps", "X", "requests a second", type = "number" },
  { "n", "N", "how many", type = "integer" },
  { "endpoint", "NAME", "the endpoint", alias = "e" },
  { "load-seconds", "S", "how long", type = "number", default = 0 },
  { "quiet", nil, "say nothing", alias = "q" },
}

local function read(...)
  local out, err = cli.read({ ... }, spec)
  check.ok(out, err)
  return out
end

--- What cli.read says about these arguments, which must be wrong.
local function wrong(...)
  local out, err = cli.read({ ... }, spec)
  check.ok(out == nil, "was accepted: " .. table.concat({ ... }, " "))
  return err
end

do -- defaults, and nothing else
  local options = read()
  check.eq(options.port, 5001)
  check.eq(options.load_seconds, 0)
  check.eq(options.rps, nil)
  check.eq(options.quiet, nil)
end

do -- every way to write an option
  check.eq(read("--port", "80").port, 80)
  check.eq(read("--port=80").port, 80)
  check.eq(read("-port", "80").port, 80)
  check.eq(read("--endpoint=a=b").endpoint, "a=b")
  check.eq(read("--endpoint=").endpoint, "")
  check.eq(read("-e", "x").endpoint, "x")
  check.eq(read("-q").quiet, true)
  check.eq(read("--load-seconds", "1.5").load_seconds, 1.5)
  local options = read("-rps", "0.5", "-n", "10")
  check.eq(options.rps, 0.5)
  check.eq(options.n, 10)
  check.eq(read("--port", "1", "--port", "2").port, 2)
end

do -- values that look like options
  check.eq(read("-rps", "-0.5").rps, -0.5)
  check.eq(read("-e", "-1s").endpoint, "-1s")
  check.eq(wrong("--endpoint", "--port"), "--endpoint needs a value: --endpoint NAME")
  check.eq(read("--endpoint=--port").endpoint, "--port")
  check.eq(read("--endpoint", "-").endpoint, "-")
end

do -- refusals, in words that help
  check.eq(wrong "--port", "--port needs a value: --port N")
  check.eq(wrong("--port", "x"), '--port expects an integer, got "x"')
  check.eq(wrong("--port", "1.5"), '--port expects an integer, got "1.5"')
  check.eq(wrong("--port", "-1"), "--port must be at least 0, got -1")
  check.eq(wrong("--port", "65536"), "--port must be at most 65535, got 65536")
  check.eq(wrong("--rps", ""), '--rps expects a number, got ""')
  check.eq(wrong "--quiet=1", "--quiet takes no value")
  check.eq(wrong("-n", "x"), '-n expects an integer, got "x"', "named as it was typed")
  check.eq(wrong("-e"), "-e needs a value: -e NAME")
  check.eq(wrong("--rps", "\27[31m"), '--rps expects a number, got "\\27[31m"')
  check.eq(wrong("--rps", ("9"):rep(100) .. "x"),
    '--rps expects a number, got "' .. ("9"):rep(60) .. '..."')
  check.eq(wrong "--\27[31m", "unknown option --?[31m")
  check.eq(wrong "--prot", 'unknown option --prot, did you mean "port"?')
  check.eq(wrong "-zzzzzzzz", "unknown option -zzzzzzzz")
  check.eq(wrong "--=1", "unknown option --=1")
  check.eq(wrong "extra", 'unexpected argument "extra"')
end

do -- what only tonumber takes for a number
  for _, text in ipairs { "nan", "inf", "0x10", "1e", " ", "1 2", "--1", "1e999", "-1e999" } do
    check.ok(cli.read({ "--rps=" .. text }, spec) == nil, text)
  end
  check.eq(read("--rps=1e3").rps, 1000)
  check.eq(read("--rps=.5").rps, 0.5)
end

do -- operands, required options, the end of options
  local with_operands = {
    operands = { "SCRIPT", "ROUTE" },
    { "key", "K", "a key", required = true },
  }
  local options = cli.read({ "a.lua", "--key", "k", "/x" }, with_operands)
  check.eq(options[1], "a.lua")
  check.eq(options[2], "/x")
  options = cli.read({ "--key=k", "--", "-a", "--help" }, with_operands)
  check.eq(options[1], "-a")
  check.eq(options[2], "--help")
  check.eq(select(2, cli.read({ "--key=k", "a" }, with_operands)), "ROUTE is missing")
  check.eq(select(2, cli.read({ "a", "b" }, with_operands)), "--key is missing")
  check.eq(select(2, cli.read({ "--key=k", "a", "b", "c" }, with_operands)),
    'unexpected argument "c"')
end

do -- strict: nothing twice, nothing empty
  local strict = {
    strict = true,
    { "n", "N", "how many", type = "integer" },
    { "endpoint", "NAME", "the endpoint", alias = "e" },
    { "limit", "L", "a limit", list = true },
    { "quiet", nil, "say nothing" },
  }
  local function refusal(...)
    return select(2, cli.read({ ... }, strict))
  end
  check.eq(refusal("-n", "1", "--n=2"), "--n was given twice")
  check.eq(refusal("--endpoint", "a", "-e", "b"), "-e was given twice")
  check.eq(refusal("--quiet", "--quiet"), "--quiet was given twice")
  check.eq(refusal("-e", ""), "-e needs a value: -e NAME")
  check.eq(refusal "--endpoint=", "--endpoint needs a value: --endpoint NAME")
  check.eq(#cli.read({ "--limit", "a", "--limit", "b" }, strict).limit, 2)
end

do -- help is found anywhere, even beside mistakes
  check.ok(read("--help").help)
  check.ok(read("--nonsense", "-h").help)
end

do -- check hands on what it was given, all of it
  local a, b, c = cli.check(1, nil, 3)
  check.eq(a, 1)
  check.eq(b, nil)
  check.eq(c, 3)
end

do -- the help text names everything
  local help = cli.help(spec)
  for _, part in ipairs {
    "Usage: luaworker run thing [options]\n\nA thing.\n\nOptions:\n  ", "--port N",
    "to listen (default 5001)",
    "-e, --endpoint NAME", "-q, --quiet", "-h, --help",
  } do
    check.ok(help:find(part, 1, true), part .. " is not in:\n" .. help)
  end
  for line in help:gmatch "[^\n]+" do
    check.ok(#line <= 100, line)
  end
end

check.done()

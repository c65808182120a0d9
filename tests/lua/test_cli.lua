-- SPDX-License-Identifier: MIT
-- luaworker.cli: what it reads, what it refuses and in which words.
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
  assert(out, err)
  return out
end

--- What cli.read says about these arguments, which must be wrong.
local function wrong(...)
  local out, err = cli.read({ ... }, spec)
  assert(out == nil, "was accepted: " .. table.concat({ ... }, " "))
  return err
end

local function same(got, expected)
  assert(got == expected, ("expected %q, got %q"):format(tostring(expected), tostring(got)))
end

do -- defaults, and nothing else
  local options = read()
  same(options.port, 5001)
  same(options.load_seconds, 0)
  same(options.rps, nil)
  same(options.quiet, nil)
end

do -- every way to write an option
  same(read("--port", "80").port, 80)
  same(read("--port=80").port, 80)
  same(read("-port", "80").port, 80)
  same(read("--endpoint=a=b").endpoint, "a=b")
  same(read("--endpoint=").endpoint, "")
  same(read("-e", "x").endpoint, "x")
  same(read("-q").quiet, true)
  same(read("--load-seconds", "1.5").load_seconds, 1.5)
  local options = read("-rps", "0.5", "-n", "10")
  same(options.rps, 0.5)
  same(options.n, 10)
  same(read("--port", "1", "--port", "2").port, 2)
end

do -- values that look like options
  same(read("-rps", "-0.5").rps, -0.5)
  same(wrong("--endpoint", "--port"), "--endpoint needs a value: --endpoint NAME")
  same(read("--endpoint=--port").endpoint, "--port")
  same(read("--endpoint", "-").endpoint, "-")
end

do -- refusals, in words that help
  same(wrong "--port", "--port needs a value: --port N")
  same(wrong("--port", "x"), '--port expects an integer, got string "x"')
  same(wrong("--port", "1.5"), '--port expects an integer, got string "1.5"')
  same(wrong("--port", "-1"), "--port must be at least 0, got -1")
  same(wrong("--port", "65536"), "--port must be at most 65535, got 65536")
  same(wrong("--rps", ""), '--rps expects a number, got string ""')
  same(wrong "--quiet=1", "--quiet takes no value")
  same(wrong "--prot", 'unknown option --prot, did you mean "port"?')
  same(wrong "-zzzzzzzz", "unknown option -zzzzzzzz")
  same(wrong "--=1", "unknown option --=1")
  same(wrong "extra", 'unexpected argument "extra"')
end

do -- what only tonumber takes for a number
  for _, text in ipairs { "nan", "inf", "0x10", "1e", " ", "1 2", "--1" } do
    assert(cli.read({ "--rps=" .. text }, spec) == nil, text)
  end
  same(read("--rps=1e3").rps, 1000)
  same(read("--rps=.5").rps, 0.5)
end

do -- operands, required options, the end of options
  local with_operands = {
    operands = { "SCRIPT", "ROUTE" },
    { "key", "K", "a key", required = true },
  }
  local options = cli.read({ "a.lua", "--key", "k", "/x" }, with_operands)
  same(options[1], "a.lua")
  same(options[2], "/x")
  options = cli.read({ "--key=k", "--", "-a", "--help" }, with_operands)
  same(options[1], "-a")
  same(options[2], "--help")
  same(select(2, cli.read({ "--key=k", "a" }, with_operands)), "ROUTE is missing")
  same(select(2, cli.read({ "a", "b" }, with_operands)), "--key is missing")
  same(select(2, cli.read({ "--key=k", "a", "b", "c" }, with_operands)), 'unexpected argument "c"')
end

do -- help is found anywhere, even beside mistakes
  assert(read("--help").help)
  assert(read("--nonsense", "-h").help)
end

do -- the help text names everything
  local help = cli.help(spec)
  for _, part in ipairs {
    "usage: luaworker run thing [options]", "A thing.", "--port N", "to listen (default 5001)",
    "-e, --endpoint NAME", "-q, --quiet", "-h, --help",
  } do
    assert(help:find(part, 1, true), part .. " is not in:\n" .. help)
  end
  for line in help:gmatch "[^\n]+" do
    assert(#line <= 100, line)
  end
end

-- SPDX-License-Identifier: MIT
-- The options of programs: `--name value`, `--name=value`, and single-dash names of any length, as
-- in `-rps 0.5 -n 10`; mistakes name them as they were typed. Knows nothing of any one program; a
-- mistake ends the program with status 2.
local base = require "luaworker.base"
local await = require "luaworker.await"

local cli = {}

local called = "luaworker" -- how this program was called, before what it says of failures

local QUOTED_MOST = 60

--- What was typed, as messages show it: on one line, without control bytes, not too long.
function cli.quote(text)
  if #text > QUOTED_MOST then text = text:sub(1, QUOTED_MOST) .. "..." end
  return base.quote(text)
end

local function field_name(name)
  return (name:gsub("-", "_"))
end

local function number_from(text)
  local value = tonumber(text)
  -- tonumber takes hexadecimal, "inf" and "nan" as well; a person who types those has slipped.
  if not (value and text:find "^[-+]?[%d.]+[eE]?[-+]?%d*$") then return nil end
  return math.abs(value) < math.huge and value or nil
end

local readers = {}

function readers.string(text)
  return text
end

function readers.number(text)
  return number_from(text), "a number"
end

function readers.integer(text)
  local value = number_from(text)
  return value and value % 1 == 0 and value or nil, "an integer"
end

--- The option's value from its text, or nil and what is wrong. typed: how the option was named.
local function read_value(option, typed, text)
  local value, expected = readers[option.type or "string"](text)
  if value == nil then
    return nil, ("%s expects %s, got %s"):format(typed, expected, cli.quote(text))
  end
  if option.min and value < option.min then
    return nil, ("%s must be at least %s, got %s"):format(typed, option.min, text)
  end
  if option.max and value > option.max then
    return nil, ("%s must be at most %s, got %s"):format(typed, option.max, text)
  end
  return value
end

local function index_by_name(spec)
  local by_name = {}
  for _, option in ipairs(spec) do
    by_name[option[1]] = option
    if option.alias then by_name[option.alias] = option end
  end
  return by_name
end

local function find_option(by_name, name, arg)
  local option = by_name[name]
  if option then return option end
  local near = #name > 2 and base.did_you_mean(name, by_name) or ""
  return nil, ("unknown option %s%s"):format(arg:gsub("%c", "?"), near)
end

-- `--host --port 1` is a forgotten value; `-x -5` is not.
local function is_forgotten(text)
  return not text or text:find "^%-." and not text:find "^%-%.?%d"
end

--- Takes the option at args[i]: stores its value; returns the index after it, or nil and why not.
local function take_option(by_name, args, i, out, is_strict)
  local typed, name, inline = args[i]:match "^(%-%-?([^=]+))=(.*)$"
  if not typed then typed, name = args[i]:match "^(%-%-?(.+))$" end
  local option, unknown = find_option(by_name, name, args[i])
  if not option then return nil, unknown end
  local field = field_name(option[1])
  if is_strict and out[field] ~= nil and not option.list then
    return nil, ("%s was given twice"):format(typed)
  end
  if not option[2] then
    if inline then return nil, ("%s takes no value"):format(typed) end
    out[field] = true
    return i + 1
  end
  local text = inline or args[i + 1]
  if not inline and is_forgotten(text) or is_strict and text == "" then
    return nil, ("%s needs a value: %s %s"):format(typed, typed, option[2])
  end
  local value, wrong = read_value(option, typed, text)
  if value == nil then return nil, wrong end
  if option.list then
    out[field] = out[field] or {}
    table.insert(out[field], value)
  else
    out[field] = value
  end
  return inline and i + 1 or i + 2
end

local function take_all(spec, args, out)
  local by_name = index_by_name(spec)
  local i, options_end = 1, false
  while i <= #args do
    if args[i] == "--" and not options_end then
      options_end = true
      i = i + 1
    elseif not options_end and args[i]:find "^%-." then
      local after, wrong = take_option(by_name, args, i, out, spec.strict)
      if not after then return wrong end
      i = after
    else
      out[#out + 1] = args[i]
      i = i + 1
    end
  end
end

local function missing_or_extra(spec, out)
  local operands = spec.operands or {}
  local next_one = operands[#out + 1]
  if next_one and next_one:sub(1, 1) ~= "[" then
    return next_one:gsub("%.+$", "") .. " is missing"
  end
  local has_rest = #operands > 0 and operands[#operands]:find "%.%.%."
  if #out > #operands and not has_rest then
    return ("unexpected argument %q"):format(out[#operands + 1])
  end
  for _, option in ipairs(spec) do
    if option.required and out[field_name(option[1])] == nil then
      return ("--%s is missing"):format(option[1])
    end
  end
end

--- Reads args by spec without ending anything: the options by name (dashes as underscores, defaults
--- filled in, operands as 1, 2, ...), or nil and one sentence. `{ help = true }`: help is wanted.
function cli.read(args, spec)
  local out = {}
  for _, arg in ipairs(args) do
    if arg == "--help" or arg == "-h" then return { help = true } end
    if arg == "--" then break end
  end
  local wrong = take_all(spec, args, out) or missing_or_extra(spec, out)
  if wrong then return nil, wrong end
  for _, option in ipairs(spec) do
    local field = field_name(option[1])
    if out[field] == nil then out[field] = option.default end
  end
  return out
end

local function help_line(option)
  local left = (option.dash or "--") .. option[1]
  if option.alias then left = "-" .. option.alias .. ", " .. left end
  if option[2] then left = left .. " " .. option[2] end
  local right = option[3] or ""
  if option.default ~= nil then right = ("%s (default %s)"):format(right, option.default) end
  return left, right
end

local function usage_line(spec)
  local operands = table.concat(spec.operands or {}, " ")
  return ("Usage: %s%s%s [options]"):format(spec.usage or "luaworker run FILE",
    operands ~= "" and " " or "", operands)
end

--- The text of --help.
function cli.help(spec)
  local lines, rows, width = { usage_line(spec) }, {}, 0
  if spec.about then lines[#lines + 1] = "\n" .. spec.about end
  lines[#lines + 1] = "\nOptions:"
  for _, option in ipairs(spec) do
    local left, right = help_line(option)
    rows[#rows + 1] = { left, right }
    width = math.max(width, #left)
  end
  rows[#rows + 1] = { "-h, --help", "this text" }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("  %-" .. width .. "s  %s"):format(row[1], row[2])
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Ends the program with this status; does not return.
function cli.exit(status)
  io.stdout:flush()
  base.C.lw_api_exit(status)
  error(await.EXIT, 0)
end

--- Ends the program with one line on standard error; does not return.
function cli.fail(status, format, ...)
  io.stderr:write(called, ": ", format:format(...), "\n")
  cli.exit(status)
end

--- Like assert, but what went wrong is said in one line, and the program ends with 1.
function cli.check(value, err, ...)
  if value then return value, err, ... end
  cli.fail(1, "%s", tostring(err))
end

--- Reads a program's arguments. `spec` lists { name, VALUE or nil for a flag, text, alias=, type=
--- "string"|"integer"|"number", default=, min=, max=, required=, list=, dash= } (list: may be
--- repeated, gives a table; dash: what --help shows before the name) and may name usage, about,
--- operands (in brackets: may be left out; the last with dots: any number of them) and strict
--- (nothing twice, nothing empty; else the last one counts). --help prints and ends the program
--- with 0; a mistake ends it with 2.
function cli.parse(args, spec)
  called = spec.usage or called
  local out, wrong = cli.read(args, spec)
  if not out then
    cli.fail(2, "%s\nTry: %s --help", wrong, called)
  elseif out.help then
    io.stdout:write(cli.help(spec))
    cli.exit(0)
  end
  return out
end

return cli

-- SPDX-License-Identifier: MIT
-- `luaworker check SCRIPT...`: tells all mistakes of worker scripts, without a network. Ends with 0
-- when they are good, 1 when one has mistakes, 2 when used wrongly or a script can't be read.
local worker = require "luaworker"
local check = require "luaworker.check"
local cli = require "luaworker.cli"
local file = require "luaworker.file"
local mistakes = require "luaworker.mistakes"

local options = cli.parse(arg, {
  usage = "luaworker check",
  about = "Finds the mistakes of worker scripts, all at once: the same that serve looks for\n"
    .. "before it takes a script in, and tells each as FILE:LINE: PATH: MESSAGE.\n\n"
    .. "A script's text is run, and its hooks on the payloads that it would be benchmarked with;\n"
    .. "nothing is listened to or called, and a hook that would wait is left there with a note.\n"
    .. "Environment variables count as for serve. Where one is not set and the text fails without\n"
    .. "it, that is a warning, and the check goes on with a stand-in.\n\n"
    .. "Ends with 0 when all scripts are good, warnings allowed; 1 when one has errors (with\n"
    .. "--strict: or warnings); 2 when used wrongly or a script can't be read.",
  operands = { "SCRIPT..." },
  { "json", nil, "a line of JSON for each script: { script, ok, errors, warnings, mistakes }" },
  { "strict", nil, "warnings count as errors" },
  { "model-url", "URL", "the model server's URL, in place of the script's: as serve has it" },
})

-- The environment: which variables were asked for in vain, and stand-ins for them.

local missing, stand_ins = {}, false

local function getenv(name)
  local text = os.getenv(name)
  if text ~= nil then return text end
  if not missing[name] then missing[#missing + 1] = name end
  missing[name] = true
  if stand_ins then return name:find "URL" and "http://127.0.0.1:1" or "1" end
end

local function examine(path, text)
  missing = {}
  return check.script_in(getenv, path, text, { model_url = options.model_url })
end

-- The URL that is in a variable where the worker runs.
local function forgive_url(list)
  for _, one in ipairs(#missing > 0 and list or {}) do
    if one.path == "model_server_url" and one.message == "is missing" then
      one.severity = "warning"
      one.message = "is missing: not set here: " .. table.concat(missing, ", ")
      list.errors, list.warnings = list.errors - 1, list.warnings + 1
    end
  end
end

--- Without variables that it can't do without, a script is checked with something in their place.
local function examine_leniently(path, text)
  local report = examine(path, text)
  forgive_url(report.list)
  if #missing == 0 or report.list.errors == 0 or report.value then return report end
  local names, first = table.concat(missing, ", "), report.list[1]
  stand_ins = true
  local again = examine(path, text)
  stand_ins = false
  if not again.value then
    report.list:add {
      severity = "note", message = "environment variables that it asks for are not set: " .. names,
    }
    return report
  end
  again.list:add {
    severity = "warning", place = first,
    message = first.message .. " (not set here: " .. names .. "; checked with stand-ins)",
  }
  again.list:sort()
  return again
end

-- Telling --

local function is_good(list)
  return list.errors == 0 and (not options.strict or list.warnings == 0)
end

local function count(n, what)
  return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

-- What was decided comes first: the exit status and `ok` of the JSON say the same.
local function summary(report)
  local list, parts = report.list, {}
  if list.errors > 0 then
    parts[1] = count(list.errors, "error")
  elseif not is_good(list) then
    parts[1] = "not good by --strict"
  else
    local routes = report.value.opts.routes
    parts[1] = "good: " .. count(#routes, "route")
    for _, one in ipairs(routes) do
      local measured = type(one.opts) == "table" and one.opts.benchmark
      if measured then parts[2] = "benchmark on " .. one.method .. " " .. one.path end
    end
  end
  if list.warnings > 0 then parts[#parts + 1] = count(list.warnings, "warning") end
  return report.path .. ": " .. table.concat(parts, ", ")
end

local function print_text(report)
  for _, one in ipairs(report.list) do
    print(mistakes.line_of(one) .. (one.trace or ""))
  end
  print(summary(report))
end

local function print_json(report)
  local list, out = report.list, {}
  for i, one in ipairs(list) do
    out[i] = worker.json.object {
      file = one.file, line = one.line or worker.json.null, path = one.path,
      message = one.message, severity = one.severity,
    }
  end
  print(worker.json.encode {
    script = report.path, ok = is_good(list), errors = list.errors, warnings = list.warnings,
    mistakes = worker.json.array(out),
  })
end

local status = 0
for _, path in ipairs(options) do
  local text, why = file.read(path)
  if text then
    local report = examine_leniently(path, text)
    if options.json then print_json(report) else print_text(report) end
    if not is_good(report.list) then status = math.max(status, 1) end
  else
    io.stderr:write("luaworker check: ", why, "\n")
    status = 2
  end
end
cli.exit(status)

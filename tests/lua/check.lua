-- SPDX-License-Identifier: MIT
-- Counts what holds and what does not. A test is a program: it checks, then ends with check.done().
local check = { passed = 0, failed = 0 }

local function show(value)
  if type(value) == "string" then return string.format("%q", value) end
  return tostring(value)
end

local function fail(what, text)
  check.failed = check.failed + 1
  io.stderr:write(("FAILED %s: %s\n"):format(what or "check", text))
  io.stderr:write(debug.traceback("", 3):gsub("^\nstack traceback:\n", ""), "\n")
end

local function pass()
  check.passed = check.passed + 1
end

function check.ok(value, what)
  if value then pass() else fail(what, "expected a true value, got " .. show(value)) end
end

function check.eq(got, expected, what)
  if got == expected then return pass() end
  fail(what, ("expected %s, got %s"):format(show(expected), show(got)))
end

--- text must contain part, letter by letter.
function check.has(text, part, what)
  if type(text) == "string" and text:find(part, 1, true) then return pass() end
  fail(what, ("expected %s to hold %s"):format(show(text), show(part)))
end

--- f(...) must raise; returns what it raised, as text.
function check.raises(f, ...)
  local ok, err = pcall(f, ...)
  if ok then fail("raises", "nothing was raised") else pass() end
  return tostring(err)
end

--- Says the sums and ends the program.
function check.done()
  print(("%d passed, %d failed"):format(check.passed, check.failed))
  os.exit(check.failed == 0 and check.passed > 0 and 0 or 1)
end

return check

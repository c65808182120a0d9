-- SPDX-License-Identifier: MIT
-- What every module of the library stands on: the FFI, declared once, the codes, and a pair of
-- spans for out-parameters. Bytes behind a span are copied at once, so the pair is shared by all.
--
-- LuaJIT compiles no function that waits, that holds a loop or is a script's. There a call of C
-- takes 1,200 instructions, in a compiled function 50. What each request calls is therefore alone
-- in a function that only calls it. Neither of the two may be a tail call: what returns to others
-- than its caller is not compiled.
local ffi = require "ffi"

if LW_CDEF then
  ffi.cdef(LW_CDEF)
  LW_CDEF = nil
end

-- In a test run a table stands before C: luaworker.testing puts functions of its own in it, for
-- those that would touch a client, a server or the clock.
local is_testing = LW_TESTING or false
LW_TESTING = nil
local C = is_testing and setmetatable({}, { __index = ffi.C }) or ffi.C
local ffi_string = ffi.string

local base = {
  ffi = ffi,
  C = C,
  is_testing = is_testing,
  OK = C.LW_OK,
  AGAIN = C.LW_AGAIN,
  EOF = C.LW_EOF,
  CANCELLED = C.LW_CANCELLED,
  TIMEOUT = C.LW_TIMEOUT,
  CLOSED = C.LW_CLOSED,
  LIMIT = C.LW_LIMIT,
  PROTOCOL = C.LW_PROTOCOL,
  IO = C.LW_IO,
  BUSY = C.LW_BUSY,
  MISUSE = C.LW_MISUSE,
  span = ffi.new "lw_span",
  other_span = ffi.new "lw_span",
}

local code_names = {
  [base.OK] = "ok", [base.AGAIN] = "again", [base.EOF] = "eof", [base.CANCELLED] = "cancelled",
  [base.TIMEOUT] = "timeout", [base.CLOSED] = "closed", [base.LIMIT] = "limit",
  [base.PROTOCOL] = "protocol", [base.IO] = "io", [base.BUSY] = "busy", [base.MISUSE] = "misuse",
}

function base.code_name(code)
  return code_names[code] or ("code " .. tostring(code))
end

--- A copy of the bytes behind a span.
function base.text(span)
  return ffi_string(span.p, span.n)
end

--- What the last failing router or listener function says.
function base.last_error()
  return ffi_string(C.lw_api_error())
end

--- A string as in Lua's own text, on one line.
function base.quote(text)
  return (("%q"):format(text):gsub("\\\n", "\\n"))
end

--- How a value is shown in messages: `string "3"`, `number 2`, `table`. Long strings are cut.
function base.show(value)
  local kind = type(value)
  if kind == "string" then
    if #value > 40 then value = value:sub(1, 40) .. "..." end
    return "string " .. base.quote(value)
  elseif kind == "number" or kind == "boolean" then
    return kind .. " " .. tostring(value)
  end
  return kind
end

--- For functions of the script's words: raises at their caller when `value` is no string.
function base.expect_string(value, what)
  if type(value) ~= "string" then
    error(what .. ": expected string, got " .. base.show(value), 3)
  end
end

local function distance(a, b)
  local row = {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and diagonal or diagonal + 1
      diagonal = row[j]
      row[j] = math.min(cost, row[j] + 1, row[j - 1] + 1)
    end
  end
  return row[#b]
end

--- ", did you mean "x"?" for the candidate (a key of `candidates`) nearest to `word`; "" when none
--- is near.
function base.did_you_mean(word, candidates)
  local best, best_distance
  if #word > 100 then return "" end
  for candidate in pairs(candidates) do
    local d = distance(word:lower(), candidate)
    if not best or d < best_distance or (d == best_distance and candidate < best) then
      best, best_distance = candidate, d
    end
  end
  if not best or best_distance > math.max(math.min(2, #word - 2), math.floor(#word / 3)) then
    return ""
  end
  return string.format(', did you mean "%s"?', best)
end

return base

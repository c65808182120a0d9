-- SPDX-License-Identifier: MIT
-- expect(value):to_equal(other) and its kin. What is not met is raised as a table that says where
-- the expectation stands; an expectation of which nothing was asked is noted, too.
local base = require "luaworker.base"
local diff = require "luaworker.testing_diff"
local failure = require "luaworker.failure"
local json = require "luaworker.json"
local kernel = require "luaworker.testing_kernel"
local place = require "luaworker.testing_place"

local show = diff.show

local expect = {}

local Unmet = {
  __tostring = function(self) return self.place .. ": " .. table.concat(self.lines, "\n") end,
}

local function unmet(lines, values)
  local places = place.on_stack()
  return setmetatable({
    is_unmet = true, lines = lines, place = table.remove(places, 1) or "?", callers = places,
    expected = values and values[1], got = values and values[2],
  }, Unmet)
end

-- Matchers: each a function of the value and what is asked; whether it holds, and a sentence for
-- either case, without "expected": { "... to be", "... not to be" } or lines.

local matchers = {}

function matchers.to_equal(value, expected)
  return diff.find(expected, value) == nil, function(negated)
    if negated then return { "expected anything but " .. show(expected) } end
    return diff.lines(expected, value), { expected, value }
  end
end

local function plain(holds, value, text, expected)
  return holds, function(negated)
    return { ("expected %s %s%s"):format(show(value), negated and "not " or "", text) },
      { expected, value }
  end
end

function matchers.to_be(value, expected)
  return plain(rawequal(value, expected), value, "to be " .. show(expected), expected)
end

function matchers.to_be_truthy(value) return plain(value and true or false, value, "to be true") end
function matchers.to_be_falsy(value) return plain(not value, value, "to be false or nil") end
function matchers.to_be_nil(value) return plain(value == nil, value, "to be nil") end

function matchers.to_be_a(value, kind)
  return plain(type(value) == kind, value, "to be a " .. tostring(kind))
end

function matchers.to_match(value, pattern)
  local holds = type(value) == "string" and value:find(pattern) ~= nil
  return plain(holds, value, "to match the pattern " .. show(pattern))
end

local function contains(value, wanted)
  if type(value) == "string" then return value:find(tostring(wanted), 1, true) ~= nil end
  if type(value) ~= "table" then return false end
  for _, one in json.pairs(value) do
    if diff.find(wanted, one) == nil then return true end
  end
  return false
end

function matchers.to_contain(value, wanted)
  return plain(contains(value, wanted), value, "to contain " .. show(wanted))
end

function matchers.to_have_length(value, length)
  local kind = type(value)
  local has = (kind == "string" or kind == "table") and #value or nil
  return plain(has == length, value, ("to have the length %s, it has %s"):format(show(length),
    show(has)))
end

function matchers.to_be_near(value, wanted, tolerance)
  tolerance = tolerance or 1e-9
  local holds = type(value) == "number" and math.abs(value - wanted) <= tolerance
  local text = ("to be within %s of %s"):format(show(tolerance), show(wanted))
  return plain(holds, value, text, wanted)
end

function matchers.to_be_above(value, limit)
  return plain(type(value) == "number" and value > limit, value, "to be above " .. show(limit))
end

function matchers.to_be_below(value, limit)
  return plain(type(value) == "number" and value < limit, value, "to be below " .. show(limit))
end

function matchers.to_raise(f, pattern)
  if type(f) ~= "function" then return plain(false, f, "to be a function that raises") end
  local ok, err = pcall(f)
  if not ok and failure.is_ending(err) then error(err, 0) end
  local text = tostring(err)
  local holds = not ok and (pattern == nil or text:find(pattern) ~= nil)
  return holds, function(negated)
    if negated then return { "expected no error, got " .. show(text) } end
    local wanted = pattern and " that matches " .. show(pattern) or ""
    return { ("expected an error%s, %s"):format(wanted, ok and "got none" or "got " .. show(text)) }
  end
end

local Expectation = {}

local function matcher_of(self, name)
  local matcher = matchers[name]
  self.pending.is_asked = true
  if not matcher then
    error(("expect has no %s%s"):format(tostring(name),
      base.did_you_mean(tostring(name), matchers)), 3)
  end
  return function(given, ...)
    if given ~= self then error(name .. ": call it with a colon: expect(value):" .. name, 2) end
    local holds, tell = matcher(rawget(self, "value"), ...)
    if holds ~= self.negated then return end
    local lines, values = tell(self.negated)
    error(unmet(lines, values), 0)
  end
end

function Expectation:__index(name)
  if name == "never" then
    local value = rawget(self, "value")
    return setmetatable({ value = value, pending = self.pending, negated = true }, Expectation)
  end
  return matcher_of(self, name)
end

--- expect(value), to be followed by a matcher, with `.never` before it for the contrary.
function expect.that(value)
  local pending = { place = place.on_stack()[1] or "?" }
  local owner = kernel.owner
  if owner and owner.expectations then table.insert(owner.expectations, pending) end
  return setmetatable({ value = value, pending = pending, negated = false }, Expectation)
end

--- What of a test's expectations was never asked anything.
function expect.check_asked(owner)
  for _, pending in ipairs(owner.expectations) do
    if not pending.is_asked then
      kernel.fail(setmetatable({
        is_unmet = true, place = pending.place, callers = {},
        lines = { "expect(...) without a question: expect(value):to_equal(other)" },
      }, Unmet))
    end
  end
end

return expect

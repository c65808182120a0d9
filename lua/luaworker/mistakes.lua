-- SPDX-License-Identifier: MIT
-- The mistakes of one script, gathered: { file, line or nil, path, message, severity = "error",
-- "warning" or "note", trace or nil }. Says them as lines, in the order of the text.
local mistakes = {}

local List = {}
List.__index = List

function mistakes.new(script)
  return setmetatable({ script = script, errors = 0, warnings = 0, notes = 0 }, List)
end

--- one: { message, severity = "error", path = "", place = { file, line } or nil: somewhere in the
--- script, trace }.
function List:add(one)
  local place = one.place or { file = self.script }
  local severity = one.severity or "error"
  self[severity .. "s"] = self[severity .. "s"] + 1
  self[#self + 1] = {
    file = place.file, line = place.line, path = one.path or "", message = one.message,
    severity = severity, trace = one.trace,
  }
end

--- Brings them into the order of the text, the script's own file first. Those without a line stay
--- before the others of their file.
function List:sort()
  local rank = {}
  for i, one in ipairs(self) do
    rank[one] = i
  end
  table.sort(self, function(a, b)
    if a.file ~= b.file then
      if a.file == self.script or b.file == self.script then return a.file == self.script end
      return a.file < b.file
    end
    local line, other = a.line or 0, b.line or 0
    if line ~= other then return line < other end
    return rank[a] < rank[b]
  end)
end

--- A text of a script, which may hold anything, on one line.
function mistakes.one_line(text)
  return (text:gsub("[%c]", function(c)
    return c == "\n" and "\\n" or ("\\%d"):format(c:byte())
  end))
end

--- One line: "workers/x.lua:23: routes[2].endpoint: expected ...". is_plain: not how severe it is.
function mistakes.line_of(one, is_plain)
  return mistakes.one_line(one.file .. (one.line and ":" .. one.line or "") .. ": "
    .. ((is_plain or one.severity == "error") and "" or one.severity .. ": ")
    .. (one.path == "" and "" or one.path .. ": ") .. one.message)
end

--- The errors, one a line, with what was running where a line says so.
function List:errors_text()
  local lines = {}
  for _, one in ipairs(self) do
    if one.severity == "error" then
      lines[#lines + 1] = mistakes.line_of(one) .. (one.trace or "")
    end
  end
  return table.concat(lines, "\n")
end

return mistakes

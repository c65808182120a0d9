-- SPDX-License-Identifier: MIT
-- Where an author's code stands: file and line on the stack or in a traceback, with the library's
-- own left out. For what testing tells of failures.
local place = {}

local prefix = debug.getinfo(1, "S").source:match "^(.*)testing_place%.lua$"

local library = {}
for name in pairs(package.preload) do
  local module = name == "luaworker" and "init" or name:match "^luaworker%.(.*)$"
  if module then library[prefix .. module .. ".lua"] = true end
end

local function author_file(source)
  if source:sub(1, 1) ~= "@" or source:sub(1, 2) == "@@" or library[source] then return nil end
  return source:sub(2)
end

--- The author's functions on the stack of a coroutine (nil: the running one), the innermost first:
--- { "file:line", ... }.
function place.on_stack(co)
  local places = {}
  for level = co and 0 or 2, 100 do
    local info
    if co then info = debug.getinfo(co, level, "Sl") else info = debug.getinfo(level, "Sl") end
    if not info then break end
    local file = info.currentline > 0 and author_file(info.source)
    if file then places[#places + 1] = file .. ":" .. info.currentline end
  end
  return places
end

--- Whether the function at this level of the caller's stack is the author's.
function place.is_author(level)
  local info = debug.getinfo(level + 1, "S")
  return info ~= nil and author_file(info.source) ~= nil
end

return place

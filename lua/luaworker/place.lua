-- SPDX-License-Identifier: MIT
-- The file and line of what a script says: of its calls to the library, noted as they are made; of
-- a path into its tables, for a mistake there; of an error that it raised. Texts are read only when
-- a mistake is to be told.
local source = require "luaworker.source"

local getinfo = debug.getinfo

local place = {}

--- Where the function that called the caller stands now: { file, line }, or nil when it is no Lua.
function place.here(level)
  local info = getinfo(level + 1, "Sl")
  if not info or info.source:sub(1, 1) ~= "@" then return nil end
  return { file = info.source:sub(2), line = info.currentline }
end

--- Where a function is written.
function place.of_function(f)
  local info = type(f) == "function" and getinfo(f, "S")
  if not info or info.source:sub(1, 1) ~= "@" then return nil end
  return { file = info.source:sub(2), line = info.linedefined }
end

-- Finder: { script, files; readings by file }

local Finder = {}
Finder.__index = Finder

--- Finds places in these files of one script, { path, text }, the script itself first. The list may
--- grow.
function place.finder(files)
  return setmetatable({ script = files[1].path, files = files, readings = {} }, Finder)
end

--- The file of this name, or whose name ends so.
function Finder:file(name, ending)
  for _, one in ipairs(self.files) do
    if one.path == name or ending and one.path:sub(-#ending) == ending then return one end
  end
end

function Finder:reading(file)
  local reading = self.readings[file]
  if not reading then
    reading = source.read(self:file(file).text)
    self.readings[file] = reading
  end
  return reading
end

--- The place, if it is in a file of the script; else nil.
function Finder:owned(at)
  return at and self:file(at.file) and at
end

-- In messages of Lua the names of files are cut, of a long one the end is left.
function Finder:full_name(shown)
  local file = self:file(shown, shown:match "^%.%.%.(.+)$")
  return file and file.path
end

--- The place "file:line" in a file of the script, or nil.
function Finder:parse(text)
  local shown, line = (text or ""):match "^(.*):(%d+)$"
  local file = shown and self:full_name(shown)
  return file and { file = file, line = tonumber(line) }
end

--- Of an error's text: the place that it begins with and the rest of it; nil and the text when that
--- is none of the script's.
function Finder:split(text)
  local shown, rest = text:match "^([^\n]-:%d+): (.*)$"
  local at = self:parse(shown)
  return at, at and rest or text
end

--- Of an error as failure.catch made it, or a text: the innermost place in the script, or nil; what
--- went wrong; and the frames that are the script's own.
function Finder:of_error(caught)
  if type(caught) == "string" then return self:split(caught) end
  local at, own = self:parse(caught.at), {}
  for _, frame in ipairs(caught.frames or {}) do
    if frame.place and self:file(frame.place) then own[#own + 1] = frame end
  end
  if not at and own[1] then at = { file = own[1].place, line = own[1].line } end
  return at, (caught.text:gsub("%s*\n%s*", " ")), own
end

--- The keys of a path: "routes[2].benchmark" is { "routes", 2, "benchmark" }.
function place.steps(path)
  local steps = {}
  for mark, key in path:gmatch "([%.%[]?)([^%.%[%]]+)" do
    steps[#steps + 1] = mark == "[" and tonumber(key) or key
  end
  return steps
end

-- Where the brackets of a noted call open; of what the script returned in a tail call, which leaves
-- no trace, the brackets behind its return.
local function find_call(s, anchor, line)
  if line then return source.call_on(s, line, anchor.names, anchor.first_string) end
  local i = source.last_return(s)
  while i and s.word[i] and not s.close[i] do i = i + 1 end
  return i
end

--- The last return of the script.
function Finder:last_return()
  local s = self:reading(self.script)
  local i = source.last_return(s)
  return { file = self.script, line = i and s.line[i] }
end

--- The place of a path from a call on: anchor = { place (nil: what the script returned), names =
--- those of the function that was called, first_string }.
function Finder:follow(anchor, steps)
  local at = self:owned(anchor.place) or { file = self.script }
  local s = self:reading(at.file)
  local call = find_call(s, anchor, at.line)
  local base_line = at.line or call and s.line[call]
  local found, line = source.follow(s, call and source.table_in(s, call), steps)
  local last = steps[#steps]
  if found == 0 and type(last) == "string" then line = source.only_line(s, last) end
  return { file = at.file, line = line or base_line }
end

return place

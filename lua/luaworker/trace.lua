-- SPDX-License-Identifier: MIT
-- Where an error came from: the script's own functions on the stack. Of the library only the
-- function that a script's line called is shown, of very deep stacks both ends. Taken while the
-- stack stands (take), made text of later (lines, place). Called by failure.lua.
local await = require "luaworker.await"

local getinfo = debug.getinfo

local trace = {}

local WHOLE, END = 60, 24 -- levels: deeper stacks are shown by so many of each end
local SHOWN_MOST = 40

local LIBRARY = getinfo(1, "S").source:match "^@(.*/)[^/]*$"

-- Not worth a line: the place where it was called says it.
local raising = { error = true, assert = true }

local function is_library(source)
  return source:sub(1, #LIBRARY + 1) == "@" .. LIBRARY
end

local function info_at(thread, level, what)
  if thread then return getinfo(thread, level, what) end
  return getinfo(level + 2, what) -- the levels of the caller's caller
end

-- Each look costs as many steps as the level is high, so a deep stack is not walked level by level.
local function depth_of(thread)
  local low, high = 0, WHOLE
  while info_at(thread, high, "l") do
    low, high = high, high * 2
  end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if info_at(thread, middle, "l") then low = middle else high = middle end
  end
  return low
end

-- A frame: { place, line, short, name, f, start } of the script, { other, name } of anything else,
-- { note } between two stacks or parts of one.

local function make_frame(info)
  if info.what == "C" then return { other = "[C]", name = info.name } end
  if is_library(info.source) then return { other = "[luaworker]", name = info.name } end
  local source = info.source
  return {
    place = source:sub(1, 1) == "@" and source:sub(2) or info.short_src, short = info.short_src,
    line = info.currentline, f = info.func, start = info.linedefined,
    name = info.what == "main" and "main chunk" or info.name,
  }
end

local function take_range(out, thread, first, last, handler)
  local other
  for level = first, last do
    local info = info_at(thread, level, "Slnf")
    if not info then break end
    local frame = make_frame(info)
    if frame.other then
      other = info.func ~= handler and frame or nil
    else
      if other and other.name and not raising[other.name] then out[#out + 1] = other end
      other = nil
      out[#out + 1] = frame
    end
  end
end

local function take_stack(out, thread, handler)
  local depth = depth_of(thread)
  if depth <= WHOLE then
    take_range(out, thread, 0, depth, handler)
    return
  end
  take_range(out, thread, 0, END, handler)
  out[#out + 1] = { note = ("... %d levels ..."):format(depth - 2 * END) }
  take_range(out, thread, depth - END, depth)
end

local function has_place(frames)
  for _, frame in ipairs(frames) do
    if frame.place then return true end
  end
end

--- The frames of the running stack above those of the handler that was given the error, and before
--- them those of the script's coroutines which it ended.
function trace.take(err, handler)
  local out = {}
  for _, thread in ipairs(await.broken_by(err)) do
    take_stack(out, thread)
    out[#out + 1] = { note = "of a coroutine, resumed by" }
  end
  take_stack(out, nil, handler)
  return has_place(out) and out or {}
end

--- The same of a traceback in Lua's own words, in which long names of files are cut. top, if any:
--- getinfo's answer about the first function, whose file's whole name is known from it.
function trace.read(text, top)
  local out = {}
  local full = top and top.source:match "^@(.*)"
  for short, line, name in text:gmatch "\n?\t([^\n\t]-):(%d+): in ([^\n]*)" do
    if short:sub(1, #LIBRARY) ~= LIBRARY then
      out[#out + 1] = {
        place = top and short == top.short_src and full or short, short = short,
        line = tonumber(line), start = name:match ":(%d+)>$" or "?",
        name = name:match "'(.-)'" or name:match "^main chunk",
      }
    end
  end
  return out
end

--- Splits off the place with which Lua begins an error's text: the text, and file:line when that is
--- the script's.
function trace.split(text, frames)
  local short, line, rest = text:match "^([^\n]-):(%d+): (.*)$"
  if not short then return text end
  for _, frame in ipairs(frames) do
    if frame.short == short then
      if frame.line == -1 then frame.line = tonumber(line) end -- where a coroutine has ended
      return rest, frame.place .. ":" .. line
    end
  end
  if short:sub(1, #LIBRARY) == LIBRARY then return rest end
  if short:sub(-4) == ".lua" then return rest, short .. ":" .. line end
  return text
end

--- file:line where the script stood, or nil.
function trace.place(frames)
  for _, frame in ipairs(frames) do
    if frame.place then return frame.place .. ":" .. frame.line end
  end
end

-- Of a frame that was read from text the library's name for it is all that is known: `respond`.
local function is_inside(frame, f)
  local info = f and getinfo(f, "S")
  return info and frame.short == info.short_src and frame.line >= info.linedefined
    and frame.line <= info.lastlinedefined
end

local function show(frame, hook, f, is_last)
  if frame.note then return "(" .. frame.note .. ")" end
  if frame.other then return frame.other .. ": in " .. frame.name end
  local is_hook = f and frame.f == f or is_last and not frame.f and is_inside(frame, f)
  local name = is_hook and hook or frame.name
  return ("%s:%d: in %s"):format(frame.place, frame.line,
    name or "function at line " .. frame.start)
end

--- The frames as text, a line each. f, if any, is the function that is called `hook`.
function trace.lines(frames, hook, f)
  local out, n = {}, #frames
  for i, frame in ipairs(frames) do
    local is_shown = n <= SHOWN_MOST or i <= SHOWN_MOST / 2 or i > n - SHOWN_MOST / 2
    if is_shown then
      out[#out + 1] = show(frame, hook, f, i == n)
    elseif i == SHOWN_MOST / 2 + 1 then
      out[#out + 1] = ("(... %d more ...)"):format(n - SHOWN_MOST)
    end
  end
  return table.concat(out, "\n")
end

return trace

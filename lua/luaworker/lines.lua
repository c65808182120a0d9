-- SPDX-License-Identifier: MIT
-- Chunks in, lines or server-sent events out. The chunks come from any function; nothing here knows
-- of HTTP. Event streams follow the WHATWG HTML standard, §9.2.6 "Interpreting an event stream".
local buffer = require "string.buffer"

local find, sub, byte = string.find, string.sub, string.byte
local CR, LF, SPACE = 13, 10, 32
local MAX_LINE = 16 * 1024 * 1024

local lines = {}

local function reader_of(next_chunk, source)
  return {
    next_chunk = next_chunk, source = source,
    text = "", at = 1,      -- the chunk in hand and where its unread part begins
    begun = buffer.new(),   -- the part of a line that earlier chunks brought
    last_cr = false,        -- events: the last chunk ended with CR, so a LF now belongs to it
  }
end

local function next_piece(reader)
  local text, at, begun = reader.text, reader.at, reader.begun
  if at <= #text then begun:put(sub(text, at)) end
  if #begun > MAX_LINE then error("a line is longer than 16 MiB", 0) end
  local chunk = reader.next_chunk(reader.source)
  reader.text, reader.at = chunk or "", 1
  return chunk ~= nil
end
-- Of a source that gives "" for ever, compiled, nothing could stop the loops below (budget.h).
jit.off(next_piece)

--- Ends the line before `stop`; the next begins at `after`.
local function take_line(reader, stop, after)
  local line = sub(reader.text, reader.at, stop - 1)
  reader.at = after
  local begun = reader.begun
  if #begun == 0 then return line end
  begun:put(line)
  return begun:get()
end

local function without_cr(line)
  if byte(line, -1) == CR then return sub(line, 1, -2) end
  return line
end

local function next_line(reader)
  repeat
    local stop = find(reader.text, "\n", reader.at, true)
    if stop then return without_cr(take_line(reader, stop, stop + 1)) end
  until not next_piece(reader)
  if #reader.begun > 0 then return without_cr(reader.begun:get()) end
end

--- An iterator over lines: ended by LF or CRLF, which are not part of them; the last may lack it.
function lines.each(next_chunk, source)
  return next_line, reader_of(next_chunk, source)
end

--- Where the first CR or LF at or after reader.at is.
local function event_line_stop(reader)
  local text, at = reader.text, reader.at
  local lf = find(text, "\n", at, true)
  local cr = reader.cr
  if cr and cr < at then
    cr = find(text, "\r", at, true)
    reader.cr = cr
  end
  if cr and (not lf or cr < lf) then return cr end
  return lf
end

local function begin_chunk(reader)
  if reader.last_cr and #reader.text > 0 then
    reader.last_cr = false
    if byte(reader.text, 1) == LF then reader.at = 2 end
  end
  reader.cr = find(reader.text, "\r", 1, true)
end

--- Lines of an event stream: CR, LF and CRLF end them. An unfinished last line is dropped.
local function next_event_line(reader)
  while true do
    local stop = event_line_stop(reader)
    if stop then
      local after = stop + 1
      if byte(reader.text, stop) == CR then
        reader.last_cr = after > #reader.text
        if byte(reader.text, after) == LF then after = after + 1 end
      end
      return take_line(reader, stop, after)
    end
    if not next_piece(reader) then return nil end
    begin_chunk(reader)
  end
end

local function field_of(line)
  local colon = find(line, ":", 1, true)
  if not colon then return line, "" end
  local value_at = byte(line, colon + 1) == SPACE and colon + 2 or colon + 1
  return sub(line, 1, colon - 1), sub(line, value_at)
end

local function next_event(reader)
  local data, event
  for line in next_event_line, reader do
    if not reader.begins then
      reader.begins = true
      if sub(line, 1, 3) == "\239\187\191" then line = sub(line, 4) end -- a byte order mark
    end
    local name, value = field_of(line)
    if line == "" then
      if data then return { event = event or "message", data = data, id = reader.id } end
      event = nil
    elseif name == "data" then
      data = data and data .. "\n" .. value or value
    elseif name == "event" then
      event = value ~= "" and value or nil
    elseif name == "id" and not find(value, "\0", 1, true) then
      reader.id = value
    end
  end
end

--- An iterator over server-sent events: tables with event ("message" when unnamed), data and id
--- (that of the latest event which had one). An event that the end of the stream cuts off is
--- dropped.
function lines.events(next_chunk, source)
  return next_event, reader_of(next_chunk, source)
end

return lines

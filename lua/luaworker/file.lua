-- SPDX-License-Identifier: MIT
-- worker.file: small files of the worker's own machine, read whole.
local base = require "luaworker.base"
local schema = require "luaworker.schema"
local standard = require "luaworker.standard"

local file = {}

local PIECE = 64 * 1024
local DEFAULT_MAX, MOST = 64 * 1024 * 1024, 1024 * 1024 * 1024

local options_shape = schema.record {
  below = schema.text, max = schema.number { integer = true, min = 0, max = MOST },
}

-- Names from outside must not climb out of the directory. Links inside it are followed.
local function is_below(path)
  if path == "" or path:sub(1, 1) == "/" or path:find("\0", 1, true) then return false end
  for part in path:gmatch "[^/]+" do
    if part == ".." then return false end
  end
  return true
end

-- Piece by piece: Lua would take as much memory as is asked for, and its collector pace itself by
-- that.
local function read_up_to(handle, most)
  local pieces, left = {}, most
  while left > 0 do
    local piece, why = handle:read(math.min(left, PIECE))
    if why then return nil, why end
    if not piece then break end
    pieces[#pieces + 1], left = piece, left - #piece
  end
  return table.concat(pieces)
end

--- The file's bytes, or nil and why not. opts: below = a directory that the path, which may come
--- from a client, can't leave; max = bytes at most (64 MiB).
function file.read(path, opts)
  base.expect_string(path, "file.read")
  local mistake = opts ~= nil and schema.first_mistake(options_shape, opts)
  if mistake then error("file.read: " .. mistake, 2) end
  local below, max = opts and opts.below, opts and opts.max or DEFAULT_MAX
  if below then
    if not is_below(path) then return nil, base.show(path) .. " is not below " .. below end
    path = below:gsub("/*$", "/") .. path
  end
  local hazard = standard.hazard(path)
  if hazard then return nil, hazard end
  local handle, err = io.open(path, "rb")
  if not handle then return nil, err end
  local bytes, why = read_up_to(handle, max + 1)
  handle:close()
  if not bytes then return nil, path .. ": " .. why end
  if #bytes > max then return nil, path .. ": larger than " .. max .. " bytes" end
  return bytes
end

return file

-- SPDX-License-Identifier: MIT
-- Rules for what names a server or a path in the tables of a script, as schema.lua has them: what
-- could not be asked for is told when the script is loaded. Called by options.lua.
local base = require "luaworker.base"

local show = base.show

local address = {}

-- unix:/path/of/socket, with or without :/base behind it; as runtime/exchange/address.h says it.
local function check_socket(value, path, note)
  local socket, base_path = value:match "^unix:([^:]*):?(.*)$"
  if not socket:find "^/[^%s%c]+$" or not base_path:find "^/?[^%s%c]*$"
    or base_path ~= "" and base_path:sub(1, 1) ~= "/" then
    note(path, "expected unix:/path/of/socket or unix:/path/of/socket:/base, got " .. show(value))
  elseif #socket > 107 then
    note(path, ("the path of a unix socket has at most 107 bytes, this one %d"):format(#socket))
  end
end

-- As far as it can be told without asking for it: the host and the port.
local function is_http(value)
  local scheme, host = value:match "^(%a+)://([^/?#]+)"
  scheme = scheme and scheme:lower()
  if scheme ~= "http" and scheme ~= "https" or value:find "[%s%c]" then return false end
  host = host:match "[^@]*$"
  local port = host:match "^%[[%x:.]+%]:?(%d*)$" or host:match "^[^:%[]+:?(%d*)$"
  return port == "" or port and tonumber(port) > 0 and tonumber(port) < 65536
end

local function url(value, path, note)
  if type(value) == "string" and value:find "^unix:" then
    check_socket(value, path, note)
  elseif type(value) ~= "string" or not is_http(value) then
    note(path, "expected an http://, https:// or unix: URL, got " .. show(value))
  end
end

--- The model's: paths are put behind it.
function address.base_url(value, path, note)
  url(value, path, note)
  if type(value) == "string" and value:find "[?#]" then
    note(path, "expected a URL to put paths behind, without ? and #, got " .. show(value))
  end
end

--- Of the model: a query may stand behind it.
function address.path(value, path, note)
  if type(value) ~= "string" or value:sub(1, 1) ~= "/" then
    note(path, "expected a path that begins with /, got " .. show(value))
  elseif value:find "[%s%c#]" then
    note(path, "a path holds no white space and no #: write %20 or the like, got " .. show(value))
  end
end

--- Of a route: compared with what clients ask for, byte by byte.
function address.route_path(value, path, note)
  address.path(value, path, note)
  if type(value) ~= "string" then return end
  if value:find "%?" then
    note(path, "no request would match it: what is behind ? is in request.query")
  elseif value:find "[\128-\255]" then
    note(path, "no request would match it: clients send such letters as %XX, write them so")
  end
end

--- "" is none at all.
function address.url_or_path(value, path, note)
  if value == "" then return end
  local is_path = type(value) == "string" and value:sub(1, 1) == "/"
  local rule = is_path and address.path or url
  rule(value, path, note)
end

return address

-- SPDX-License-Identifier: MIT
-- Asking a running worker on its internal port: where that is, and one request to it. For the
-- commands `status` and `drain`; what can't be asked ends the program with 3, wrong use with 2.
local worker = require "luaworker"
local cli = require "luaworker.cli"
local http = require "luaworker.http"

local internal_port = {
  DEFAULT = "(default: 127.0.0.1, port\n"
    .. "WORKER_HTTP_PORT, else the one after WORKER_PORT, else 3001)",
  OPTION = { "internal-addr", "HOST:PORT", "its internal port; also PORT or HOST alone, or a URL" },
}

local DEFAULT_WORKER_PORT = 3000
local CONNECT_S, MARGIN_S = 5, 10

local function read_port(text, from)
  local port = text:find "^%d+$" and tonumber(text)
  if port and port >= 1 and port <= 65535 then return port end
  cli.fail(2, "%s is no port: %q", from, text)
end

local function default_port()
  local http_port = os.getenv "WORKER_HTTP_PORT"
  if http_port and http_port ~= "" and http_port ~= "-1" then
    return read_port(http_port, "WORKER_HTTP_PORT")
  end
  local port = os.getenv "WORKER_PORT"
  if not port or port == "" then return DEFAULT_WORKER_PORT + 1 end
  return read_port(port, "WORKER_PORT") + 1
end

--- The URL of `path` at `address`: HOST:PORT, one of the two alone, a URL, or "" for the default.
function internal_port.url(address, path)
  if address:find "^https?://" then
    return (address:gsub("/+$", ""):gsub(path .. "$", "")) .. path
  end
  if address:find "^%d+$" then address = ":" .. address end
  local host, port = address:match "^(.*):([^:%]]*)$"
  host = host or address
  if host == "" then host = "127.0.0.1" end
  if host:find "[/%s]" or host:find(":", 1, true) and not host:find "^%[.*%]$" then
    cli.fail(2, "%q is no address; expected HOST:PORT or a URL", address)
  end
  port = port and read_port(port, "the port of --internal-addr") or default_port()
  return ("http://%s:%d%s"):format(host, port, path)
end

--- What others wrote, in one line and without control characters.
function internal_port.plain(text)
  return (text:gsub("%c+", " "))
end

--- Ends the program: `url` can't be asked, and why.
function internal_port.fail(url, format, ...)
  cli.fail(3, "can't ask %s: %s. Does the worker run on this machine? Its log says where "
    .. "its internal port is; name that with --internal-addr HOST:PORT", url, format:format(...))
end

function internal_port.fail_foreign(url)
  internal_port.fail(url, "what answers there is no worker's internal port")
end

--- One request without a body: the answer's text, what it says as JSON, and its status. Waits
--- `seconds` (0 when absent) for the worker, and a little for the network.
function internal_port.ask(method, url, seconds)
  local timeout = { connect = CONNECT_S, total = (seconds or 0) + MARGIN_S }
  local response, err = http.request { method = method, url = url, timeout = timeout, body = "" }
  if not response then internal_port.fail(url, "%s", err) end
  local ok, text = pcall(response.body, response)
  if not ok then internal_port.fail(url, "%s", tostring(text)) end
  if response.status >= 300 then
    local shown = internal_port.plain(text:sub(1, 200))
    internal_port.fail(url, "it answered with status %d: %s", response.status, shown)
  end
  return text, worker.json.decode(text), response.status
end

return internal_port

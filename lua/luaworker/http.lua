-- SPDX-License-Identifier: MIT
-- worker.http: calling any HTTP server, and being one in a program. The calls are model.lua's, the
-- routes backend.lua's.
local backend = require "luaworker.backend"
local model = require "luaworker.model"

local http = {}

local function without_target(opts)
  local out = {}
  for name, value in pairs(opts) do
    if name ~= "method" and name ~= "url" then out[name] = value end
  end
  return out
end

--- http.request { method = "GET", url, headers, body or json, timeout }: an answer once its head is
--- there (see model.open), or nil and one sentence.
function http.request(opts)
  if type(opts) ~= "table" then error("http.request: expected a table", 2) end
  local response, err = model.open(opts.method or "GET", opts.url, without_target(opts))
  return response, err
end

function http.get(url, opts)
  local response, err = model.open("GET", url, opts)
  return response, err
end

function http.post(url, opts)
  local response, err = model.open("POST", url, opts)
  return response, err
end

--- For programs: answers routes at a port from now on. { host = "127.0.0.1", port = 0 for any free
--- one, routes = { worker.get(path, handler), ... } } → { port }. Raises when it can't.
function http.serve(opts)
  local port, err = backend.listen(opts)
  if not port then error(err, 0) end
  return { port = port }
end

return http

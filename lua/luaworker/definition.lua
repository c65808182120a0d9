-- SPDX-License-Identifier: MIT
-- What a script says, as it said it: worker.backend, worker.get, worker.post and the like make
-- plain records and note where they were called. A mistake raises nothing here: check.lua tells all
-- of them when the script is loaded, and backend.lua makes routes of what is right.
local payload = require "luaworker.payload"
local place = require "luaworker.place"

local definition = {}

local Route = {}
local Forward = {}
local Backend = {}

local function has_meta(value, meta)
  return type(value) == "table" and getmetatable(value) == meta
end

local function is_route(value)
  return has_meta(value, Route)
end
definition.is_route = is_route

local function is_forward(value)
  return has_meta(value, Forward)
end
definition.is_forward = is_forward

--- Whether this is work for the model, with a table of hooks.
function definition.is_work(value)
  return is_route(value) and value.method == "POST" and type(value.opts) == "table"
    and not is_forward(value.opts)
end

function definition.is_backend(value)
  return has_meta(value, Backend)
end

--- worker.route(method, path, what): what is a function(request), worker.forward(), or for POST a
--- table of hooks.
function definition.route(method, path, what)
  return setmetatable({ method = method, path = path, opts = what, place = place.here(2) }, Route)
end

function definition.get(path, what)
  return definition.route("GET", path, what)
end

--- worker.post(path, { ... }): a signed envelope for the model; without a table, all is passed on.
function definition.post(path, ...)
  if select("#", ...) == 0 then return definition.route("POST", path, {}) end
  return definition.route("POST", path, (...))
end

--- worker.forward(path, opts), both may be left out: the model server answers, at this path or the
--- route's own. opts: connect, first_byte, idle, total, on_disconnect.
function definition.forward(path, opts)
  if type(path) == "table" and opts == nil then
    path, opts = nil, path
  end
  return setmetatable({ path = path, options = opts, place = place.here(2) }, Forward)
end

--- worker.backend { ... }: what a worker script returns.
function definition.new(opts)
  return setmetatable({ opts = opts, place = place.here(2) }, Backend)
end

local route_names = { get = true, post = true, route = true }

local function anchor_in_route(one, steps)
  local what, inner = one.opts, { unpack(steps, 4) }
  if steps[3] == "payload" and payload.is_class(what.payload) then
    return { place = payload.place(what.payload), names = { payload = true } }, inner
  elseif steps[3] == "forward" then
    return { place = what.place, names = { forward = true } }, inner
  end
  if steps[3] == "path" then steps = {} end -- it is no key of the table
  return { place = one.place, names = route_names, first_string = one.path }, { unpack(steps, 3) }
end

--- From which call of the script the keys of a path are to be followed, for place.lua: the call and
--- the keys that are left.
function definition.anchor_of(value, steps)
  local one = steps[1] == "routes" and type(value.opts) == "table"
    and type(value.opts.routes) == "table" and value.opts.routes[steps[2]]
  if is_route(one) then return anchor_in_route(one, steps) end
  return { place = value.place, names = { backend = true } }, steps
end

return definition

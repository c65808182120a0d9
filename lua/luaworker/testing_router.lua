-- SPDX-License-Identifier: MIT
-- What a script offers, noted while C takes it in: C checks routes and their options as ever, and
-- here stands what an app of a test needs of them. Loaded by testing_app.lua.
local base = require "luaworker.base"
local kernel = require "luaworker.testing_kernel"

local C, ffi, real = base.C, base.ffi, base.ffi.C
local text_of = ffi.string

local router = {}

local routes, routers = {}, {} -- by the address of C's
local publish_error            -- what stands before C's last error

local function address_of(handle)
  return tonumber(ffi.cast("uintptr_t", handle))
end

function C.lw_api_router_new()
  publish_error = nil
  local handle = real.lw_api_router_new()
  routers[address_of(handle)] = { numbers = {}, texts = {}, routes = {} }
  return handle
end

function C.lw_api_router_number(handle, name, value)
  routers[address_of(handle)].numbers[name] = tonumber(value)
  return real.lw_api_router_number(handle, name, value)
end

function C.lw_api_router_text(handle, name, p, n)
  routers[address_of(handle)].texts[name] = text_of(p, n)
  return real.lw_api_router_text(handle, name, p, n)
end

local kinds = {
  [tonumber(real.LW_ROUTE_HANDLER)] = "handler", [tonumber(real.LW_ROUTE_WORK)] = "work",
  [tonumber(real.LW_ROUTE_FORWARD)] = "forward",
}

function C.lw_api_route_add(handle, kind, method, method_n, path, path_n, job)
  local added = real.lw_api_route_add(handle, kind, method, method_n, path, path_n, job)
  if added == nil then return added end
  local route = {
    kind = kinds[tonumber(kind)], method = text_of(method, method_n), job = tonumber(job),
    path = text_of(path, path_n), numbers = { workload = 100, connect = 5 }, texts = {},
  }
  routes[address_of(added)] = route
  table.insert(routers[address_of(handle)].routes, route)
  return added
end

function C.lw_api_route_number(added, name, value)
  routes[address_of(added)].numbers[name] = tonumber(value)
  return real.lw_api_route_number(added, name, value)
end

function C.lw_api_route_text(added, name, p, n)
  routes[address_of(added)].texts[name] = text_of(p, n)
  return real.lw_api_route_text(added, name, p, n)
end

function C.lw_api_route_url(added, out)
  local url = routes[address_of(added)].model_url or ""
  out.p, out.n = url, #url
end

function C.lw_api_model_url(out)
  local url = kernel.instance.model_url or ""
  out.p, out.n = url, #url
end

local function join(url, path)
  url = url:gsub("/+$", "")
  if url:find "^unix:[^:]*$" then url = url .. ":" end
  return url .. path
end

-- As a route of testing_exchange.lua.
local function settle(route, model_url)
  local n = route.numbers
  route.model_url = join(model_url, route.texts.endpoint or route.path)
  route.workload = n.workload
  route.has_payload_hook, route.has_response_hook = n.payload_hook == 1, n.response_hook == 1
  route.is_bare, route.drains = n.bare == 1, n.drain_on_disconnect == 1
  route.timeouts = {
    connect = n.connect, first_byte = n.first_byte, idle = n.idle, total = n.total,
  }
end

function C.lw_api_router_publish(handle)
  local one = routers[address_of(handle)]
  if kernel.instance.router then
    publish_error = "a script is one worker"
    return base.MISUSE
  end
  one.model_url = join(one.texts.model_server_url, "")
  for _, route in ipairs(one.routes) do
    settle(route, one.texts.model_server_url)
  end
  kernel.instance.router = one
  return base.OK
end

function C.lw_api_router_listen()
  publish_error = "tests have no network: ask the routes of a worker script"
  return base.IO
end

function C.lw_api_error()
  return publish_error or real.lw_api_error()
end

--- The route for a method and path, or nil; GET routes answer HEAD.
function router.find(one, method, path)
  local for_head
  for _, route in ipairs(one.routes) do
    if route.path == path and route.method == method then return route end
    if route.path == path and route.method == "GET" and method == "HEAD" then for_head = route end
  end
  return for_head
end

--- What there is, for messages.
function router.list(one)
  local names = {}
  for i, route in ipairs(one.routes) do
    names[i] = route.method .. " " .. route.path
  end
  return table.concat(names, ", ")
end

return router

-- SPDX-License-Identifier: MIT
-- What a load test asks the cloud before it begins: the endpoint's own key for an account's key,
-- and the root certificate that workers' certificates are signed with. Called by load.lua.
local base = require "luaworker.base"
local file = require "luaworker.file"
local http = require "luaworker.http"
local json = require "luaworker.json"

local console = {}

local ROOT_PATH = "/static/jvastai_root.cer"
local SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
local CALL_S = 10

local function get(settings, path)
  local response, err = http.get(settings.console .. path, {
    headers = { Authorization = "Bearer " .. settings.key },
    timeout = { connect = 5, total = CALL_S },
  })
  if not response then return nil, err end
  local ok, text = pcall(response.body, response)
  if not ok then return nil, tostring(text) end
  if response.status ~= 200 then
    return nil, ("%s answered %d: %s"):format(settings.console, response.status, text:sub(1, 200))
  end
  return text
end

--- The key that /route/ wants: the endpoint's, looked up with the account's; the given one where no
--- console is to be asked. Or nil and why not.
function console.endpoint_key(settings)
  if not settings.console then return settings.key end
  local text, err = get(settings, "/api/v0/endptjobs/?client_id=me")
  if not text then return nil, "can't look up the endpoint's key: " .. err end
  local answer = json.decode(text)
  local list = type(answer) == "table" and answer.results
  if type(list) ~= "table" then
    return nil, settings.console .. " did not answer with a list of endpoints"
  end
  local names = {}
  for i, one in ipairs(list) do
    if one.endpoint_name == settings.endpoint then
      settings.endpoint_id = one.id
      return one.api_key
    end
    names[i] = tostring(one.endpoint_name)
  end
  return nil, ('this key has no endpoint "%s"; it has %s'):format(settings.endpoint,
    #names > 0 and table.concat(names, ", ") or "none")
end

local function read_certificates(path)
  local text, err = file.read(path)
  if not text then error(err, 0) end
  return text
end

local function bundle_of(settings)
  if settings.ca then return read_certificates(settings.ca) end
  if not settings.production then return nil end
  local text, err = get(settings, ROOT_PATH)
  if not text then
    io.stderr:write("the cloud's root certificate is not to be had: ", err, "\n")
  end
  return text
end

--- Certificates of servers are checked with the system's and these, or not at all, from now on.
--- Raises when the file can't be used.
function console.set_trust(settings)
  if settings.insecure then return base.C.lw_api_http_trust("", 0, 1) end
  local more = bundle_of(settings)
  if not more then return end
  local path = os.tmpname()
  local out = assert(io.open(path, "wb"))
  out:write(file.read(SYSTEM_BUNDLE) or "", "\n", more)
  out:close()
  if base.C.lw_api_http_trust(path, #path, 0) ~= base.OK then error(base.last_error(), 0) end
end

return console

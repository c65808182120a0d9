-- SPDX-License-Identifier: MIT
-- What a client asks the cloud before it begins: the endpoint's own key for an account's key, and
-- the root certificate that workers' certificates are signed with. Called by `luaworker call` and
-- load tests.
local address = require "luaworker.address"
local base = require "luaworker.base"
local file = require "luaworker.file"
local http = require "luaworker.http"
local json = require "luaworker.json"

local console = {
  AUTOSCALER = "https://run.vast.ai", LOCAL = "http://localhost:8081",
  URL = "https://console.vast.ai",
}

local plain = require("luaworker.load_text").plain
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
    return nil, ("%s answered %d: %s"):format(settings.console, response.status, plain(text))
  end
  return text
end

--- What is wrong with what was asked for, in one sentence; nil: nothing. urls: by their flags.
function console.mistake(settings, urls)
  local wrong
  for flag, url in pairs(urls) do
    address.base_url(url, flag, function(_, text) wrong = wrong or flag .. ": " .. text end)
  end
  if wrong then return wrong end
  if settings.insecure and settings.ca then
    return "--insecure looks at no certificate: without --ca"
  elseif not settings.key and settings.console then
    return "the cloud wants an API key: -k KEY, or VAST_API_KEY in the environment"
  elseif settings.key and settings.key:find "[%c\128-\255]" then
    return "the API key has a byte in it that no key has, a line's end perhaps"
  end
end

--- The key from the environment, where none was given.
function console.key_of_environment()
  local key = os.getenv "VAST_API_KEY" or os.getenv "API_KEY"
  return key ~= "" and key or nil
end

--- The key that /route/ wants: the endpoint's, looked up at settings.console with the account's
--- settings.key; that one itself where no console is to be asked. Or nil and why not. Sets
--- settings.endpoint_id when it is told.
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
    if type(one) ~= "table" then one = {} end
    if one.endpoint_name == settings.endpoint and type(one.api_key) == "string" then
      settings.endpoint_id = one.id
      return one.api_key
    end
    names[i] = plain(tostring(one.endpoint_name))
  end
  return nil, ('this key has no endpoint "%s"; it has %s'):format(settings.endpoint,
    #names > 0 and plain(table.concat(names, ", ")) or "none")
end

-- PEM certificates to be trusted besides the system's; nil: none. Or nil and what is wrong.
local function more_certificates(settings)
  if settings.ca then return file.read(settings.ca) end
  if not settings.production then return nil end
  local text, err = get(settings, ROOT_PATH)
  if text and text:find("-----BEGIN CERTIFICATE-----", 1, true) then return text end
  io.stderr:write("the cloud's root certificate can't be had, so its workers may not be believed: ",
    err or settings.console .. ROOT_PATH .. " is not one", "\n")
end

--- From now on servers' certificates are checked with the system's and those of settings.ca or,
--- with settings.production, of the cloud; with settings.insecure not at all. True, or nil and what
--- is wrong.
function console.set_trust(settings)
  if settings.insecure then
    base.C.lw_api_http_trust("", 0, 1)
    return true
  end
  if settings.ca and base.C.lw_api_http_trust(settings.ca, #settings.ca, 0) ~= base.OK then
    return nil, base.last_error()
  end
  local more, wrong = more_certificates(settings)
  if not more then return not wrong, wrong end
  local all = (file.read(SYSTEM_BUNDLE) or "") .. "\n" .. more
  if base.C.lw_api_http_trust_text(all, #all) == base.OK then return true end
  return nil, base.last_error()
end

return console

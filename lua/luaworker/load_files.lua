-- SPDX-License-Identifier: MIT
-- The files that a load test writes: --json the result, --csv a line for each request, --html a
-- page that shows the result and needs nothing else. Called by load.lua.
local base = require "luaworker.base"
local json = require "luaworker.json"

local files = {}

local function write_whole(path, content)
  if path == "-" then
    local ok, err = io.stdout:write(content)
    if ok then ok, err = io.stdout:flush() end
    return ok, err
  end
  local out, err = io.open(path, "wb")
  if not out then return nil, err end
  local ok, why = out:write(content)
  if ok then ok, why = out:close() end
  return ok, why
end

--- Whether a file can be written there: true, or nil and why not. Leaves things as they are.
function files.try(path)
  if path == "-" then return true end
  local before = io.open(path, "rb")
  if before then before:close() end
  local out, err = io.open(path, "ab")
  if not out then return nil, err end
  out:close()
  if not before then os.remove(path) end
  return true
end

--- true, or nil and why not.
function files.write_json(path, result)
  return write_whole(path, json.encode(result) .. "\n")
end

--- The page's own script reads the result out of it; nothing in it can end the element.
function files.write_html(path, result)
  base.C.lw_api_embedded("@load.html", base.span)
  local data = json.encode(result):gsub("<", "\\u003c")
  local page = base.text(base.span):gsub("@RESULT@", function() return data end, 1)
  return write_whole(path, page)
end

-- CSV (RFC 4180) --

local columns = {
  "index", "intended", "sent", "ended", "class", "status", "worker", "schedule_delay", "route",
  "queue", "connect", "tls", "ttfb", "ttft", "e2e", "service", "longest_gap", "tokens",
  "tokens_from", "workload", "bytes", "retries", "error",
}

-- Spreadsheets would run a text that begins like a formula; of texts, servers have their part.
local function cell(value)
  if value == nil then return "" end
  if type(value) == "number" then return ("%.9g"):format(value) end
  value = tostring(value):gsub("^[=+@-]", "'%0")
  if value:find '[",\r\n]' then return '"' .. value:gsub('"', '""') .. '"' end
  return value
end

--- A function that takes each record, and one that ends the file: true, or nil and why not. Or nil
--- and why it can't be written.
function files.open_csv(path)
  local out, err = io.stdout, nil
  if path ~= "-" then out, err = io.open(path, "wb") end
  if not out then return nil, err end
  local failed
  local function put(cells)
    local ok, why = out:write(table.concat(cells, ","), "\r\n")
    if not ok then failed = failed or why end
  end
  put(columns)
  return function(record)
    local cells = {}
    for i, name in ipairs(columns) do
      cells[i] = cell(record[name])
    end
    put(cells)
  end, function()
    if out ~= io.stdout then
      local ok, why = out:close()
      if not ok then failed = failed or why end
    end
    if failed then return nil, failed end
    return true
  end
end

return files

-- SPDX-License-Identifier: MIT
-- The library's tables as scripts get them: a copy, so that what a script puts into it changes
-- nothing here, and in which a name that is not there raises with the nearest that is.
local base = require "luaworker.base"

--- A copy of `fields`, called `name` in messages. meta: what else its metatable has.
return function(name, fields, meta)
  local out = {}
  for key, value in pairs(fields) do
    out[key] = value
  end
  meta = meta or {}
  meta.__metatable = false
  function meta.__index(_, key)
    local value = fields[key] -- made only when it is asked for
    if value ~= nil then return value end
    local near = type(key) == "string" and base.did_you_mean(key, fields) or ""
    error(("%s has no %s%s"):format(name, tostring(key), near), 2)
  end
  return setmetatable(out, meta)
end

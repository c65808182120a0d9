-- SPDX-License-Identifier: MIT
-- Load test of an endpoint whose workers run workers/image.lua: pictures, one at a time for each.
--   luaworker run examples/image/test_load.lua -n 100 -rps 0.2 \
--     -k "$API_KEY" -e "$ENDPOINT_GROUP_NAME"
local load = require "luaworker.load"
load.main("../../workers/image.lua", "/sdapi/v1/txt2img")

-- SPDX-License-Identifier: MIT
-- Load test of an endpoint whose workers run workers/hello_world.lua. On this machine, beside
-- `luaworker dev workers/hello_world.lua`:
--   luaworker run examples/hello_world/test_load.lua -n 100 -rps 5 -l
-- In the cloud:
--   luaworker run examples/hello_world/test_load.lua -n 1000 -rps 0.5 \
--     -k "$API_KEY" -e "$ENDPOINT_GROUP_NAME"
local load = require "luaworker.load"
load.main("../../workers/hello_world.lua", "/generate")

-- SPDX-License-Identifier: MIT
-- Load test of an endpoint whose workers run workers/openai.lua: streams of tokens.
--   luaworker run examples/openai/test_load.lua -n 1000 -rps 2 --stream \
--     -k "$API_KEY" -e "$ENDPOINT_GROUP_NAME"
-- A chat, which has no sample of its own in the script: luaworker load workers/openai.lua
-- /v1/chat/completions --payload @chat.json ...
local load = require "luaworker.load"
load.main("../../workers/openai.lua", "/v1/completions")

-- SPDX-License-Identifier: MIT
-- `luaworker load SCRIPT ROUTE`: a load test of any worker's route.
require("luaworker.load").main()

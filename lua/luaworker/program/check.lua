-- SPDX-License-Identifier: MIT
-- `luaworker check`.
error "not built yet"

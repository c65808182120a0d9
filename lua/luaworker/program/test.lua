-- SPDX-License-Identifier: MIT
-- `luaworker test`.
error "not built yet"

-- SPDX-License-Identifier: MIT
-- `luaworker init`.
error "not built yet"

-- SPDX-License-Identifier: MIT
-- Prints docs/api.md: `make api-docs`.
io.write(require("tools.api_pages").text())

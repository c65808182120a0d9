-- SPDX-License-Identifier: MIT
-- check
return {}

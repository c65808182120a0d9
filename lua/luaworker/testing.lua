-- SPDX-License-Identifier: MIT
-- testing
return {}

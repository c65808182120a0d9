#!/bin/bash
# SPDX-License-Identifier: MIT
# Undefined and unused names in Lua, by luacheck with .luacheckrc.
luacheck --quiet --no-color --codes lua workers examples tests/lua tools | sed '/^Total:.* 0 warnings/d;/^$/d'
exit "${PIPESTATUS[0]}"

/* SPDX-License-Identifier: MIT
 * What Lua calls without the FFI, as the module luaworker.direct: only what loops that wait call
 * for each piece. Such loops are interpreted, and there a call through the FFI takes ten times as
 * long. Called by vm, for each state. Keeps nothing. */
#pragma once

struct lua_State;

void lw_direct_preload(struct lua_State *L);

/* SPDX-License-Identifier: MIT
 * Functions of C as Lua has them by itself. They take handles of the FFI, and look at them: a wrong
 * one is refused by a code. They don't wait and don't raise, but for memory. */
#include "script/direct.h"

#include <lauxlib.h>
#include <lua.h>

#include "script/call.h"

enum {
  TYPE_CDATA = 10, /* LuaJIT's, which its headers don't tell */
  PIECE_MOST = 16384
};

/* A pointer of the FFI is a box with the address in it. One that is none of the running task's
 * calls, which may be gone, is not followed. */
static lw_call *call_at(lua_State *L, int index) {
  const lw_task *t = lw_task_current();
  if (!t || lua_type(L, index) != TYPE_CDATA) return NULL;
  const void *wanted = *(void *const *)lua_topointer(L, index);
  for (lw_list *node = t->calls.next; node != &t->calls; node = node->next) {
    lw_call *c = LW_CONTAINER_OF(node, lw_call, node);
    if (c == wanted) return c;
  }
  return NULL;
}

/* call_read(call): the next bytes of the answer's body as far as they are there; or nil and
 * LW_AGAIN, LW_EOF or an error; LW_MISUSE when it is no call of this task. */
static int read_call(lua_State *L) {
  lw_call *c = call_at(L, 1);
  lw_span piece;
  lw_code code = c ? lw_call_read(c, &piece) : LW_MISUSE;
  if (code != LW_OK) {
    lua_pushnil(L);
    lua_pushinteger(L, code);
    return 2;
  }
  c->lent = LW_MIN(piece.n, PIECE_MOST);
  lua_pushlstring(L, piece.p, c->lent);
  return 1;
}

static const luaL_Reg functions[] = {{"call_read", read_call}, {NULL, NULL}};

static int open_module(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

void lw_direct_preload(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open_module);
  lua_setfield(L, -2, "luaworker.direct");
  lua_pop(L, 2);
}

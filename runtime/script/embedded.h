/* SPDX-License-Identifier: MIT
 * Lua carried in the binary; the table is made by the build from the files under lua/. */
#pragma once

#include <stddef.h>

typedef struct lw_embedded_text {
  const char *name;            /* "luaworker.json", "@autoscaler", "cdef" */
  const char *file;            /* "luaworker/json.lua": for tracebacks and LUAWORKER_LUA */
  const char *text, *end;      /* not NUL-terminated */
  const char *code, *code_end; /* a module of the library: what it was compiled to; else NULL */
} lw_embedded_text;
extern const lw_embedded_text lw_embedded[];
extern const size_t lw_embedded_count;

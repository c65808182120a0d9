/* SPDX-License-Identifier: MIT
 * Compiles the Lua library for the binary, at build time: every start would take a third longer by
 * it. Names and lines stay, for tracebacks and for what is said of a script's mistakes. Run by
 * CMake: bytecode FROM-DIR TO-DIR FILE... */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static int write_piece(lua_State *L, const void *piece, size_t n, void *file) {
  (void)L;
  return fwrite(piece, 1, n, file) != n;
}

static void compile(lua_State *L, const char *from, const char *to, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", from, name);
  FILE *in = fopen(path, "rb");
  char text[1 << 18], chunk[256];
  size_t n = in ? fread(text, 1, sizeof text, in) : 0;
  if (!in || ferror(in) || n == sizeof text) {
    fprintf(stderr, "%s: can't be read, or is longer than 256 KB\n", path);
    exit(1);
  }
  fclose(in);
  snprintf(chunk, sizeof chunk, "@%s", name);
  if (luaL_loadbuffer(L, text, n, chunk) != 0) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
  snprintf(path, sizeof path, "%s/%s", to, name);
  FILE *out = fopen(path, "wb");
  if (!out || lua_dump(L, write_piece, out) != 0 || fclose(out) != 0) {
    fprintf(stderr, "%s: can't be written\n", path);
    exit(1);
  }
  lua_pop(L, 1);
}

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  if (!L || argc < 4) return 1;
  luaL_openlibs(L); /* for numbers like 1ULL */
  for (int i = 3; i < argc; i++) compile(L, argv[1], argv[2], argv[i]);
  lua_close(L);
  return 0;
}

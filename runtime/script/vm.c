/* SPDX-License-Identifier: MIT
 * Lua states: the library inside the binary, protected loading, closing when the last task is gone.
 * Called by script/generation and program/run. Owns the state, its idle coroutines, the routers and
 * servers that its script made. */
#include "script/vm.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/server.h"
#include "floor/log.h"
#include "script/direct.h"
#include "script/embedded.h"
#include "script/made.h"
#include "script/task.h"

enum {
  /* Percent. By LuaJIT's own 200 and 200 a stream with a hook holds 3 KB more of garbage; lower
   * pauses cost what they save. */
  GC_PAUSE = 150,
  GC_STEPMUL = 400,
  SCRIPT_MAX = 16 << 20,
  FADE_SLICE_US = 250 /* of every millisecond or so; more when several wait */
};

/* -- the library -- */

static const lw_embedded_text *find_text(const char *name) {
  for (size_t i = 0; i < lw_embedded_count; i++) {
    if (strcmp(lw_embedded[i].name, name) == 0) return &lw_embedded[i];
  }
  return NULL;
}

const char *lw_embedded_find(const char *name, size_t *size) {
  const lw_embedded_text *t = find_text(name);
  *size = t ? (size_t)(t->end - t->text) : 0;
  return t ? t->text : NULL;
}

char *lw_script_read(const char *path, size_t *size, char **why) {
  FILE *f = fopen(path, "rb");
  if (!f) {
    *why = lw_printf_dup("%s: %s", path, strerror(errno));
    return NULL;
  }
  char *text = NULL;
  size_t n = 0, capacity = 0, got;
  do {
    if (n == capacity) text = lw_realloc(text, capacity = capacity ? capacity * 2 : 65536);
    got = fread(text + n, 1, capacity - n, f);
    n += got;
  } while (got && n <= SCRIPT_MAX);
  bool failed = ferror(f) != 0;
  fclose(f);
  if (failed || n > SCRIPT_MAX) {
    *why = lw_printf_dup("%s: %s", path, failed ? "can't be read" : "longer than 16 MB");
    free(text);
    return NULL;
  }
  *size = n;
  return text;
}

/* As the build compiled it, with names and lines, which takes a tenth of the time; its text where
 * that is another LuaJIT's. */
static int compile_module(lua_State *L, const lw_embedded_text *t) {
  char chunk[128];
  snprintf(chunk, sizeof chunk, "@%s", t->file);
  if (luaL_loadbuffer(L, t->code, (size_t)(t->code_end - t->code), chunk) == 0) return 0;
  lua_pop(L, 1);
  return luaL_loadbuffer(L, t->text, (size_t)(t->end - t->text), chunk);
}

/* package.preload function: upvalue 1 is the module's name. */
static int load_module(lua_State *L) {
  const lw_embedded_text *t = find_text(lua_tostring(L, lua_upvalueindex(1)));
  const char *dir = getenv("LUAWORKER_LUA");
  char path[512];
  if (dir) snprintf(path, sizeof path, "%s/%s", dir, t->file);
  if ((dir ? luaL_loadfile(L, path) : compile_module(L, t)) != 0) return lua_error(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_call(L, 1, 1);
  return 1;
}

static void preload_library(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  for (size_t i = 0; i < lw_embedded_count; i++) {
    if (strncmp(lw_embedded[i].name, "luaworker", 9) != 0) continue;
    lua_pushstring(L, lw_embedded[i].name);
    lua_pushcclosure(L, load_module, 1);
    lua_setfield(L, -2, lw_embedded[i].name);
  }
  lua_pop(L, 2);
  lw_direct_preload(L);
  size_t n = 0;
  const char *cdef = lw_embedded_find("cdef", &n);
  lua_pushlstring(L, cdef, n);
  lua_setglobal(L, "LW_CDEF");
}

/* -- entering Lua in protected mode -- */

static int add_traceback(lua_State *L) {
  const char *text = lua_tostring(L, 1);
  if (text) luaL_traceback(L, L, text, 1);
  return 1;
}

/* Calls the function below `nargs` arguments. On failure its message is on the stack. */
static lw_code lw_pcall(lua_State *L, int nargs, int nresults, bool traceback) {
  int handler = 0;
  if (traceback) {
    handler = lua_gettop(L) - nargs;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, handler);
  }
  int status = lua_pcall(L, nargs, nresults, handler);
  if (handler) lua_remove(L, handler);
  return status == 0 ? LW_OK : LW_PROTOCOL;
}

static void run_text(lua_State *L, const char *code) {
  if (luaL_loadstring(L, code) != 0 || lw_pcall(L, 0, 0, false) != LW_OK) {
    lw_die("%s: %s", code, lua_tostring(L, -1));
  }
}

/* Debian's LuaJIT compiles some loops over pairs() wrongly when their trace is stitched to a call
 * of a C function: they find nothing. So no stitching. The rest is for tests of the boundary:
 * LUAWORKER_JIT=off|hot, LUAWORKER_GC=aggressive. */
static void apply_modes(lua_State *L) {
  const char *jit = getenv("LUAWORKER_JIT"), *gc = getenv("LUAWORKER_GC");
  run_text(L, "jit.opt.start('minstitch=100000')");
  if (jit && strcmp(jit, "off") == 0) run_text(L, "jit.off() jit.flush()");
  if (jit && strcmp(jit, "hot") == 0) run_text(L, "jit.opt.start('hotloop=2', 'hotexit=2')");
  if (gc && strcmp(gc, "aggressive") == 0) {
    lua_gc(L, LUA_GCSETPAUSE, 10);
    lua_gc(L, LUA_GCSETSTEPMUL, 1000);
  }
}

/* What a load runs once is not worth compiling, which takes a fifth of its time. */
static void set_jit(lua_State *L, int mode) {
  if (!getenv("LUAWORKER_JIT")) luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | mode);
}

static void set_arg(lua_State *L, int argc, char *const *argv) {
  lua_createtable(L, argc, 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_setglobal(L, "arg");
}

static void take_entry_points(lw_vm *vm) {
  lua_State *L = vm->L;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "luaworker.task");
  if (lw_pcall(L, 1, 1, true) != LW_OK)
    lw_die("the library does not load: %s", lua_tostring(L, -1));
  lua_getfield(L, -1, "main");
  vm->main_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, -1, "load");
  vm->load_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_settop(L, 0);
}

lw_vm *lw_vm_new(lw_vm_mode mode, int argc, char *const *argv) {
  lw_vm *vm = lw_calloc(1, sizeof *vm);
  vm->mode = mode;
  lw_list_init(&vm->tasks);
  lw_list_init(&vm->waiters);
  lw_list_init(&vm->routers);
  lw_list_init(&vm->servers);
  vm->L = luaL_newstate();
  if (!vm->L) lw_die("no memory for a Lua state");
  lw_heap_open(&vm->heap, vm->L);
  lua_gc(vm->L, LUA_GCSETPAUSE, GC_PAUSE);
  lua_gc(vm->L, LUA_GCSETSTEPMUL, GC_STEPMUL);
  lua_gc(vm->L, LUA_GCSTOP, 0); /* all of it stays */
  luaL_openlibs(vm->L);
  preload_library(vm->L);
  apply_modes(vm->L);
  set_jit(vm->L, LUAJIT_MODE_OFF);
  set_arg(vm->L, argc, argv);
  if (mode == LW_VM_TEST) run_text(vm->L, "LW_TESTING = true");
  take_entry_points(vm);
  lua_gc(vm->L, LUA_GCRESTART, -1);
  return vm;
}

static lw_vm *loading;
lw_vm *lw_vm_loading(void) { return loading; }

/* What is on the stack; of a stopped script it may be no more than "error in error handling". */
static char *load_error(lua_State *L, const char *path, int stopped) {
  const char *message = lua_tostring(L, -1);
  lw_span text, traceback;
  lw_budget_text(&text, &traceback);
  if (stopped && (!message || !strstr(message, text.p))) {
    return lw_printf_dup("%s: the script failed: %s", path, text.p);
  }
  return lw_strdup(message ? message : "an error that is not a text");
}

lw_code lw_vm_load(lw_vm *vm, const char *path, lw_span text, char **why) {
  lua_State *L = vm->L;
  int stopped = LW_STOP_NONE;
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm->load_ref);
  lua_pushstring(L, path);
  lua_pushlstring(L, text.p, text.n);
  lua_pushstring(L, vm->mode == LW_VM_SERVE ? "serve" : "run");
  loading = vm;
  lw_budget_enter((lw_entry){L, &vm->heap, &stopped, path, true});
  lw_code code = lw_pcall(L, 3, 0, false);
  lw_budget_leave();
  loading = NULL;
  if (code != LW_OK) *why = load_error(L, path, stopped);
  lua_settop(L, 0);
  set_jit(L, LUAJIT_MODE_ON);
  return code;
}

uint64_t lw_vm_heap_bytes(const lw_vm *vm) {
  return ((uint64_t)lua_gc(vm->L, LUA_GCCOUNT, 0) << 10) + (uint64_t)lua_gc(vm->L, LUA_GCCOUNTB, 0);
}

/* -- closing -- */

/* To free a heap at once keeps requests waiting, a big one for long: the collector does it bit by
 * bit first, in turns after that of the load. */
static struct {
  lw_list vms; /* lw_vm.fading */
  unsigned count;
  lw_timer timer;
  lw_wake wake;
} fading;

static void free_vm(lw_vm *vm) {
  lw_heap_close(&vm->heap, vm->L);
  lua_close(vm->L);
  free(vm->idle);
  free(vm);
}

/* All that holds the script's objects; the library of C, and the FFI's own table, stay. */
static int let_go(lua_State *L) {
  lw_vm *vm = lua_touserdata(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, vm->main_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, vm->load_ref);
  while (vm->idle_count) luaL_unref(L, LUA_REGISTRYINDEX, vm->idle[--vm->idle_count]);
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  for (lua_pushnil(L); lua_next(L, -2);) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING || strncmp(lua_tostring(L, -1), "luaworker", 9) != 0)
      continue;
    lua_pushvalue(L, -1);
    lua_pushnil(L);
    lua_rawset(L, -4);
  }
  return 0;
}

/* The first cycle may have begun before all was let go. */
static int collect(lua_State *L) {
  lw_vm *vm = lua_touserdata(L, 1);
  uint64_t until_ns = lw_now_ns() + LW_MIN(fading.count, 8u) * FADE_SLICE_US * 1000u;
  while (vm->fade_cycles < 2 && lw_now_ns() < until_ns) {
    vm->fade_cycles += lua_gc(L, LUA_GCSTEP, 0);
  }
  return 0;
}

static void run_fading(lw_wake *w) {
  (void)w;
  lw_vm *vm = LW_CONTAINER_OF(fading.vms.next, lw_vm, fading);
  if (lua_cpcall(vm->L, collect, vm) != 0) vm->fade_cycles = 2;
  if (vm->fade_cycles >= 2) {
    lw_list_remove(&vm->fading);
    fading.count--;
    free_vm(vm);
  }
  if (!lw_list_empty(&fading.vms)) {
    lw_timer_start(&fading.timer, 1);
  } else {
    lw_timer_fini(&fading.timer);
  }
}

static void on_fade_timer(lw_timer *t) {
  (void)t;
  lw_loop_wake(&fading.wake);
}

static void begin_fading(lw_vm *vm) {
  if (!fading.timer.fire) {
    lw_list_init(&fading.vms);
    lw_wake_init(&fading.wake, run_fading);
    lw_timer_init(&fading.timer, on_fade_timer);
  }
  if (lua_cpcall(vm->L, let_go, vm) != 0) vm->fade_cycles = 2;
  lw_list_append(&fading.vms, &vm->fading);
  fading.count++;
  if (!lw_timer_active(&fading.timer)) lw_timer_start(&fading.timer, 1);
}

void lw_vm_free_rest(void) {
  if (!fading.timer.fire) return;
  lw_timer_fini(&fading.timer);
  lw_wake_cancel(&fading.wake);
  lw_list *node;
  while ((node = lw_list_pop(&fading.vms))) free_vm(LW_CONTAINER_OF(node, lw_vm, fading));
  fading.count = 0;
}

static void bury_vm(lw_grave *g) {
  lw_vm *vm = LW_CONTAINER_OF(g, lw_vm, grave);
  lw_made_free_all(vm);
  if (vm->mode == LW_VM_SERVE) {
    begin_fading(vm);
  } else {
    free_vm(vm);
  }
}

static void bury_when_quiet(lw_vm *vm) {
  if (vm->closing && !vm->task_count) lw_loop_bury(&vm->grave, bury_vm);
}

void lw_vm_task_ended(lw_vm *vm) {
  vm->task_count--;
  if (vm->task_count) return;
  if (vm->closing) {
    bury_when_quiet(vm);
  } else if (vm->on_quiet) {
    vm->on_quiet(vm);
  }
}

void lw_vm_close(lw_vm *vm) {
  assert(!vm->closing);
  vm->closing = true;
  for (lw_list *node = vm->tasks.next; node != &vm->tasks; node = node->next) {
    lw_task_cancel(LW_CONTAINER_OF(node, lw_task, node));
  }
  bury_when_quiet(vm);
}

/* SPDX-License-Identifier: MIT
 * What a script may take: processor time between two waits, and memory of its Lua objects. Who is
 * over it is stopped by an error that no pcall of the script holds up (lua/luaworker/await.lua);
 * the loop goes on. Called by vm and task around each entering of Lua.
 *
 * Time is the loop thread's own, by a POSIX timer on its CPU clock: a busy machine stops no
 * innocent hook, an idle process is never woken, and entering Lua costs no system call. The timer's
 * signal sets a debug hook, which raises the error at the next instruction of the interpreter. The
 * script's own functions are never compiled (sandbox.lua), for compiled loops run no hooks. One
 * call of a C function, such as string.find with a bad pattern, can't be stopped: a line in the log
 * tells of it. Memory is counted by an allocator around LuaJIT's own. */
#pragma once

#include "floor/base.h"

struct lua_State;

typedef enum lw_stop {
  LW_STOP_NONE,
  LW_STOP_TIME,
  LW_STOP_MEMORY,
} lw_stop;

/* The memory of one Lua state. */
typedef struct lw_heap {
  void *(*base)(void *, void *, size_t, size_t);
  void *base_owner;
  uint64_t used, limit; /* bytes; limit 0: not counted */
  uint64_t mark;        /* above it: collect, and look again */
  bool full;            /* a task was stopped: what it had is garbage soon */
} lw_heap;

/* How Lua is entered this time. */
typedef struct lw_entry {
  struct lua_State *L;
  lw_heap *heap;
  int *stopped;     /* lw_stop: set when it happens; of the task, so that it stays until its end */
  const char *path; /* of the request's route, or of the script; NULL: neither. Borrowed */
  bool loading;     /* a script's first run: LW_LOADING_FACTOR times as long */
} lw_entry;

enum {
  LW_LOADING_FACTOR = 10
};

/* For states made from now on, by the loop's thread; 0: no limit. options: errors name --hook-time
 * and --script-memory. */
void lw_budget_set(double hook_time_s, uint64_t script_memory, bool options);
void lw_budget_fini(void);

/* Counts a new state's memory. Close before lua_close: it frees what it allocated. */
void lw_heap_open(lw_heap *h, struct lua_State *L);
void lw_heap_close(lw_heap *h, struct lua_State *L);
/* Between entries: after a stop, frees what the stopped task had. */
void lw_heap_tidy(lw_heap *h, struct lua_State *L);

/* Around lua_resume and lua_pcall. Only between the two does an allocation fail or a hook fire. */
void lw_budget_enter(lw_entry entry);
void lw_budget_leave(void);
/* Of what was left last: the timer has fired more than once in it, or it was stopped. */
bool lw_budget_took_long(void);

/* For Lua, of what was entered. */
lw_stop lw_budget_stopped(void);
/* Why, and where it was, of the last stop. */
void lw_budget_text(lw_span *text, lw_span *traceback);
/* For programs that run scripts one after the other: full time again, and not stopped. */
void lw_budget_restart(void);

uint64_t lw_budget_stops(lw_stop why); /* of the process */

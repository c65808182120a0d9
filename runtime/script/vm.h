/* SPDX-License-Identifier: MIT
 * One Lua state with the library in it: opening, loading a script, its coroutines, closing. Only
 * vm, task, generation and budget know lua.h; others see a struct lw_vm. Lua is entered from here
 * only in protected mode, to initialise and to load. */
#pragma once

#include "floor/list.h"
#include "loop/loop.h"
#include "script/budget.h"
#include "worker/route.h"

typedef struct lua_State lua_State;

typedef enum lw_vm_mode {
  LW_VM_SERVE,
  LW_VM_RUN,
  LW_VM_TEST, /* as RUN, but the library is told that its view of C may be changed: base.lua */
} lw_vm_mode;

typedef struct lw_vm {
  lua_State *L;
  lw_heap heap;
  lw_vm_mode mode;
  lw_list tasks;   /* running ones */
  lw_list waiters; /* those that wait for a notification */
  unsigned task_count;
  int main_ref, load_ref; /* registry: task.main, task.load */
  int *idle;              /* registry references of coroutines that wait for a new job */
  unsigned idle_count;
  uint64_t slow_jobs;   /* a bit for each that took long, by its number modulo 64 */
  lw_list routers;      /* made by the script: struct lw_vm_router */
  lw_router *published; /* serve: the script's worker; NULL: none yet */
  uint64_t digest;      /* of the files that the script has loaded so far */
  lw_list servers;      /* run: struct lw_vm_server */
  int stop_key;         /* run: the first signal to stop notifies it; 0: it stops the program */
  bool closing;
  lw_grave grave;
  lw_list fading; /* closed, and freed bit by bit */
  int fade_cycles;
  /* For the owner; each may be NULL. In the drain or while loading. */
  void *owner;
  void (*on_quiet)(struct lw_vm *vm); /* the last task has ended */
  void (*on_exit)(struct lw_vm *vm, int status);
} lw_vm;

/* Never NULL; ends the process if the library itself does not load. arg: the global `arg`, argv
 * style (arg[0] the script). */
lw_vm *lw_vm_new(lw_vm_mode mode, int argc, char *const *argv);
/* Runs the script (serve) or makes it the main task's program (run). On failure *why is the
 * message, caller frees. */
lw_code lw_vm_load(lw_vm *vm, const char *path, lw_span text, char **why) LW_MUST_CHECK;
/* Cancels what still runs in it and asks to be closed once nothing runs: frees itself then, a big
 * heap in small steps between turns of the loop. */
void lw_vm_close(lw_vm *vm);
void lw_vm_free_rest(void);       /* the program ends: what is still to be freed, at once */
void lw_vm_task_ended(lw_vm *vm); /* for task.c */
uint64_t lw_vm_heap_bytes(const lw_vm *vm); /* what its Lua objects take */

/* A program or library module carried in the binary; NULL when there is none of that name. */
const char *lw_embedded_find(const char *name, size_t *size);

/* Reads a whole script file (at most 16 MB). NULL with *why; caller frees both. */
char *lw_script_read(const char *path, size_t *size, char **why);

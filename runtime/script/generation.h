/* SPDX-License-Identifier: MIT
 * One loaded worker script: its VM and its routes. Requests hold references to the routes; when the
 * script has been replaced and its last request has ended, the VM is closed and its memory given
 * back. */
#pragma once

#include "script/vm.h"

typedef struct lw_generation {
  lw_vm *vm;
  lw_router *router;
  unsigned number; /* 1 for the first of the process */
} lw_generation;

/* Makes the VM of the next load: half of its work, for who can do it in a turn of its own. Path:
 * borrowed until that load, or lw_generation_forget(). */
void lw_generation_prepare(const char *path);
void lw_generation_forget(void); /* there will be no load */
/* Loads and checks the script in a fresh VM. NULL with *why (caller frees): one line per mistake.
 */
lw_generation *lw_generation_load(const char *path, char **why);
/* Its owner's reference goes; it frees itself after its last request. */
void lw_generation_retire(lw_generation *g);
unsigned lw_generation_count(void); /* alive */

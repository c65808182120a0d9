/* SPDX-License-Identifier: MIT
 * Loading worker scripts and letting old ones go. Called by program/serve. Owns the VM. */
#include "script/generation.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "script/made.h"
#include "script/sources.h"
#include "worker/benchmark.h"

static unsigned loaded, alive;
static lw_vm *prepared; /* for the next load; NULL: none */

unsigned lw_generation_count(void) { return alive; }

static void retire_router(lw_router *router) {
  lw_vm *vm = router->owner;
  lw_generation *g = vm->owner;
  free(g);
  alive--;
  lw_vm_close(vm);
}

/* A pipe that somebody may write to is good enough for a start, but nothing to wait for with
 * requests running. */
static bool is_readable_now(const char *path, char **why) {
  struct stat st;
  if (loaded == 0 || stat(path, &st) != 0 || S_ISREG(st.st_mode)) return true;
  *why = lw_printf_dup("%s: not a regular file", path);
  return false;
}

void lw_generation_prepare(const char *path) {
  char *argv[] = {(char *)path};
  if (!prepared) prepared = lw_vm_new(LW_VM_SERVE, 1, argv);
}

void lw_generation_forget(void) {
  if (prepared) lw_vm_close(prepared);
  prepared = NULL;
}

lw_generation *lw_generation_load(const char *path, char **why) {
  char *text = NULL;
  size_t size = 0;
  lw_sources_begin();
  lw_sources_note(lw_span_of(path), NULL);
  if (!is_readable_now(path, why) || !(text = lw_script_read(path, &size, why))) return NULL;
  lw_sources_note(lw_span_of(path), &(lw_span){text, size});
  lw_generation_prepare(path);
  lw_vm *vm = prepared;
  prepared = NULL;
  vm->digest = lw_benchmark_digest(LW_BENCHMARK_DIGEST_START, (lw_span){text, size});
  lw_code code = lw_vm_load(vm, path, (lw_span){text, size}, why);
  free(text);
  if (code == LW_OK && !vm->published) {
    *why = lw_printf_dup("%s: does not return worker.backend{...}", path);
    code = LW_PROTOCOL;
  }
  if (code != LW_OK) {
    lw_vm_close(vm);
    return NULL;
  }
  lw_generation *g = lw_calloc(1, sizeof *g);
  *g = (lw_generation){.vm = vm, .router = vm->published, .number = ++loaded};
  alive++;
  vm->owner = g;
  g->router->retire = retire_router;
  g->router->digest = vm->digest;
  lw_router_seal(g->router);
  return g;
}

void lw_generation_retire(lw_generation *g) { lw_router_unref(g->router); }

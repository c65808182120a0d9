/* SPDX-License-Identifier: MIT
 * Notes which files a script was made of. Told by script/generation and, for what the script loads
 * itself, by script/api; asked by program/watcher. Owns the paths. */
#include "script/sources.h"

#include <stdlib.h>

#include "worker/benchmark.h"

static struct {
  lw_source list[LW_SOURCES_MAX];
  size_t count, left_out;
  lw_wake *owner;
} sources;

uint64_t lw_source_digest(lw_span text) {
  uint64_t digest = lw_benchmark_digest(LW_BENCHMARK_DIGEST_START, text);
  return digest ? digest : 1;
}

void lw_sources_begin(void) {
  for (size_t i = 0; i < sources.count; i++) free(sources.list[i].path);
  sources.count = sources.left_out = 0;
}

static lw_source *find(lw_span path) {
  for (size_t i = 0; i < sources.count; i++) {
    if (lw_span_eq(path, lw_span_of(sources.list[i].path))) return &sources.list[i];
  }
  return NULL;
}

void lw_sources_note(lw_span path, const lw_span *text) {
  lw_source *s = find(path);
  if (!s && sources.count == LW_SOURCES_MAX) {
    sources.left_out++;
    return;
  }
  if (!s) {
    s = &sources.list[sources.count++];
    s->path = lw_span_dup(path);
    if (sources.owner) lw_loop_wake(sources.owner);
  }
  s->digest = text ? lw_source_digest(*text) : 0;
}

size_t lw_sources_count(void) { return sources.count; }
const lw_source *lw_sources_at(size_t i) {
  assert(i < sources.count);
  return &sources.list[i];
}
size_t lw_sources_left_out(void) { return sources.left_out; }
void lw_sources_tell(lw_wake *wake) { sources.owner = wake; }

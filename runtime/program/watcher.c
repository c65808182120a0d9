/* SPDX-License-Identifier: MIT
 * Watches the files of the script, one loop/watch for each, and looks by their bytes whether they
 * are what was loaded. Called by program/serve. Owns the watches and what was seen last. */
#include "program/watcher.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "floor/log.h"
#include "loop/watch.h"
#include "script/vm.h"

enum {
  SETTLE_MS = 100, /* editors write a file in several steps */
  LOOK_MS = 2000   /* where inotify tells nothing */
};

typedef struct watched {
  char *path;
  uint64_t seen;      /* as lw_source.digest */
  int64_t written_ns; /* since the epoch, at the last look; 0: there was none */
  lw_watch *watch;
  bool present; /* in the list of the last load */
} watched;

static struct {
  watched list[LW_SOURCES_MAX];
  size_t count;
  void (*changed)(const char *path); /* NULL: closed */
  lw_wake touched, sources, settled;
  lw_timer settle;
  bool told_limit;
} watcher;

static void drop(size_t i) {
  watched *w = &watcher.list[i];
  lw_watch_close(w->watch);
  free(w->path);
  *w = watcher.list[--watcher.count];
}

static watched *find(const char *path) {
  for (size_t i = 0; i < watcher.count; i++) {
    if (strcmp(watcher.list[i].path, path) == 0) return &watcher.list[i];
  }
  return NULL;
}

static void tell_limit(void) {
  size_t left_out = lw_sources_left_out();
  if (left_out && !watcher.told_limit) {
    lw_warn("--watch: the script loads more than %d files: changes of the others are not noticed",
            LW_SOURCES_MAX);
  }
  watcher.told_limit = left_out > 0;
}

/* Those that stay keep their watch. */
static void follow_sources(void) {
  for (size_t i = 0; i < watcher.count; i++) watcher.list[i].present = false;
  size_t old = watcher.count;
  for (size_t i = 0; i < lw_sources_count(); i++) {
    watched *w = find(lw_sources_at(i)->path);
    if (w) w->present = true;
  }
  while (old-- > 0) {
    if (!watcher.list[old].present) drop(old);
  }
  for (size_t i = 0; i < lw_sources_count(); i++) {
    const lw_source *s = lw_sources_at(i);
    watched *w = find(s->path);
    if (!w) {
      w = &watcher.list[watcher.count++];
      *w = (watched){.path = lw_strdup(s->path), .present = true};
      w->watch = lw_watch_open(s->path, LOOK_MS, &watcher.touched);
      lw_debug("--watch: %s", s->path);
    }
    w->seen = s->digest;
  }
  tell_limit();
}

/* 0: it is not there. What it had when it can't be told: a pipe, say. */
static uint64_t look_at(watched *w) {
  struct stat st;
  size_t n = 0;
  char *why = NULL;
  if (stat(w->path, &st) != 0) return 0;
  char *text = S_ISREG(st.st_mode) ? lw_script_read(w->path, &n, &why) : NULL;
  uint64_t digest = text ? lw_source_digest((lw_span){text, n}) : w->seen;
  int64_t written_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
  if (digest == w->seen && w->written_ns && w->written_ns != written_ns) {
    lw_debug("--watch: %s was written, with the same bytes", w->path);
  }
  w->written_ns = written_ns;
  free(text);
  free(why);
  return digest;
}

static void run_touched(lw_wake *w) {
  (void)w;
  lw_timer_start(&watcher.settle, SETTLE_MS);
}

static void run_sources(lw_wake *w) {
  (void)w;
  follow_sources();
}

/* All are looked at, so that what was saved together is loaded once. */
static void run_settled(lw_wake *wake) {
  (void)wake;
  char *path = NULL;
  for (size_t i = 0; i < watcher.count; i++) {
    watched *w = &watcher.list[i];
    uint64_t digest = look_at(w);
    if (digest == w->seen) continue;
    w->seen = digest;
    if (!path) path = lw_strdup(w->path);
  }
  if (path) watcher.changed(path);
  free(path);
}

static void on_settle(lw_timer *t) {
  (void)t;
  lw_loop_wake(&watcher.settled);
}

void lw_watcher_open(void (*changed)(const char *path)) {
  assert(!watcher.changed);
  watcher.changed = changed;
  watcher.told_limit = false;
  lw_wake_init(&watcher.touched, run_touched);
  lw_wake_init(&watcher.sources, run_sources);
  lw_wake_init(&watcher.settled, run_settled);
  lw_timer_init(&watcher.settle, on_settle);
  lw_sources_tell(&watcher.sources);
  follow_sources();
}

void lw_watcher_close(void) {
  if (!watcher.changed) return;
  lw_sources_tell(NULL);
  while (watcher.count) drop(watcher.count - 1);
  lw_timer_fini(&watcher.settle);
  lw_wake_cancel(&watcher.touched);
  lw_wake_cancel(&watcher.sources);
  lw_wake_cancel(&watcher.settled);
  watcher.changed = NULL;
}

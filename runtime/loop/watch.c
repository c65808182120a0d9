/* SPDX-License-Identifier: MIT
 * Wakes its owner when a file may have changed. It watches the directory, not the file, since the
 * file may be absent or replaced; for a symlink also the directory of what it leads to. Where
 * inotify fails (no directory, no free watch, a network file system) the timer beneath it is all
 * there is. Called by worker/tail. Owns its uv handles and the timer. */
#include "loop/watch.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

enum {
  HOPS = 4 /* names on the way to the file: its own, and those that symlinks lead to */
};

typedef struct hop {
  uv_fs_event_t handle;
  char *dir, *name; /* NULL: not armed */
  dev_t device;     /* of dir, when it was armed */
  ino_t inode;
} hop;

struct lw_watch {
  hop hops[HOPS];
  int open_handles;
  char *path;
  uint64_t poll_ms;
  lw_timer timer;
  lw_wake arrange;
  lw_wake *owner;
};

static void disarm(hop *h) {
  uv_fs_event_stop(&h->handle);
  free(h->dir);
  free(h->name);
  h->dir = h->name = NULL;
}

static void on_event(uv_fs_event_t *handle, const char *file, int events, int status) {
  hop *h = LW_CONTAINER_OF(handle, hop, handle);
  lw_watch *w = handle->data;
  if (!h->dir || status < 0 || !file) {
    lw_loop_wake(&w->arrange);
    return;
  }
  /* What happens to the directory itself comes under its own last name. */
  const char *slash = strrchr(h->dir, '/');
  bool itself = strcmp(file, slash ? slash + 1 : h->dir) == 0;
  if (!itself && strcmp(file, h->name) != 0) return;
  if (!(events & UV_RENAME)) {
    lw_loop_wake(w->owner);
    return;
  }
  /* A directory that was removed may be made again with the same inode. */
  if (itself) h->inode = 0;
  lw_loop_wake(&w->arrange);
}

/* Watches the directory of `path`, unless it is the one that is watched already. */
static void arm(hop *h, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
  char *dir = !slash          ? lw_strdup(".")
              : slash == path ? lw_strdup("/")
                              : lw_strdup_n(path, (size_t)(slash - path));
  struct stat st;
  bool there = stat(dir, &st) == 0;
  bool same = there && h->dir && h->inode == st.st_ino && h->device == st.st_dev;
  if (same && strcmp(h->dir, dir) == 0 && strcmp(h->name, name) == 0) {
    free(dir);
    return;
  }
  disarm(h);
  if (there && uv_fs_event_start(&h->handle, on_event, dir, 0) == 0) {
    h->dir = dir;
    h->name = lw_strdup(name);
    h->device = st.st_dev;
    h->inode = st.st_ino;
    return;
  }
  free(dir);
}

/* Puts in `path` what the symlink there leads to; false: it is none. */
static bool follow(char path[PATH_MAX]) {
  char target[PATH_MAX];
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n <= 0) return false;
  target[n] = 0;
  const char *slash = strrchr(path, '/');
  size_t prefix = target[0] == '/' || !slash ? 0 : (size_t)(slash + 1 - path);
  if (prefix + (size_t)n >= PATH_MAX) return false;
  memcpy(path + prefix, target, (size_t)n + 1);
  return true;
}

/* The owner is woken after the watches stand: what it then sees can't change unnoticed. */
static void run_arrange(lw_wake *wake) {
  lw_watch *w = LW_CONTAINER_OF(wake, lw_watch, arrange);
  char path[PATH_MAX];
  int n = snprintf(path, sizeof path, "%s", w->path);
  bool more = n > 0 && n < PATH_MAX;
  for (int i = 0; i < HOPS; i++) {
    if (more) {
      arm(&w->hops[i], path);
      more = follow(path);
    } else {
      disarm(&w->hops[i]);
    }
  }
  lw_loop_wake(w->owner);
}

static void on_timer(lw_timer *t) {
  lw_watch *w = LW_CONTAINER_OF(t, lw_watch, timer);
  lw_timer_start(t, w->poll_ms);
  lw_loop_wake(&w->arrange);
}

lw_watch *lw_watch_open(const char *path, uint64_t poll_ms, lw_wake *wake) {
  lw_watch *w = lw_calloc(1, sizeof *w);
  w->path = lw_strdup(path);
  w->owner = wake;
  w->poll_ms = poll_ms;
  for (; w->open_handles < HOPS; w->open_handles++) {
    uv_fs_event_t *handle = &w->hops[w->open_handles].handle;
    uv_fs_event_init(lw_loop_uv(), handle);
    handle->data = w;
  }
  lw_wake_init(&w->arrange, run_arrange);
  lw_loop_wake(&w->arrange);
  lw_timer_init(&w->timer, on_timer);
  lw_timer_start(&w->timer, poll_ms);
  return w;
}

static void on_closed(uv_handle_t *handle) {
  lw_watch *w = handle->data;
  if (--w->open_handles == 0) free(w);
}

void lw_watch_close(lw_watch *w) {
  if (!w) return;
  lw_timer_fini(&w->timer);
  lw_wake_cancel(&w->arrange);
  for (int i = 0; i < HOPS; i++) {
    disarm(&w->hops[i]);
    uv_close((uv_handle_t *)&w->hops[i].handle, on_closed);
  }
  free(w->path);
}

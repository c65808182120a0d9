/* SPDX-License-Identifier: MIT */
#include "loop/watch.h"

#include <stdlib.h>

struct lw_watch {
  lw_timer timer;
  lw_wake *wake;
  uint64_t poll_ms;
};
static void on_timer(lw_timer *t) {
  lw_watch *w = LW_CONTAINER_OF(t, lw_watch, timer);
  lw_timer_start(t, w->poll_ms);
  lw_loop_wake(w->wake);
}
lw_watch *lw_watch_open(const char *path, uint64_t poll_ms, lw_wake *wake) {
  (void)path;
  lw_watch *w = lw_calloc(1, sizeof *w);
  w->wake = wake;
  w->poll_ms = poll_ms;
  lw_timer_init(&w->timer, on_timer);
  lw_timer_start(&w->timer, poll_ms);
  return w;
}
void lw_watch_close(lw_watch *w) {
  if (!w) return;
  lw_timer_fini(&w->timer);
  free(w);
}

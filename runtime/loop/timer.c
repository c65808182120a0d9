/* SPDX-License-Identifier: MIT
 * A binary heap of deadlines over one uv timer. Moving a deadline later is one store: the heap
 * keeps the earlier key, and when that comes the timer is put back. So a connection can push its
 * idle deadline forward at every byte. Owns the heap array, not the timers. */
#include "loop/timer.h"

#include <stdlib.h>
#include <uv.h>

static struct {
  uv_timer_t clock;
  lw_timer **heap; /* 1-based */
  size_t count, capacity;
  uint64_t armed_ms; /* 0: the clock is stopped */
} timers;

static void place(size_t i, lw_timer *t) {
  timers.heap[i] = t;
  t->heap_index = i;
}

static void sift_up(size_t i) {
  lw_timer *t = timers.heap[i];
  while (i > 1 && timers.heap[i / 2]->heap_ms > t->heap_ms) {
    place(i, timers.heap[i / 2]);
    i /= 2;
  }
  place(i, t);
}

static void sift_down(size_t i) {
  lw_timer *t = timers.heap[i];
  for (;;) {
    size_t child = i * 2;
    if (child > timers.count) break;
    if (child < timers.count && timers.heap[child + 1]->heap_ms < timers.heap[child]->heap_ms)
      child++;
    if (timers.heap[child]->heap_ms >= t->heap_ms) break;
    place(i, timers.heap[child]);
    i = child;
  }
  place(i, t);
}

static void insert(lw_timer *t) {
  if (timers.count + 2 > timers.capacity) {
    timers.capacity = timers.capacity ? timers.capacity * 2 : 64;
    timers.heap = lw_realloc(timers.heap, timers.capacity * sizeof *timers.heap);
  }
  timers.heap[++timers.count] = t;
  sift_up(timers.count);
}

static void take_out(lw_timer *t) {
  size_t i = t->heap_index;
  lw_timer *last = timers.heap[timers.count--];
  t->heap_index = 0;
  if (last == t) return;
  place(i, last);
  sift_up(i);
  sift_down(last->heap_index);
}

static void on_clock(uv_timer_t *clock);

static void arm(void) {
  if (timers.count == 0) {
    if (timers.armed_ms) uv_timer_stop(&timers.clock);
    timers.armed_ms = 0;
    return;
  }
  uint64_t due = timers.heap[1]->heap_ms;
  if (timers.armed_ms && timers.armed_ms <= due) return;
  uint64_t now = lw_now_ms();
  timers.armed_ms = due;
  uv_update_time(timers.clock.loop);
  uv_timer_start(&timers.clock, on_clock, due > now ? due - now : 0, 0);
}

static void on_clock(uv_timer_t *clock) {
  (void)clock;
  timers.armed_ms = 0;
  uint64_t now = lw_now_ms();
  while (timers.count && timers.heap[1]->heap_ms <= now) {
    lw_timer *t = timers.heap[1];
    take_out(t);
    if (t->due_ms == 0) continue;
    if (t->due_ms > now) {
      t->heap_ms = t->due_ms;
      insert(t);
      continue;
    }
    t->due_ms = 0;
    t->fire(t);
  }
  arm();
}

void lw_timers_open(uv_loop_t *uv) {
  timers.count = timers.armed_ms = 0;
  uv_timer_init(uv, &timers.clock);
}

void lw_timers_close(void) {
  uv_close((uv_handle_t *)&timers.clock, NULL);
  free(timers.heap);
  timers.heap = NULL;
  timers.count = timers.capacity = 0;
}

unsigned lw_timers_active(void) {
  unsigned n = 0;
  for (size_t i = 1; i <= timers.count; i++) n += timers.heap[i]->due_ms != 0;
  return n;
}

void lw_timer_init(lw_timer *t, void (*fire)(lw_timer *t)) { *t = (lw_timer){.fire = fire}; }

void lw_timer_start(lw_timer *t, uint64_t delay_ms) {
  t->due_ms = LW_MAX(lw_now_ms() + delay_ms, 1);
  if (t->heap_index == 0) {
    t->heap_ms = t->due_ms;
    insert(t);
  } else if (t->due_ms < t->heap_ms) {
    t->heap_ms = t->due_ms;
    sift_up(t->heap_index);
  }
  arm();
}

void lw_timer_stop(lw_timer *t) { t->due_ms = 0; }

void lw_timer_fini(lw_timer *t) {
  if (t->heap_index) take_out(t);
  t->due_ms = 0;
}

bool lw_timer_active(const lw_timer *t) { return t->due_ms != 0; }

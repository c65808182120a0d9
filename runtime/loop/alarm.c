/* SPDX-License-Identifier: MIT
 * A binary heap of moments over one timerfd. The descriptor is set once for all that one turn of
 * the loop has changed, and setting it also makes it quiet again, so it is never read. Called by
 * script/task. Owns the descriptor and the heap array, not the alarms. */
#include "loop/alarm.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include "loop/loop.h"

static struct {
  uv_poll_t *poll; /* NULL: not open */
  int fd;
  lw_alarm **heap; /* 1-based */
  size_t count, capacity;
  uint64_t set_ns; /* what the descriptor is set to; 0: nothing */
  lw_wake set;     /* late: sets the descriptor */
} alarms;

/* -- the heap -- */

static void place(size_t i, lw_alarm *a) {
  alarms.heap[i] = a;
  a->heap_index = i;
}

static void sift_up(size_t i) {
  lw_alarm *a = alarms.heap[i];
  for (; i > 1 && alarms.heap[i / 2]->due_ns > a->due_ns; i /= 2) place(i, alarms.heap[i / 2]);
  place(i, a);
}

static void sift_down(size_t i) {
  lw_alarm *a = alarms.heap[i];
  for (size_t child; (child = i * 2) <= alarms.count; i = child) {
    if (child < alarms.count && alarms.heap[child + 1]->due_ns < alarms.heap[child]->due_ns) {
      child++;
    }
    if (alarms.heap[child]->due_ns >= a->due_ns) break;
    place(i, alarms.heap[child]);
  }
  place(i, a);
}

static void take_out(lw_alarm *a) {
  size_t i = a->heap_index;
  lw_alarm *last = alarms.heap[alarms.count--];
  a->heap_index = 0;
  a->due_ns = 0;
  if (last == a) return;
  place(i, last);
  sift_up(i);
  sift_down(last->heap_index);
}

/* -- the descriptor -- */

static void run_set(lw_wake *w) {
  (void)w;
  uint64_t due = alarms.count ? alarms.heap[1]->due_ns : 0;
  if (due == alarms.set_ns) return;
  struct itimerspec when = {.it_value = {(time_t)(due / 1000000000), (long)(due % 1000000000)}};
  if (timerfd_settime(alarms.fd, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
    lw_die("an alarm can't be set: %s", strerror(errno));
  }
  alarms.set_ns = due;
}

static void on_due(uv_poll_t *poll, int status, int events) {
  (void)poll;
  (void)status;
  (void)events;
  alarms.set_ns = UINT64_MAX; /* it has gone off, and stays readable until it is set anew */
  uint64_t now = lw_now_ns();
  while (alarms.count && alarms.heap[1]->due_ns <= now) {
    lw_alarm *a = alarms.heap[1];
    take_out(a);
    a->fire(a);
  }
  lw_loop_wake_late(&alarms.set);
}

static void open_alarms(void) {
  alarms.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (alarms.fd < 0) lw_die("no alarm can be made: %s", strerror(errno));
  alarms.poll = lw_calloc(1, sizeof *alarms.poll);
  int rc = uv_poll_init(lw_loop_uv(), alarms.poll, alarms.fd);
  if (rc == 0) rc = uv_poll_start(alarms.poll, UV_READABLE, on_due);
  if (rc != 0) lw_die("an alarm can't be watched: %s", uv_strerror(rc));
  uv_unref((uv_handle_t *)alarms.poll);
  lw_wake_init(&alarms.set, run_set);
  alarms.set_ns = 0;
}

static void on_closed(uv_handle_t *handle) { free(handle); }

void lw_alarms_close(void) {
  if (!alarms.poll) return;
  lw_wake_cancel(&alarms.set);
  uv_close((uv_handle_t *)alarms.poll, on_closed);
  close(alarms.fd);
  for (size_t i = 1; i <= alarms.count; i++) alarms.heap[i]->heap_index = 0;
  free(alarms.heap);
  alarms.poll = NULL;
  alarms.heap = NULL;
  alarms.count = alarms.capacity = 0;
}

/* -- for the rooms above -- */

void lw_alarm_init(lw_alarm *a, void (*fire)(lw_alarm *a)) { *a = (lw_alarm){.fire = fire}; }

void lw_alarm_start(lw_alarm *a, uint64_t due_ns) {
  if (!alarms.poll) open_alarms();
  if (a->heap_index) take_out(a);
  a->due_ns = LW_MIN(LW_MAX(due_ns, 1), (uint64_t)INT64_MAX); /* 0 would make it quiet */
  if (alarms.count + 2 > alarms.capacity) {
    alarms.capacity = LW_MAX(alarms.capacity * 2, 64);
    alarms.heap = lw_realloc(alarms.heap, alarms.capacity * sizeof *alarms.heap);
  }
  alarms.heap[++alarms.count] = a;
  sift_up(alarms.count);
  lw_loop_wake_late(&alarms.set);
}

void lw_alarm_stop(lw_alarm *a) {
  if (!a->heap_index) return;
  take_out(a);
  lw_loop_wake_late(&alarms.set);
}

unsigned lw_alarms_active(void) { return (unsigned)alarms.count; }

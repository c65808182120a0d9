/* SPDX-License-Identifier: MIT
 * The event loop, its drain, graveyard and signals. Callers wake items from uv callbacks; the drain
 * runs them between two polls. Owns the uv loop and the handles of its own housekeeping. Deadlines
 * live in loop/timer.c. */
#include "loop/loop.h"

#include <signal.h>
#include <uv.h>

#include "loop/alarm.h"
#include "loop/timer.h"

enum {
  EVENTS_PER_DRAIN = 64, /* in one poll; a drain after each would cost a sixth of the throughput */
  DRAIN_ROUNDS = 8,      /* of woken items before sockets get their turn again */
  MAX_SIGNALS = 8,
};

typedef struct signal_slot {
  uv_signal_t handle;
  lw_wake wake;
  void (*on_signal)(int signum);
} signal_slot;

static struct {
  uv_loop_t uv;
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle; /* active: something is still woken, so poll must not block */
  lw_list ready, held_up, late, graves;
  signal_slot signals[MAX_SIGNALS];
  int signal_count, unsettled;
  uint64_t turn_ns; /* of the first wake since the last drain; 0: none */
  lw_histogram lag;
  bool open, draining;
  bool took_long; /* an item that ran in this drain */
} loop;

static void run_list(lw_list *list) {
  lw_list batch, *node;
  lw_list_init(&batch);
  lw_list_splice(&batch, list);
  while ((node = lw_list_pop(&batch))) {
    lw_wake *w = LW_CONTAINER_OF(node, lw_wake, node);
    w->run(w);
  }
}

static void bury_all(void) {
  lw_list *node;
  while ((node = lw_list_pop(&loop.graves))) {
    lw_grave *g = LW_CONTAINER_OF(node, lw_grave, node);
    g->bury(g);
  }
}

static void on_idle(uv_idle_t *handle) { (void)handle; }

static void end_turn(bool more) {
  if (!loop.turn_ns) return;
  uint64_t now = lw_now_ns();
  lw_histogram_note(&loop.lag, now - loop.turn_ns);
  loop.turn_ns = more ? now : 0;
}

static void drain(void) {
  loop.draining = true;
  loop.unsettled = 0;
  for (int i = 0; i < DRAIN_ROUNDS; i++) {
    if (lw_list_empty(&loop.ready) && lw_list_empty(&loop.late)) break;
    run_list(&loop.ready);
    if (lw_list_empty(&loop.ready)) run_list(&loop.late);
  }
  loop.took_long = false;
  run_list(&loop.held_up); /* up to the next long one */
  run_list(&loop.late);
  loop.took_long = false;
  bury_all();
  loop.draining = false;
  bool more =
      !lw_list_empty(&loop.ready) || !lw_list_empty(&loop.held_up) || !lw_list_empty(&loop.late);
  end_turn(more);
  if (more) {
    uv_idle_start(&loop.idle, on_idle);
  } else {
    uv_idle_stop(&loop.idle);
  }
}

static void on_prepare(uv_prepare_t *handle) {
  (void)handle;
  drain();
}

static void on_check(uv_check_t *handle) {
  (void)handle;
  drain();
}

void lw_loop_settle(void) {
  if (!loop.draining && ++loop.unsettled >= EVENTS_PER_DRAIN) drain();
}

void lw_loop_init(void) {
  assert(!loop.open);
  signal(SIGPIPE, SIG_IGN);
  if (uv_loop_init(&loop.uv) != 0) lw_die("the event loop can't be made");
  uv_prepare_init(&loop.uv, &loop.prepare);
  uv_check_init(&loop.uv, &loop.check);
  uv_idle_init(&loop.uv, &loop.idle);
  uv_prepare_start(&loop.prepare, on_prepare);
  uv_check_start(&loop.check, on_check);
  uv_unref((uv_handle_t *)&loop.prepare);
  uv_unref((uv_handle_t *)&loop.check);
  lw_list_init(&loop.ready);
  lw_list_init(&loop.held_up);
  lw_list_init(&loop.late);
  lw_list_init(&loop.graves);
  loop.signal_count = 0;
  loop.turn_ns = 0;
  loop.lag = (lw_histogram){.bounds = lw_histogram_short};
  lw_timers_open(&loop.uv);
  loop.open = true;
}

void lw_loop_fini(void) {
  lw_loop_ignore_signals();
  lw_timers_close();
  lw_alarms_close();
  drain();
  uv_run(&loop.uv, UV_RUN_NOWAIT);
  uv_close((uv_handle_t *)&loop.prepare, NULL);
  uv_close((uv_handle_t *)&loop.check, NULL);
  uv_close((uv_handle_t *)&loop.idle, NULL);
  uv_run(&loop.uv, UV_RUN_DEFAULT);
  bury_all();
  int rc = uv_loop_close(&loop.uv);
  assert(rc == 0);
  (void)rc;
  loop.open = false;
}

uv_loop_t *lw_loop_uv(void) { return &loop.uv; }
void lw_loop_run(void) {
  uv_ref((uv_handle_t *)&loop.prepare);
  uv_run(&loop.uv, UV_RUN_DEFAULT);
  uv_unref((uv_handle_t *)&loop.prepare);
}
void lw_loop_stop(void) { uv_stop(&loop.uv); }

void lw_wake_init(lw_wake *w, void (*run)(lw_wake *w)) {
  lw_list_init(&w->node);
  w->run = run;
}

static void append(lw_list *list, lw_wake *w) {
  if (lw_list_linked(&w->node)) return;
  lw_list_append(list, &w->node);
  if (!loop.turn_ns) loop.turn_ns = lw_now_ns();
}

void lw_loop_wake(lw_wake *w) { append(&loop.ready, w); }
void lw_loop_wake_late(lw_wake *w) { append(&loop.late, w); }

uint64_t lw_loop_turn_ns(void) { return loop.turn_ns; }
const lw_histogram *lw_loop_lag(void) { return &loop.lag; }

void lw_loop_took_long(void) { loop.took_long = true; }

bool lw_loop_hold_up(lw_wake *w) {
  if (!loop.took_long) return false;
  if (!lw_list_linked(&w->node)) lw_list_append(&loop.held_up, &w->node);
  return true;
}

void lw_wake_cancel(lw_wake *w) { lw_list_remove(&w->node); }

void lw_loop_bury(lw_grave *g, void (*bury)(lw_grave *g)) {
  g->bury = bury;
  lw_list_append(&loop.graves, &g->node);
}

static void run_signal(lw_wake *w) {
  signal_slot *slot = LW_CONTAINER_OF(w, signal_slot, wake);
  slot->on_signal(slot->handle.signum);
}

static void on_uv_signal(uv_signal_t *handle, int signum) {
  (void)signum;
  lw_loop_wake(&LW_CONTAINER_OF(handle, signal_slot, handle)->wake);
}

void lw_loop_on_signal(int signum, void (*on_signal)(int signum)) {
  assert(loop.signal_count < MAX_SIGNALS);
  signal_slot *slot = &loop.signals[loop.signal_count++];
  slot->on_signal = on_signal;
  lw_wake_init(&slot->wake, run_signal);
  uv_signal_init(&loop.uv, &slot->handle);
  uv_signal_start(&slot->handle, on_uv_signal, signum);
  uv_unref((uv_handle_t *)&slot->handle);
}

void lw_loop_ignore_signals(void) {
  for (int i = 0; i < loop.signal_count; i++) {
    lw_wake_cancel(&loop.signals[i].wake);
    uv_close((uv_handle_t *)&loop.signals[i].handle, NULL);
  }
  loop.signal_count = 0;
}

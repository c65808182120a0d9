/* SPDX-License-Identifier: MIT
 * The process's one event loop: libuv underneath, and above it the rule that events mark and the
 * drain resumes. A callback of uv, llhttp or curl only changes state and wakes something; what was
 * woken runs in the drain, after the callbacks of that turn, in the order it was woken.
 *
 *   turn:  timers → drain → poll (callbacks mark) → drain → ...
 *   drain: woken items (bounded rounds) → what a long one held up → flushes → graveyard
 *
 * One thread; nothing here is thread-safe. */
#pragma once

#include "floor/base.h"
#include "floor/histogram.h"
#include "floor/list.h"

typedef struct uv_loop_s uv_loop_t;

void lw_loop_init(void);
/* Closes the loop; asserts that no handle is left open. */
void lw_loop_fini(void);
uv_loop_t *lw_loop_uv(void);
/* Runs until lw_loop_stop(). */
void lw_loop_run(void);
void lw_loop_stop(void);

/* -- waking: run() is called once in the next drain, however often it was woken before -- */
typedef struct lw_wake {
  lw_list node; /* private */
  void (*run)(struct lw_wake *w);
} lw_wake;
void lw_wake_init(lw_wake *w, void (*run)(lw_wake *w));
void lw_loop_wake(lw_wake *w);
/* Runs after all ordinary woken items of this drain: for gathering writes, for kicking curl. */
void lw_loop_wake_late(lw_wake *w);
void lw_wake_cancel(lw_wake *w);
/* For a run() that took long; another that may then asks whether to wait: true, when one did in
 * this turn, and w is run again after sockets had theirs, and after what they wake. */
void lw_loop_took_long(void);
bool lw_loop_hold_up(lw_wake *w);

/* When the first thing of the present turn was woken (monotonic): one value for all that the drain
 * does. 0 when nothing has been woken. */
uint64_t lw_loop_turn_ns(void);
/* How long one turn kept others waiting: from its first wake until its drain was through. */
const lw_histogram *lw_loop_lag(void);

/* For a uv callback that is about to return and touches nothing any more: drains in the middle of a
 * poll that has brought many events, so that the bytes of a burst over hundreds of streams are not
 * all held at once, and the first do not wait for the last. */
void lw_loop_settle(void);

/* -- freeing: bury() is called at the end of the drain -- */
typedef struct lw_grave {
  lw_list node; /* private */
  void (*bury)(struct lw_grave *g);
} lw_grave;
void lw_loop_bury(lw_grave *g, void (*bury)(lw_grave *g));

/* -- deadlines: cheap to move (re-arming later than before is one store), freed without a callback.
 * fire() is called in the timers phase; it may only mark. Millisecond resolution. -- */
typedef struct lw_timer {
  uint64_t due_ms;   /* private: when it shall fire; 0: stopped */
  uint64_t heap_ms;  /* private: its key in the heap */
  size_t heap_index; /* private: 1-based; 0: not in the heap */
  void (*fire)(struct lw_timer *t);
} lw_timer;
void lw_timer_init(lw_timer *t, void (*fire)(lw_timer *t));
void lw_timer_start(lw_timer *t, uint64_t delay_ms);
void lw_timer_stop(lw_timer *t); /* stays cheap; also before freeing: lw_timer_fini */
void lw_timer_fini(lw_timer *t);
bool lw_timer_active(const lw_timer *t);

/* -- signals: on_signal runs in the drain -- */
void lw_loop_on_signal(int signum, void (*on_signal)(int signum));
void lw_loop_ignore_signals(void); /* closes the signal handles, so that the loop can end */

/* SPDX-License-Identifier: MIT
 * Time for floor/fold. Called by whoever reports failures of requests and hooks, in the loop
 * thread; by program/program at the end. Owns the timer. */
#include "worker/complaint.h"

#include "loop/loop.h"
#include "worker/pace.h"

static lw_timer timer;
static bool begun;
static uint64_t armed_for_ms;

static void arm(void) {
  uint64_t due_ms = lw_fold_due_ms(), now_ms = lw_now_ms();
  if (due_ms == UINT64_MAX || (lw_timer_active(&timer) && due_ms == armed_for_ms)) return;
  armed_for_ms = due_ms;
  lw_timer_start(&timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void on_due(lw_timer *t) {
  (void)t;
  lw_fold_tell(lw_now_ms());
  arm();
}

void lw_complain(const lw_fold_line *line) {
  if (!begun) {
    begun = true;
    lw_timer_init(&timer, on_due);
    lw_fold_set_window(lw_pace_ms(LW_FOLD_WINDOW_MS));
  }
  lw_fold_note(line, lw_now_ms());
  arm();
}

void lw_complaint_reset(void) {
  if (begun) lw_timer_stop(&timer);
  lw_fold_reset(lw_now_ms());
}

void lw_complaint_close(void) {
  lw_complaint_reset();
  if (begun) lw_timer_fini(&timer);
  begun = false;
}

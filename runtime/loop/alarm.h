/* SPDX-License-Identifier: MIT
 * Wakes at moments of the monotonic clock, by the kernel's timer (timerfd): tens of microseconds
 * late at most while the loop is idle, where lw_timer knows milliseconds only. For sending on a
 * schedule. The descriptor is opened at the first alarm and closed with the loop. */
#pragma once

#include "floor/base.h"

typedef struct lw_alarm {
  uint64_t due_ns;   /* private: 0 when it does not wait */
  size_t heap_index; /* private: 1-based */
  void (*fire)(struct lw_alarm *a);
} lw_alarm;

void lw_alarm_init(lw_alarm *a, void (*fire)(lw_alarm *a));
/* fire() is called from a poll, never from here, also for a moment that has passed already: it may
 * only mark. Moves an alarm that waits. */
void lw_alarm_start(lw_alarm *a, uint64_t due_ns);
void lw_alarm_stop(lw_alarm *a); /* its memory can go; fine when it does not wait */
static inline bool lw_alarm_active(const lw_alarm *a) { return a->heap_index != 0; }
unsigned lw_alarms_active(void);

void lw_alarms_close(void); /* for the loop's end */

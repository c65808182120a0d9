/* SPDX-License-Identifier: MIT
 * Log lines about what may go wrong with every request. The first of a kind is logged whole; while
 * more of the kind come they are only counted, and each window ends with one line that says how
 * many. Windows begin with 10 s and double up to 5 min; after one without any, the next is logged
 * whole again. Of one kind are lines with the same level, message, route, hook and place whose
 * errors differ only in words that have digits in them (ids, sizes, addresses). 64 kinds are kept:
 * the one not seen for longest goes, with what it counted told. No clock and no timer:
 * worker/complaint has them. Only the loop thread logs. */
#pragma once

#include "floor/log.h"

enum {
  LW_FOLD_KINDS = 64,
  LW_FOLD_KINDS_OF_PLACE = 8, /* what more of them a place has counts as one kind */
  LW_FOLD_WINDOW_MS = 10000,
  LW_FOLD_GROWTH = 30 /* the longest window: so many times the first */
};

typedef struct lw_fold_line {
  lw_log_level level;
  const char *message; /* our own words, literal */
  lw_span route, hook, at, error;
  lw_span request_id, remote, traceback; /* told, not compared */
} lw_fold_line;                          /* empty fields are left out */

/* Logs it, or counts it. */
void lw_fold_note(const lw_fold_line *line, uint64_t now_ms);
/* When something that was counted is to be told; UINT64_MAX: nothing is. */
uint64_t lw_fold_due_ms(void);
/* Tells what is due: `<message>, again` with times, seconds, and the last one's error and request.
 */
void lw_fold_tell(uint64_t now_ms);
/* Tells all that was counted and forgets every kind: the next of each is logged whole. */
void lw_fold_reset(uint64_t now_ms);
void lw_fold_set_window(uint64_t first_ms); /* for tests of minutes; of kinds seen from now on */

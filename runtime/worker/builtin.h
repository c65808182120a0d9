/* SPDX-License-Identifier: MIT
 * What the worker itself answers, beside the routes of its script: a table of these per port. */
#pragma once

#include "exchange/request.h"

typedef struct lw_builtin {
  lw_h1_method method; /* GET answers HEAD too */
  const char *path;
  /* r is complete. Answers now, or later with lw_builtin_done(); r->work is its own to use. In the
   * drain. */
  void (*answer)(lw_request *r);
  /* Its client left before the answer: give up what was kept for it. NULL: always answers at once.
   */
  void (*gone)(lw_request *r);
} lw_builtin;

/* A late answer was given (r is over): logs and releases it. Not for what `answer` did at once, nor
 * after `gone`. */
void lw_builtin_done(lw_request *r);

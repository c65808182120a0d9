/* SPDX-License-Identifier: MIT
 * A script's call to an HTTP server: an upstream held by a task, with what reading it piece by
 * piece needs. The task owns its calls; they end with it. */
#pragma once

#include "exchange/upstream.h"
#include "script/task.h"
#include "worker/work.h"

typedef struct lw_call {
  lw_list node;
  lw_task *task;
  lw_upstream *upstream; /* NULL: taken away by cancellation */
  lw_work *work;         /* the request's own call to the model; NULL for others */
  bool started, has_head;
  lw_upstream_timeouts timeouts;
  size_t lent;       /* bytes given out by the last read, to be consumed by the next */
  lw_body *gathered; /* for lw_call_body_all */
  char *error;       /* owned; NULL: none */
} lw_call;

/* Over an upstream opened with the task's wake. */
lw_call *lw_call_new(lw_task *t, lw_upstream *u, lw_work *work);
void lw_call_start(lw_call *c); /* once */
lw_code lw_call_head(lw_call *c);
lw_code lw_call_read(lw_call *c, lw_span *out);
lw_code lw_call_body_all(lw_call *c, size_t max, lw_span *out);
void lw_call_set_error(lw_call *c, const char *text); /* copies */
lw_upstream *lw_call_take(lw_call *c); /* the call is gone, the upstream the caller's */
void lw_call_stop(lw_call *c); /* closes the upstream; the call stays, for its owner to free */
void lw_call_free(lw_call *c);

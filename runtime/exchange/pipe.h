/* SPDX-License-Identifier: MIT
 * The pump between a model's answer and a client's: status, end-to-end fields, body bytes, in the
 * turn of the loop in which they came, no Lua. Backpressure both ways: it stops taking from the
 * upstream while the client's out buffer is high. When the request is over (its client left) and
 * nobody stops the pipe, it reads the answer to its end and drops it. */
#pragma once

#include "exchange/request.h"
#include "exchange/upstream.h"

typedef struct lw_pipe {
  lw_wake wake; /* of the upstream; and the request's writer while the client reads too slowly */
  lw_upstream *upstream;
  lw_request *request;
  /* Once, in the drain: LW_OK, the client's answer has its clean end; else why not (the codes of
   * lw_upstream_head and lw_upstream_ending). Before the client's head was written nothing was
   * answered: that is the owner's; after it the answer was cut. */
  void (*done)(struct lw_pipe *p, lw_code result);
  bool head_sent, stopped;
} lw_pipe;

void lw_pipe_init(lw_pipe *p, void (*done)(struct lw_pipe *p, lw_code result));
/* Begins to pump. The upstream was opened with &p->wake; neither is owned. */
void lw_pipe_start(lw_pipe *p, lw_upstream *upstream, lw_request *request);
/* No call of done any more; the upstream may be closed afterwards. */
void lw_pipe_stop(lw_pipe *p);

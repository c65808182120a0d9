/* SPDX-License-Identifier: MIT
 * Reading an upstream on behalf of a task. Called by script/api; tells worker/work what came of the
 * call when it is the request's own. Owns the upstream and the gathered body. */
#include "script/call.h"

#include <stdlib.h>

lw_call *lw_call_new(lw_task *t, lw_upstream *u, lw_work *work) {
  lw_call *c = lw_calloc(1, sizeof *c);
  c->task = t;
  c->upstream = u;
  c->work = work;
  c->timeouts.connect_ms = 5000;
  lw_list_append(&t->calls, &c->node);
  return c;
}

void lw_call_start(lw_call *c) {
  if (c->started || !c->upstream) return;
  c->started = true;
  if (!c->work) lw_upstream_set_timeouts(c->upstream, &c->timeouts);
  lw_upstream_start(c->upstream);
}

void lw_call_set_error(lw_call *c, const char *text) {
  free(c->error);
  c->error = lw_strdup(text);
}

static void note_end(lw_call *c, lw_code code) {
  if (code != LW_EOF) lw_call_set_error(c, lw_upstream_error(c->upstream));
  if (!c->work) return;
  if (code != LW_EOF) lw_work_note_model(c->work, 0, code, c->error);
  lw_work_model_done(c->work);
}

lw_code lw_call_head(lw_call *c) {
  if (!c->upstream) return LW_CANCELLED;
  if (c->has_head) return LW_OK;
  lw_call_start(c);
  lw_code code = lw_upstream_head(c->upstream);
  if (code == LW_AGAIN) return c->task->cancelled ? LW_CANCELLED : LW_AGAIN;
  c->has_head = code == LW_OK;
  if (code != LW_OK) {
    note_end(c, code);
  } else if (c->work) {
    lw_work_note_model(c->work, lw_upstream_status(c->upstream), LW_OK, NULL);
  }
  return code;
}

lw_code lw_call_read(lw_call *c, lw_span *out) {
  *out = (lw_span){"", 0};
  lw_code code = lw_call_head(c);
  if (code != LW_OK) return code;
  lw_buf *in = lw_upstream_buf(c->upstream);
  if (c->lent) {
    lw_buf_consume(in, c->lent);
    c->lent = 0;
    lw_upstream_consumed(c->upstream);
  }
  if (in->size) {
    *out = lw_buf_peek(in);
    c->lent = out->n;
    return LW_OK;
  }
  code = lw_upstream_ending(c->upstream);
  if (code == LW_AGAIN) return c->task->cancelled ? LW_CANCELLED : LW_AGAIN;
  note_end(c, code);
  return code;
}

lw_code lw_call_body_all(lw_call *c, size_t max, lw_span *out) {
  *out = (lw_span){"", 0};
  if (!c->gathered) c->gathered = lw_body_new();
  for (;;) {
    lw_span piece;
    lw_code code = lw_call_read(c, &piece);
    if (code == LW_EOF) break;
    if (code != LW_OK) return code;
    if (piece.n > max - c->gathered->n) {
      lw_call_set_error(c, "the answer is longer than the worker takes");
      return LW_LIMIT;
    }
    lw_body_append(c->gathered, piece.p, piece.n);
  }
  *out = (lw_span){c->gathered->p, c->gathered->n};
  return LW_OK;
}

void lw_call_stop(lw_call *c) {
  lw_upstream *u = c->upstream;
  if (u && c->lent) lw_buf_consume(lw_upstream_buf(u), c->lent);
  c->upstream = NULL;
  c->lent = 0;
  if (u && !(c->started && c->work && lw_work_drain(c->work, u))) lw_upstream_close(u);
}

lw_upstream *lw_call_take(lw_call *c) {
  lw_upstream *u = c->upstream;
  if (u && c->lent) lw_buf_consume(lw_upstream_buf(u), c->lent);
  c->upstream = NULL;
  lw_call_free(c);
  return u;
}

void lw_call_free(lw_call *c) {
  bool unfinished = c->upstream && c->work;
  lw_call_stop(c);
  if (unfinished) lw_work_model_done(c->work);
  lw_list_remove(&c->node);
  lw_body_unref(c->gathered);
  free(c->error);
  free(c);
}

/* SPDX-License-Identifier: MIT
 * Passing an answer through. Woken by the upstream (bytes came, it ended) and by the client's
 * connection (room again). Owns nothing: the upstream and the request belong to whoever starts it.
 */
#include "exchange/pipe.h"

static void finish(lw_pipe *p, lw_code result) {
  lw_pipe_stop(p);
  p->done(p, result);
}

/* Fields for one connection only stay behind, and so do those that we write ourselves. */
static void copy_fields(lw_request *r, const lw_headers *from) {
  for (size_t i = 0; i < from->count; i++) {
    const lw_header *h = &from->items[i];
    if (lw_header_is_hop_by_hop(from, h->name)) continue;
    if (lw_span_ieq(h->name, LW_SPAN("x-request-id"))) continue;
    lw_headers_add_borrowed(&r->answer, h->name, h->value);
  }
}

static void send_head(lw_pipe *p) {
  uint64_t length = LW_LENGTH_UNKNOWN;
  if (!lw_upstream_length(p->upstream, &length)) length = LW_LENGTH_UNKNOWN;
  copy_fields(p->request, lw_upstream_headers(p->upstream));
  lw_response_head(p->request, lw_upstream_status(p->upstream), length);
  p->head_sent = true;
}

/* Nobody listens any more, but the call shall end by itself. */
static void discard(lw_pipe *p) {
  lw_buf *in = lw_upstream_buf(p->upstream);
  lw_buf_consume(in, in->size);
  lw_upstream_consumed(p->upstream);
  lw_code ending = lw_upstream_ending(p->upstream);
  if (ending != LW_AGAIN) finish(p, ending == LW_EOF ? LW_OK : ending);
}

static void pump(lw_pipe *p) {
  if (p->stopped) return;
  if (lw_request_is_over(p->request)) {
    discard(p);
    return;
  }
  if (!p->head_sent) {
    lw_code head = lw_upstream_head(p->upstream);
    if (head == LW_AGAIN) return;
    if (head != LW_OK) {
      finish(p, head);
      return;
    }
    send_head(p);
  }
  lw_buf *in = lw_upstream_buf(p->upstream);
  if (in->size && lw_response_is_full(p->request)) {
    p->request->writer = &p->wake;
    return;
  }
  if (in->size) {
    lw_response_body_from(p->request, in, in->size);
    lw_upstream_consumed(p->upstream);
  }
  lw_code ending = lw_upstream_ending(p->upstream);
  if (ending == LW_AGAIN || in->size) return;
  if (ending == LW_EOF) {
    lw_response_end(p->request);
    finish(p, LW_OK);
  } else {
    lw_response_cut(p->request);
    finish(p, ending);
  }
}

static void run_pump(lw_wake *w) { pump(LW_CONTAINER_OF(w, lw_pipe, wake)); }

void lw_pipe_init(lw_pipe *p, void (*done)(struct lw_pipe *p, lw_code result)) {
  *p = (lw_pipe){.done = done, .stopped = true};
  lw_wake_init(&p->wake, run_pump);
}

void lw_pipe_start(lw_pipe *p, lw_upstream *upstream, lw_request *request) {
  p->upstream = upstream;
  p->request = request;
  p->stopped = false;
  lw_loop_wake(&p->wake);
}

void lw_pipe_stop(lw_pipe *p) {
  if (p->request && p->request->writer == &p->wake) p->request->writer = NULL;
  lw_wake_cancel(&p->wake);
  p->stopped = true;
}

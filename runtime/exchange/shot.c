/* SPDX-License-Identifier: MIT
 * Watches one upstream as its sink. Called by the script API for load tests; its owner is a task.
 * Owns the upstream, the kept end of the body, and a reference to the quantile for gaps. */
#include "exchange/shot.h"

#include <stdlib.h>

#include "exchange/fields.h"
#include "wire/events.h"

enum {
  TAIL_LEAST = 1024,
  TAIL_MOST = 16 * 1024
};

struct lw_shot_plan {
  char *method;
  lw_fields fields;
  lw_upstream_timeouts timeouts;
  lw_quantile *gaps; /* NULL: nobody wants them */
  bool stream_expected;
};

struct lw_shot {
  lw_list node; /* in its owner's list */
  lw_upstream_sink sink;
  lw_upstream *upstream; /* NULL: cancelled */
  bool stream_expected, secure;
  lw_shot_result result;
  lw_code ending; /* LW_AGAIN until it was looked at after the end */

  lw_events events;
  lw_quantile *gaps; /* NULL: nobody wants them */
  uint64_t event_count, first_ns, event_ns, last_ns, most_gap_ns, received;

  char *tail; /* a ring, once it has its full size */
  size_t tail_capacity;
  char *straight; /* a copy of it in order, made when asked for */
};

/* -- what shots have in common -- */

lw_shot_plan *lw_shot_plan_new(lw_span method) {
  lw_shot_plan *p = lw_calloc(1, sizeof *p);
  p->method = lw_span_dup(method);
  return p;
}

lw_code lw_shot_plan_header(lw_shot_plan *p, lw_span name, lw_span value) {
  return lw_fields_add(&p->fields, name, value);
}

void lw_shot_plan_set_timeouts(lw_shot_plan *p, const lw_upstream_timeouts *t) { p->timeouts = *t; }

void lw_shot_plan_expect_stream(lw_shot_plan *p) { p->stream_expected = true; }

void lw_shot_plan_note_gaps(lw_shot_plan *p, lw_quantile *gaps) {
  lw_quantile_ref(gaps);
  lw_quantile_unref(p->gaps);
  p->gaps = gaps;
}

void lw_shot_plan_free(lw_shot_plan *p) {
  free(p->method);
  lw_fields_fini(&p->fields);
  lw_quantile_unref(p->gaps);
  free(p);
}

/* -- the end of the body -- */

static void keep(lw_shot *s, lw_span bytes) {
  size_t before = (size_t)LW_MIN(s->received, (uint64_t)TAIL_MOST);
  if (before + bytes.n > s->tail_capacity && s->tail_capacity < TAIL_MOST) {
    size_t wanted = LW_MAX(before + bytes.n, (size_t)TAIL_LEAST);
    while (s->tail_capacity < wanted && s->tail_capacity < TAIL_MOST) {
      s->tail_capacity = LW_MAX(s->tail_capacity * 2, (size_t)TAIL_LEAST);
    }
    s->tail = lw_realloc(s->tail, s->tail_capacity);
  }
  uint64_t at = s->received;
  s->received += bytes.n;
  if (bytes.n > s->tail_capacity) {
    size_t skipped = bytes.n - s->tail_capacity;
    bytes = (lw_span){bytes.p + skipped, s->tail_capacity};
    at += skipped;
  }
  size_t start = (size_t)(at & (s->tail_capacity - 1)); /* a power of two */
  size_t first = LW_MIN(bytes.n, s->tail_capacity - start);
  memcpy(s->tail + start, bytes.p, first);
  memcpy(s->tail, bytes.p + first, bytes.n - first);
}

/* -- what comes -- */

static void begin_body(lw_shot *s) {
  lw_span type;
  lw_headers_get(lw_upstream_headers(s->upstream), LW_SPAN("Content-Type"), &type);
  lw_events_init(&s->events, lw_events_kind_of(type));
  s->result.kind = LW_SHOT_WHOLE;
  if (s->events.kind == LW_EVENTS_SSE) s->result.kind = LW_SHOT_SSE;
  if (s->events.kind == LW_EVENTS_LINES) s->result.kind = LW_SHOT_LINES;
  lw_span media;
  bool is_json =
      lw_span_next(&type, ';', &media) && lw_span_ieq(media, LW_SPAN("application/json"));
  if (s->events.kind == LW_EVENTS_NONE && s->stream_expected && !is_json) {
    s->result.kind = LW_SHOT_PIECES;
  }
}

static unsigned count_events(lw_shot *s, lw_span bytes) {
  switch ((lw_shot_kind)s->result.kind) {
    case LW_SHOT_WHOLE:
      return s->event_count == 0;
    case LW_SHOT_PIECES:
      return 1;
    default:
      return lw_events_feed(&s->events, bytes);
  }
}

static void note_events(lw_shot *s, unsigned count, uint64_t now_ns) {
  if (count == 0) return;
  unsigned together = count - 1;
  if (s->event_count == 0) {
    s->first_ns = now_ns;
  } else {
    uint64_t gap = now_ns - s->event_ns;
    s->most_gap_ns = LW_MAX(s->most_gap_ns, gap);
    if (s->gaps) lw_quantile_note(s->gaps, gap);
  }
  if (s->gaps) lw_quantile_note_many(s->gaps, 0, together);
  s->event_ns = now_ns;
  s->event_count += count;
}

static void pour(lw_upstream_sink *sink, lw_span bytes, uint64_t now_ns) {
  lw_shot *s = LW_CONTAINER_OF(sink, lw_shot, sink);
  if (bytes.n == 0) return;
  if (s->received == 0) begin_body(s);
  note_events(s, count_events(s, bytes), now_ns);
  s->last_ns = now_ns;
  keep(s, bytes);
}

/* -- what came of it -- */

static lw_shot_outcome failure(const lw_shot *s, lw_code ending, const lw_upstream_times *t) {
  if (t->sent_ns == 0) return t->connected && s->secure ? LW_SHOT_TLS : LW_SHOT_CONNECT;
  switch (ending) {
    case LW_TIMEOUT:
      return LW_SHOT_TIMEOUT;
    case LW_IO: /* it was to be sent once more */
      return LW_SHOT_CONNECT;
    case LW_PROTOCOL:
      return LW_SHOT_PROTOCOL;
    default:
      return LW_SHOT_BROKEN;
  }
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static void note_times(lw_shot_result *r, const lw_upstream_times *t) {
  r->started = seconds(t->started_ns);
  r->sent = seconds(t->sent_ns);
  r->head = seconds(t->first_byte_ns);
  r->ended = seconds(t->ended_ns);
  r->dns_s = t->dns_s;
  r->connect_s = t->connect_s;
  r->tls_s = t->tls_s;
  r->reused = t->reused;
  r->retried = t->retried;
}

static void note_end(lw_shot *s, lw_code ending, const lw_upstream_times *t) {
  s->ending = ending;
  s->result.outcome = ending == LW_EOF ? LW_SHOT_OK : failure(s, ending, t);
  if (ending == LW_EOF && s->received > 0) {
    note_events(s, s->events.kind ? lw_events_end(&s->events) : 0, s->last_ns);
  }
}

static void look(lw_shot *s) {
  lw_shot_result *r = &s->result;
  if (!s->upstream || s->ending != LW_AGAIN) return;
  lw_upstream_times t;
  lw_upstream_get_times(s->upstream, &t);
  lw_code ending = lw_upstream_ending(s->upstream);
  note_times(r, &t);
  if (ending != LW_AGAIN) note_end(s, ending, &t);
  r->status = lw_upstream_status(s->upstream);
  r->first = seconds(s->first_ns);
  r->last = seconds(s->last_ns);
  r->bytes = (double)s->received;
  r->events = (double)s->event_count;
  r->max_gap_s = seconds(s->most_gap_ns);
  r->gaps = s->event_count ? (int)LW_MIN(s->event_count - 1, (uint64_t)INT32_MAX) : 0;
}

const lw_shot_result *lw_shot_look(lw_shot *s) {
  look(s);
  return &s->result;
}

lw_code lw_shot_wait(lw_shot *s) {
  return s->upstream && lw_upstream_ending(s->upstream) == LW_AGAIN ? LW_AGAIN : LW_OK;
}

const char *lw_shot_error(const lw_shot *s) {
  return s->upstream ? lw_upstream_error(s->upstream) : "it was cancelled";
}

lw_span lw_shot_tail(lw_shot *s) {
  if (s->received <= s->tail_capacity) return (lw_span){s->tail, (size_t)s->received};
  size_t start = (size_t)(s->received & (s->tail_capacity - 1));
  if (!s->straight) s->straight = lw_alloc(s->tail_capacity);
  memcpy(s->straight, s->tail + start, s->tail_capacity - start);
  memcpy(s->straight + s->tail_capacity - start, s->tail, start);
  return (lw_span){s->straight, s->tail_capacity};
}

bool lw_shot_get_header(const lw_shot *s, lw_span name, lw_span *value) {
  *value = LW_SPAN("");
  return s->upstream && lw_headers_get(lw_upstream_headers(s->upstream), name, value);
}

/* -- its life -- */

lw_shot *lw_shot_fire(const lw_shot_plan *p, lw_list *owner, lw_wake *wake, lw_span url,
                      lw_body *body) {
  lw_shot *s = lw_calloc(1, sizeof *s);
  s->sink.pour = pour;
  s->ending = LW_AGAIN;
  s->stream_expected = p->stream_expected;
  s->secure = url.n > 6 && lw_span_ieq((lw_span){url.p, 6}, LW_SPAN("https:"));
  if (p->gaps) s->gaps = lw_quantile_ref(p->gaps);
  s->upstream = lw_upstream_open(lw_span_of(p->method), url, wake);
  lw_upstream_set_sink(s->upstream, &s->sink);
  lw_upstream_set_fields(s->upstream, &p->fields);
  lw_upstream_set_timeouts(s->upstream, &p->timeouts);
  if (body) lw_upstream_body(s->upstream, body, (lw_span){body->p, body->n});
  lw_list_append(owner, &s->node);
  lw_upstream_start(s->upstream);
  return s;
}

void lw_shot_cancel(lw_shot *s) {
  look(s);
  if (s->result.outcome != LW_SHOT_RUNNING) return;
  s->result.outcome = LW_SHOT_CANCELLED;
  s->result.ended = seconds(lw_now_ns());
  lw_upstream_close(s->upstream);
  s->upstream = NULL;
}

void lw_shot_free(lw_shot *s) {
  lw_list_remove(&s->node);
  if (s->upstream) lw_upstream_close(s->upstream);
  lw_quantile_unref(s->gaps);
  free(s->tail);
  free(s->straight);
  free(s);
}

void lw_shot_cancel_all(lw_list *owner) {
  for (lw_list *node = owner->next; node != owner; node = node->next) {
    lw_shot_cancel(LW_CONTAINER_OF(node, lw_shot, node));
  }
}

void lw_shot_free_all(lw_list *owner) {
  while (!lw_list_empty(owner)) lw_shot_free(LW_CONTAINER_OF(owner->next, lw_shot, node));
}

/* SPDX-License-Identifier: MIT
 * The state of one exchange and the answer written for it: head, body framing, clean and abnormal
 * ends, the log line. Called by exchange/server (its connection side) and by the worker layer. Owns
 * the request's body reference and the answer's fields. */
#include "exchange/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "floor/log.h"
#include "wire/json.h"

/* Which states may follow which: a bit per state. */
#define TO(state) (1u << (state))
static const unsigned moves[] = {
    [LW_REQUEST_IDLE] = TO(LW_REQUEST_HEAD) | TO(LW_REQUEST_WAITING),
    [LW_REQUEST_HEAD] = TO(LW_REQUEST_WAITING) | TO(LW_REQUEST_ANSWERING) | TO(LW_REQUEST_GONE),
    [LW_REQUEST_WAITING] = TO(LW_REQUEST_ANSWERING) | TO(LW_REQUEST_CUT) | TO(LW_REQUEST_GONE),
    [LW_REQUEST_ANSWERING] = TO(LW_REQUEST_ENDED) | TO(LW_REQUEST_CUT) | TO(LW_REQUEST_GONE),
    [LW_REQUEST_ENDED] = TO(LW_REQUEST_IDLE),
    [LW_REQUEST_CUT] = TO(LW_REQUEST_IDLE),
    [LW_REQUEST_GONE] = TO(LW_REQUEST_IDLE),
};

void lw_request_move(lw_request *r, lw_request_state to) {
  assert(moves[r->state] & TO(to));
  r->state = to;
  if (r->writer && lw_request_is_over(r)) lw_loop_wake(r->writer);
}

void lw_request_init(lw_request *r, struct lw_client *client) {
  *r = (lw_request){.client = client};
  lw_headers_init(&r->answer);
}

void lw_request_drop_body(lw_request *r) {
  lw_body_unref(r->body);
  r->body = NULL;
}

void lw_request_reset(lw_request *r) {
  lw_request_move(r, LW_REQUEST_IDLE);
  lw_request_drop_body(r);
  lw_headers_clear(&r->answer);
  r->head = NULL;
  r->work = NULL;
  r->writer = NULL;
  r->status = 0;
  r->id[0] = 0;
  r->begun_ns = r->complete_ns = r->first_byte_ns = r->wrote_ns = 0;
  r->bytes_in = r->bytes_out = 0;
  r->said[0] = 0;
}

/* -- identity -- */

static bool id_is_sane(lw_span id) {
  if (id.n == 0 || id.n > LW_REQUEST_ID_MAX) return false;
  for (size_t i = 0; i < id.n; i++) {
    char c = id.p[i];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && !strchr("-_.:/+=@", c)) return false;
  }
  return true;
}

/* A random start, then a step that visits every 64-bit value: unique within the process. */
static uint64_t next_id(void) {
  static uint64_t state;
  if (state == 0 && getrandom(&state, sizeof state, 0) != sizeof state) state = lw_now_ns() | 1;
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void lw_request_take_id(lw_request *r) {
  lw_span given;
  if (lw_headers_get(&r->head->headers, LW_SPAN("x-request-id"), &given) && id_is_sane(given)) {
    memcpy(r->id, given.p, given.n);
    r->id[given.n] = 0;
    return;
  }
  static const char digits[] = "0123456789abcdef";
  uint64_t id = next_id();
  for (int i = 15; i >= 0; i--, id >>= 4) r->id[i] = digits[id & 15];
  r->id[16] = 0;
}

/* -- answering -- */

static lw_h1_framing choose_framing(lw_request *r, int status, uint64_t length) {
  if (status < 200 || status == 204 || status == 304) return LW_H1_NO_BODY;
  if (length != LW_LENGTH_UNKNOWN) return LW_H1_LENGTH;
  if (r->head == NULL || r->head->minor >= 1) return LW_H1_CHUNKED;
  r->keep_alive = false;
  return LW_H1_UNTIL_CLOSE;
}

void lw_response_head(lw_request *r, int status, uint64_t length) {
  if (lw_request_is_over(r)) return;
  lw_request_move(r, LW_REQUEST_ANSWERING);
  r->status = status;
  r->framing = choose_framing(r, status, length);
  if (r->id[0]) {
    lw_headers_add_borrowed(&r->answer, LW_SPAN("X-Request-Id"), lw_span_of(r->id));
  }
  lw_h1_write_head(lw_client_out(r->client), status, r->head ? r->head->minor : 1, &r->answer,
                   r->framing, length, r->keep_alive);
  lw_headers_clear(&r->answer);
  lw_client_flush(r->client);
}

static bool takes_body(const lw_request *r, size_t n) {
  return n && r->state == LW_REQUEST_ANSWERING && r->framing != LW_H1_NO_BODY &&
         !lw_request_is_head(r);
}

static lw_histogram gaps = {.bounds = lw_histogram_short};

const lw_histogram *lw_response_gaps(void) { return &gaps; }

static void note_gap(lw_request *r) {
  uint64_t turn_ns = lw_loop_turn_ns();
  if (r->wrote_ns && turn_ns > r->wrote_ns) lw_histogram_note(&gaps, turn_ns - r->wrote_ns);
  r->wrote_ns = turn_ns;
}

static void note_body(lw_request *r, size_t n) {
  if (!r->first_byte_ns) r->first_byte_ns = lw_now_ns();
  if (r->framing != LW_H1_LENGTH) note_gap(r);
  r->bytes_out += n;
  lw_client_flush(r->client);
}

void lw_response_body(lw_request *r, const void *p, size_t n) {
  if (!takes_body(r, n)) return;
  lw_buf *out = lw_client_out(r->client);
  if (r->framing == LW_H1_CHUNKED) {
    lw_h1_write_chunk(out, p, n);
  } else {
    lw_buf_add(out, p, n);
  }
  note_body(r, n);
}

void lw_response_body_from(lw_request *r, lw_buf *from, size_t n) {
  if (!takes_body(r, n)) {
    lw_buf_consume(from, n);
    return;
  }
  lw_buf *out = lw_client_out(r->client);
  if (r->framing == LW_H1_CHUNKED) {
    lw_h1_write_chunk_from(out, from, n);
  } else {
    lw_buf_move(out, from, n);
  }
  note_body(r, n);
}

bool lw_response_is_full(const lw_request *r) {
  return !lw_request_is_over(r) && lw_buf_is_high(lw_client_out(r->client));
}

void lw_response_end(lw_request *r) {
  if (r->state != LW_REQUEST_ANSWERING) return;
  if (r->framing == LW_H1_CHUNKED && !lw_request_is_head(r)) {
    lw_h1_write_last_chunk(lw_client_out(r->client));
  }
  lw_request_move(r, LW_REQUEST_ENDED);
  lw_client_flush(r->client);
}

void lw_response_cut(lw_request *r) {
  if (lw_request_is_over(r)) return;
  r->keep_alive = false;
  lw_request_move(r, LW_REQUEST_CUT);
}

void lw_response_send(lw_request *r, int status, const char *content_type, lw_span body) {
  if (lw_request_is_over(r)) return;
  lw_headers_add_borrowed(&r->answer, LW_SPAN("Content-Type"), lw_span_of(content_type));
  lw_response_head(r, status, body.n);
  lw_response_body(r, body.p, body.n);
  lw_response_end(r);
}

void lw_response_say(lw_request *r, int status, lw_span json, lw_span reason) {
  if (lw_request_is_over(r)) return;
  reason.n = LW_MIN(reason.n, LW_REQUEST_SAID_MAX);
  memcpy(r->said, reason.p, reason.n);
  r->said[reason.n] = 0;
  lw_response_send(r, status, "application/json", json);
}

void lw_response_error(lw_request *r, int status, const char *source, const char *text) {
  if (r->state == LW_REQUEST_ANSWERING) {
    lw_response_cut(r);
    return;
  }
  if (lw_request_is_over(r)) return;
  char body[1700], quoted[1536];
  lw_span cut = lw_span_of(text);
  cut.n = LW_MIN(cut.n, 240);
  size_t n = lw_json_escape(quoted, cut);
  int size = source ? snprintf(body, sizeof body, "{\"error\":%.*s,\"source\":\"%s\"}", (int)n,
                               quoted, source)
                    : snprintf(body, sizeof body, "{\"error\":%.*s}", (int)n, quoted);
  lw_response_say(r, status, (lw_span){body, (size_t)size}, lw_span_of(text));
}

void lw_response_refuse(lw_request *r, int status, const char *text) {
  r->keep_alive = false;
  lw_response_error(r, status, NULL, text);
}

/* -- the log line -- */

static double ms_between(uint64_t from_ns, uint64_t to_ns) {
  return from_ns && to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

void lw_request_log(const lw_request *r, const lw_request_note *note) {
  bool bad = note->error || r->status >= 500;
  lw_log_level level = note->quiet ? LW_LOG_DEBUG : bad ? LW_LOG_WARN : LW_LOG_INFO;
  if (!lw_log_enabled(level)) return;
  lw_field f[16];
  size_t n = 0;
  bool gone = r->state == LW_REQUEST_GONE;
  f[n++] = lw_field_span("method", r->head ? r->head->method_text : LW_SPAN("-"));
  f[n++] = note->route ? lw_field_text("route", note->route)
                       : lw_field_span("route", r->head ? r->head->path : LW_SPAN("-"));
  f[n++] = lw_field_int("status", gone ? 499 : r->status);
  f[n++] = lw_field_text("outcome", note->outcome ? note->outcome : "none");
  if (note->workload >= 0) f[n++] = lw_field_number("workload", note->workload);
  if (note->queue_ms >= 0) f[n++] = lw_field_number("queue_ms", note->queue_ms);
  if (r->first_byte_ns) {
    f[n++] = lw_field_number("first_byte_ms", ms_between(r->begun_ns, r->first_byte_ns));
  }
  f[n++] = lw_field_number("total_ms", ms_between(r->begun_ns, lw_now_ns()));
  f[n++] = lw_field_int("bytes_in", (int64_t)r->bytes_in);
  f[n++] = lw_field_int("bytes_out", (int64_t)r->bytes_out);
  f[n++] = lw_field_text("request_id", r->id);
  f[n++] = lw_field_text("remote", r->remote);
  if (r->state == LW_REQUEST_CUT) f[n++] = lw_field_text("ending", "cut");
  if (note->source) f[n++] = lw_field_text("source", note->source);
  const char *error = note->error ? note->error : r->said;
  if (*error) f[n++] = lw_field_text("error", error);
  lw_log_fields(level, "request", f, n);
}

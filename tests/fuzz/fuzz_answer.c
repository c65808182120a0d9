/* SPDX-License-Identifier: MIT
 * Any bytes as the answer to a request of a load test, read as exchange/lane does: the head's lines
 * into wire/h1_answer, what is behind into wire/h1_frames, the body into wire/events. In random
 * pieces all must come out as from the whole, and the events as those that are counted in the plain
 * way. A libFuzzer entry; with -DLW_FUZZ_MAIN a program of its own that mutates answers:
 * fuzz_answer [rounds [seed]]. */
#include "fuzz.h"

#include "wire/events.h"
#include "wire/h1_frames.h"

typedef struct reading {
  lw_h1_answer answer;
  lw_h1_frames frames;
  lw_events events;
  bool framed, may_end;
  lw_code code; /* LW_AGAIN: not over yet */
  const char *why;
  char *line, *body; /* with room for all there is */
  size_t line_n, body_n, used;
  unsigned counted;
} reading;

/* -- as the lane does -- */

static void take_line(reading *r, lw_span *in) {
  const char *end = memchr(in->p, '\n', in->n);
  size_t n = end ? (size_t)(end - in->p) + 1 : in->n;
  memcpy(r->line + r->line_n, in->p, n);
  r->line_n += n;
  r->used += n;
  *in = (lw_span){in->p + n, in->n - n};
  if (!end) return;
  r->why = lw_h1_answer_line(&r->answer, (lw_span){r->line, r->line_n});
  if (r->why) r->code = LW_PROTOCOL;
  r->line_n = 0;
}

static void begin_body(reading *r, bool to_head) {
  lw_span type;
  lw_headers_get(&r->answer.headers, LW_SPAN("Content-Type"), &type);
  lw_events_init(&r->events, lw_events_kind_of(type));
  lw_h1_frames_init(&r->frames, &r->answer, to_head);
  r->framed = true;
}

static void take_body(reading *r, lw_span in) {
  const size_t before = in.n;
  lw_span piece;
  while ((r->code = lw_h1_frames_next(&r->frames, &in, &piece, &r->why)) == LW_OK) {
    CHECK(piece.n > 0 && piece.p + piece.n == in.p);
    memcpy(r->body + r->body_n, piece.p, piece.n);
    r->body_n += piece.n;
    if (r->events.kind) r->counted += lw_events_feed(&r->events, piece);
  }
  CHECK(r->code != LW_AGAIN || in.n == 0);
  CHECK((r->code == LW_PROTOCOL) == (r->why != NULL));
  r->used += before - in.n;
  r->may_end = lw_h1_frames_may_end(&r->frames);
}

static void read_in_pieces(reading *r, lw_span in, uint64_t most, bool to_head) {
  *r = (reading){.code = LW_AGAIN, .line = lw_alloc(in.n + 1), .body = lw_alloc(in.n + 1)};
  lw_h1_answer_init(&r->answer);
  while (in.n > 0 && r->code == LW_AGAIN) {
    uint64_t wanted = 1 + next_random(most);
    size_t n = (size_t)LW_MIN(wanted, (uint64_t)in.n);
    char *copy = lw_alloc(n); /* of its own: a read beyond the piece is seen */
    memcpy(copy, in.p, n);
    lw_span piece = {copy, n};
    in = (lw_span){in.p + n, in.n - n};
    while (piece.n > 0 && r->code == LW_AGAIN && !r->answer.complete) take_line(r, &piece);
    if (r->answer.complete && !r->framed) begin_body(r, to_head);
    if (r->framed) take_body(r, piece);
    free(copy);
  }
  if (r->events.kind) r->counted += lw_events_end(&r->events);
}

static void end_reading(reading *r) {
  lw_h1_answer_fini(&r->answer);
  free(r->line);
  free(r->body);
}

/* -- events in the plain way -- */

static bool is_data(lw_span line, bool first) {
  bool is_long = line.n > LW_EVENTS_LINE_START; /* counts, whatever it holds */
  if (first && line.n >= 3 && memcmp(line.p, "\xef\xbb\xbf", 3) == 0) {
    line = (lw_span){line.p + 3, line.n - 3};
  }
  if (line.n < 5 || memcmp(line.p, "data:", 5) != 0) return false;
  lw_span value = lw_span_trim((lw_span){line.p + 5, line.n - 5});
  return is_long || (value.n > 0 && !lw_span_eq(value, LW_SPAN("[DONE]")));
}

static unsigned count_plainly(lw_events_kind kind, lw_span text) {
  unsigned count = 0;
  bool with_data = false, first = true;
  for (size_t at = 0; at < text.n; first = false) {
    size_t end = at;
    while (end < text.n && text.p[end] != '\r' && text.p[end] != '\n') end++;
    lw_span line = {text.p + at, end - at};
    at = end + 1;
    if (end + 1 < text.n && text.p[end] == '\r' && text.p[end + 1] == '\n') at++;
    if (kind == LW_EVENTS_LINES) {
      count += lw_span_trim(line).n > 0;
    } else if (line.n > 0) {
      with_data |= is_data(line, first);
    } else {
      count += with_data;
      with_data = false;
    }
  }
  return count + with_data;
}

static void check_one(lw_span in, bool to_head) {
  reading whole, pieces;
  read_in_pieces(&whole, in, UINT64_MAX, to_head);
  for (uint64_t most = 1; most <= 64; most *= 8) {
    read_in_pieces(&pieces, in, most, to_head);
    CHECK(pieces.code == whole.code && pieces.why == whole.why && pieces.used == whole.used);
    CHECK(pieces.may_end == whole.may_end && pieces.counted == whole.counted);
    CHECK(pieces.body_n == whole.body_n);
    CHECK(memcmp(pieces.body, whole.body, whole.body_n) == 0);
    CHECK(pieces.answer.status == whole.answer.status);
    CHECK(pieces.answer.headers.count == whole.answer.headers.count);
    end_reading(&pieces);
  }
  const lw_h1_answer *a = &whole.answer;
  if (a->has_length) CHECK(whole.body_n <= a->length);
  if (whole.code == LW_EOF && a->has_length && whole.body_n > 0) CHECK(whole.body_n == a->length);
  if (to_head) CHECK(whole.body_n == 0);
  if (whole.events.kind) {
    CHECK(whole.counted == count_plainly(whole.events.kind, (lw_span){whole.body, whole.body_n}));
  }
  end_reading(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  check_one((lw_span){(const char *)p, n}, false);
  check_one((lw_span){(const char *)p, n}, true);
  return 0;
}

#ifdef LW_FUZZ_MAIN
enum {
  MOST = 4096
};

static const char *const heads[] = {
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 40\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 None\nA: b\n\n",
    "HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
};

static const char *const pieces[] = {
    "5\r\ndata:\r\n",
    "7\r\ndata: 1\r\n",
    "2\r\n\n\n\r\n",
    "1\r\n\r\r\n",
    "1\n\n\n",
    "0\r\n\r\n",
    "0\r\nA: b\r\n",
    "\r\n",
    "\n",
    "\r",
    "data: [DONE]\n\n",
    "data: x\r\n\r\n",
    "\xef\xbb\xbf",
    ": comment\n\n",
    "data:\n",
    "e;name=value\r\n",
    "000000000000001",
    "fffffffffffff",
    "{\"a\": 1}\n",
    " \t\n",
    "Content-Length: 3",
    "chunked",
    ":",
    "HTTP/1.1 200 OK\r\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n",
};

static size_t put(uint8_t *to, size_t n, const char *text) {
  size_t size = LW_MIN(strlen(text), MOST - n);
  memcpy(to + n, text, size);
  return n + size;
}

static size_t insert(uint8_t *to, size_t n, const char *text) {
  size_t at = next_random(n + 1), size = LW_MIN(strlen(text), MOST - n);
  memmove(to + at + size, to + at, n - at);
  memcpy(to + at, text, size);
  return n + size;
}

int main(int argc, char **argv) {
  long rounds = read_rounds(argc, argv);
  for (long i = 0; i < rounds; i++) {
    uint8_t text[MOST];
    size_t n = put(text, 0, heads[next_random(LW_ARRAY_SIZE(heads))]);
    for (uint64_t k = next_random(20); k > 0; k--) {
      n = put(text, n, pieces[next_random(LW_ARRAY_SIZE(pieces))]);
    }
    for (uint64_t k = next_random(3); k > 0; k--) {
      n = insert(text, n, pieces[next_random(LW_ARRAY_SIZE(pieces))]);
    }
    for (uint64_t k = next_random(3); k > 0; k--) text[next_random(n)] = (uint8_t)next_random(256);
    LLVMFuzzerTestOneInput(text, next_random(8) ? n : next_random(n + 1));
  }
  printf("fuzz_answer: %ld rounds\n", rounds);
  return 0;
}
#endif

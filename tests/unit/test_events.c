/* SPDX-License-Identifier: MIT
 * What counts as an event, and that it does not matter how the stream is cut: each case is fed
 * whole, byte by byte, and in every pair of pieces. */
#include "wire/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct stream {
  const char *text;
  unsigned events, more_at_end;
} stream;

/* A copy of its own size, so that reading beyond it is seen. */
static unsigned feed(lw_events *e, const char *p, size_t n) {
  char *copy = lw_strdup_n(p, n);
  copy = lw_realloc(copy, LW_MAX(n, 1));
  unsigned count = lw_events_feed(e, (lw_span){copy, n});
  free(copy);
  return count;
}

static void expect(lw_events_kind kind, const stream *s) {
  size_t n = strlen(s->text);
  for (size_t cut = 0; cut <= n; cut++) {
    lw_events e;
    lw_events_init(&e, kind);
    unsigned count = feed(&e, s->text, cut) + feed(&e, s->text + cut, n - cut);
    if (count != s->events) fail_msg("%s: %u events, expected %u", s->text, count, s->events);
    assert_int_equal(lw_events_end(&e), s->more_at_end);
    assert_int_equal(lw_events_end(&e), 0);
  }
  lw_events e;
  unsigned count = 0;
  lw_events_init(&e, kind);
  for (size_t i = 0; i < n; i++) count += feed(&e, s->text + i, 1);
  assert_int_equal(count, s->events);
  assert_int_equal(lw_events_end(&e), s->more_at_end);
}

static void server_sent_events(void **state) {
  (void)state;
  const stream streams[] = {
      {"", 0, 0},
      {"data: a\n\n", 1, 0},
      {"data:a\n\ndata:b\n\n", 2, 0},
      {"data: a\r\n\r\ndata: b\r\n\r\n", 2, 0},
      {"data: a\r\rdata: b\r\r", 2, 0},
      {"data: a\n\r\ndata: b\r\n\n", 2, 0},
      {"data: one\ndata: and the same\n\n", 1, 0}, /* several lines */
      {"data: a\n\n\n\n\n", 1, 0},
      {"\n\n\ndata: a\n\n", 1, 0},
      {": a comment\n\n:\n\ndata: a\n\n", 1, 0},
      {"event: ping\n\nid: 7\nretry: 10\n\n", 0, 0}, /* without data none is dispatched */
      {"event: token\nid: 7\ndata: a\n\n", 1, 0},
      {"data\n\ndata:\n\ndata: \n\n", 0, 0}, /* empty data: the same */
      {"data:\ndata: a\n\n", 1, 0},
      {"database: a\n\nDATA: a\n\n data: a\n\n", 0, 0},
      {"data: a\n\ndata: [DONE]\n\n", 1, 0},
      {"data:[DONE]\r\n\r\n", 0, 0},
      {"data: [DONE] \n\n", 0, 0},
      {"data: [DONE]x\n\ndata: \"[DONE]\"\n\n", 2, 0},
      {"data: [DONE]\ndata: more\n\n", 1, 0},
      {"data: [DONE]                               ......\n\n", 1, 0}, /* more than is kept */
      {"\xef\xbb\xbf"
       "data: a\n\n",
       1, 0}, /* a byte order mark */
      {"data: a\n\n\xef\xbb\xbf"
       "data: b\n\n",
       1, 0},
      {"data: {\"choices\":[{\"delta\":{\"content\":\"a token of many bytes\"}}]}\n\n", 1, 0},
      {"data: a\n\ndata: b\n", 1, 1}, /* the end came too early */
      {"data: a\n\ndata: b", 1, 1},
      {"data: a\n\n: no data", 1, 0},
      {"data: a\n\ndata: [DONE]", 1, 0},
      {"data: a\n\ndat", 1, 0},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(streams); i++) expect(LW_EVENTS_SSE, &streams[i]);
}

static void lines_of_json(void **state) {
  (void)state;
  const stream streams[] = {
      {"", 0, 0},
      {"{}\n{}\n", 2, 0},
      {"{}\r\n{}\r\n", 2, 0},
      {"{}\n\n  \n\t\r\n{}\n", 2, 0},
      {"{}\n{}", 1, 1},
      {"{}\n  ", 1, 0},
      {"{\"text\": \"a line of more than a few bytes, as they come\"}\n1\n", 2, 0},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(streams); i++) expect(LW_EVENTS_LINES, &streams[i]);
}

static void bytes_of_all_kinds(void **state) {
  (void)state;
  char *text = lw_alloc(1 << 20);
  for (size_t i = 0; i < 1 << 20; i++) text[i] = (char)(i * 7);
  for (int kind = LW_EVENTS_SSE; kind <= LW_EVENTS_LINES; kind++) {
    lw_events e;
    lw_events_init(&e, (lw_events_kind)kind);
    feed(&e, text, 1 << 20);
    lw_events_end(&e);
    assert_int_equal(feed(&e, "\n\ndata: a\n\n", 11), 1);
  }
  free(text);
}

static void kinds_by_media_type(void **state) {
  (void)state;
  const struct {
    const char *type;
    lw_events_kind kind;
  } cases[] = {
      {"text/event-stream", LW_EVENTS_SSE},
      {"Text/Event-Stream; charset=utf-8", LW_EVENTS_SSE},
      {"text/event-stream;charset=utf-8", LW_EVENTS_SSE},
      {"application/x-ndjson", LW_EVENTS_LINES},
      {"application/jsonl ; v=1", LW_EVENTS_LINES},
      {"application/json", LW_EVENTS_NONE},
      {"text/event-streams", LW_EVENTS_NONE},
      {"", LW_EVENTS_NONE},
      {";", LW_EVENTS_NONE},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    assert_int_equal(lw_events_kind_of(lw_span_of(cases[i].type)), cases[i].kind);
  }
  assert_int_equal(lw_events_kind_of((lw_span){0, 0}), LW_EVENTS_NONE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(server_sent_events),
      cmocka_unit_test(lines_of_json),
      cmocka_unit_test(bytes_of_all_kinds),
      cmocka_unit_test(kinds_by_media_type),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

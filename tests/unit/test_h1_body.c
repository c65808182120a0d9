/* SPDX-License-Identifier: MIT
 * h1_parse, the body and the stream: chunks, limits of bodies and of their framing, every split of
 * a stream of requests, and what is consumed when. Heads: test_h1_parse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h1_trace.h"

#define HOST "Host: h\r\n"
#define FIELDS(lines) "GET / HTTP/1.1\r\n" HOST lines "\r\n"
#define POST(lines) "POST / HTTP/1.1\r\n" HOST lines "\r\n"
#define CHUNKED POST("Transfer-Encoding: chunked\r\n")

static lw_h1_limits limits;
static uint64_t max_body;

static int use_defaults(void **state) {
  (void)state;
  limits = LW_H1_LIMITS_DEFAULT;
  max_body = 1000;
  return 0;
}

/* end: of the trace; NULL: refused with 400. The head was taken before. */
static void check_chunks(const char *chunks, const char *end) {
  char *request = lw_printf_dup("%s%s", CHUNKED, chunks);
  char *text = h1_trace_both(&limits, max_body, request, strlen(request));
  assert_true(strncmp(text, "POST", 4) == 0);
  if (!(end ? h1_trace_ends(text, end) : h1_trace_status(text) == 400))
    fail_msg("%s\ngot\n%s", chunks, text);
  free(text);
  free(request);
}

static void chunks(void **state) {
  (void)state;
  check_chunks("0\r\n\r\n", "body=[]\nHEAD\n");
  check_chunks("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "body=[hello world]\nHEAD\n");
  check_chunks("a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n",
               "body=[01234567890123456789]\nHEAD\n");
  check_chunks("0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "body=[a]\nHEAD\n");
  check_chunks("1;x\r\na\r\n1; y=\"b c\";z \t=\xc3\xa4\r\nb\r\n0;l\r\n\r\n", "body=[ab]\nHEAD\n");
  check_chunks("2\r\n\r\n\r\n0\r\nVary: *\r\nX:\r\n\r\n", "body=[\r\n]\nHEAD\n");
  check_chunks("1\r\na\r\n0\r\nX: y\r\n\r\nGET", "body=[a]\nHEAD started\n");
  check_chunks("", "BODY\n");
  check_chunks("5\r\nhell", "BODY\n");
  check_chunks("5\r\nhello\r\n0\r\n\r", "BODY\n");
  check_chunks("0\r\nX: y\r\n", "BODY\n");
  static const char *const refused[] = {
      "\r\n",
      "g\r\n",
      "-1\r\n",
      "+1\r\n",
      "0x1\r\n",
      " 1\r\n",
      "1 \r\n",
      "1 ;x\r\n",
      "1_0\r\n",
      ";x\r\n",
      "00000000000000001\r\n",
      "10000000000000000\r\n",
      "1\n",
      "1\r\r\n",
      "1;a\nb\r\n",
      "1;a\rb\r\n",
      "1;a\x01\r\n",
      "1;a \r\n",
      "1\r\nab\r\n",
      "1\r\na\n0\r\n",
      "1\r\na\rb",
      "1\r\na0\r\n",
      "0\r\n\n",
      "0\r\nX: y\n\r\n",
      "0\r\nX\r\n",
      "0\r\nX : y\r\n",
      "0\r\n X: y\r\n",
      "0\r\nX: y\r\n z\r\n",
      "0\r\nX: \x07\r\n",
      "0\r\nHost: h\r\n",
      "0\r\ncontent-length: 1\r\n",
      "0\r\nContent_Length: 1\r\n",
      "0\r\nTransfer-Encoding: chunked\r\n",
      "0\r\nAuthorization: x\r\n",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(refused); i++) check_chunks(refused[i], NULL);
}

static void limit_of_the_body(void **state) {
  (void)state;
  max_body = 10;
  static const struct {
    int status;
    const char *request;
  } cases[] = {
      {0, POST("Content-Length: 10\r\n") "0123456789"},
      {413, POST("Content-Length: 11\r\n")},
      {413, POST("Content-Length: 9223372036854775807\r\n")},
      {0, CHUNKED "A\r\n0123456789\r\n0\r\n\r\n"},
      {413, CHUNKED "B\r\n"},
      {0, CHUNKED "9\r\n012345678\r\n1\r\n9\r\n0\r\n\r\n"},
      {413, CHUNKED "9\r\n012345678\r\n2\r\n"},
      {413, CHUNKED "9\r\n012345678\r\nFFFFFFFFFFFFFFFF\r\n"},
      {413, CHUNKED "9\r\n012345678\r\nfffffffffffffff7\r\n"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    assert_int_equal(
        h1_trace_verdict(&limits, max_body, cases[i].request, strlen(cases[i].request)),
        cases[i].status);
  }
  max_body = 0;
  assert_int_equal(
      h1_trace_verdict(&limits, max_body, CHUNKED "0\r\n\r\n", strlen(CHUNKED "0\r\n\r\n")), 0);
}

static void limits_of_the_chunk_framing(void **state) {
  (void)state;
  /* One line: 1,024 bytes with its CRLF. */
  assert_int_equal(
      h1_trace_run_of(&limits, max_body, CHUNKED "1;", 'x', 1020, "\r\na\r\n0\r\n\r\n"), 0);
  assert_int_equal(
      h1_trace_run_of(&limits, max_body, CHUNKED "1;", 'x', 1021, "\r\na\r\n0\r\n\r\n"), 400);
  assert_int_equal(h1_trace_run_of(&limits, max_body, CHUNKED "1;", 'x', 1021, ""), H1_AWAITS_MORE);
  assert_int_equal(h1_trace_run_of(&limits, max_body, CHUNKED "1;", 'x', 1022, ""), 400);
  assert_int_equal(h1_trace_run_of(&limits, max_body, CHUNKED "0\r\nX:", 'x', 1020, "\r\n\r\n"), 0);
  assert_int_equal(h1_trace_run_of(&limits, max_body, CHUNKED "0\r\nX:", 'x', 1021, "\r\n\r\n"),
                   400);
  /* All extensions and trailers together: 16,384. */
  for (size_t last = 383; last <= 385; last++) {
    lw_body *b = lw_body_new();
    lw_body_append(b, CHUNKED, strlen(CHUNKED));
    char line[1100];
    for (int i = 0; i < 16; i++) {
      int n = sprintf(line, "1;%0999d\r\na\r\n", 0);
      lw_body_append(b, line, (size_t)n);
    }
    int n = sprintf(line, "0\r\nX:%0*d\r\n\r\n", (int)last - 2, 0);
    lw_body_append(b, line, (size_t)n);
    assert_int_equal(h1_trace_verdict(&limits, max_body, b->p, b->n), last == 385 ? 400 : 0);
    lw_body_unref(b);
  }
}

static void every_split_gives_the_same(void **state) {
  (void)state;
  static const char *const requests[] = {
      "\r\nGET /a?b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
      POST("Content-Length: 11\r\nExpect: 100-continue\r\n") "hello world",
      CHUNKED "5;a=b\r\nhello\r\n6\r\n world\r\n0;c\r\nX: y\r\nZ: w\r\n\r\n",
      POST("Content-Length: 3\r\n") "abc" FIELDS("X: y\r\n") "\r\n" CHUNKED "1\r\na\r\n0\r\n\r\nGE",
      POST("Content-Length: 3\r\nContent-Length: 3\r\n") "abc",
      CHUNKED "3\r\nabcd\r\n",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(requests); i++) {
    size_t n = strlen(requests[i]);
    char *whole = h1_trace_new(&limits, max_body, requests[i], n, SIZE_MAX, SIZE_MAX);
    for (size_t first = 1; first < n; first++) {
      for (size_t second = 1; second <= n - first; second++) {
        char *split = h1_trace_new(&limits, max_body, requests[i], n, first, second);
        assert_string_equal(split, whole);
        free(split);
      }
    }
    free(whole);
  }
}

static void pipelined_rest_is_not_consumed(void **state) {
  (void)state;
  const char *first = POST("Content-Length: 3\r\n"), *both = POST("Content-Length: 3\r\n") "abcGET";
  lw_h1_parser *p = lw_h1_new(&limits);
  assert_false(lw_h1_started(p));
  assert_int_equal(lw_h1_feed(p, both, strlen(both)), strlen(first));
  assert_int_equal(lw_h1_state_of(p), LW_H1_READY);
  assert_int_equal(lw_h1_feed(p, "abcGET", 6), 0);
  const char *block = lw_h1_head_of(p)->method_text.p;
  assert_true(block < both || block >= both + strlen(both));
  lw_body *body = lw_body_new();
  lw_body_append(body, "before", 6); /* what stands in it already does not count */
  lw_h1_begin_body(p, body, 3);
  assert_int_equal(lw_h1_state_of(p), LW_H1_BODY);
  assert_int_equal(lw_h1_feed(p, "abcGET", 6), 3);
  assert_int_equal(lw_h1_state_of(p), LW_H1_DONE);
  assert_int_equal(lw_h1_feed(p, "GET", 3), 0);
  assert_true(lw_span_eq((lw_span){body->p, body->n}, LW_SPAN("beforeabc")));
  lw_h1_next(p);
  assert_false(lw_h1_started(p));
  assert_int_equal(lw_h1_feed(p, "\r\n", 2), 2);
  assert_false(lw_h1_started(p));
  assert_int_equal(lw_h1_feed(p, "G", 1), 1);
  assert_true(lw_h1_started(p));
  assert_int_equal(lw_h1_feed(p, "ET / HTTP/1.0\r\n\r\n", 17), 17);
  assert_ptr_equal(lw_h1_head_of(p)->method_text.p, block); /* the block is used again */
  assert_int_equal(lw_h1_head_of(p)->headers.count, 0);
  lw_h1_begin_body(p, body, 0);
  assert_int_equal(lw_h1_state_of(p), LW_H1_DONE);
  lw_body_unref(body);
  lw_h1_free(p);
}

static void nothing_is_consumed_after_an_error(void **state) {
  (void)state;
  static const char *const requests[] = {"G@T / HTTP/1.1\r\n", CHUNKED "x\r\n", CHUNKED "9999\r\n",
                                         POST("Content-Length: 9999\r\n")};
  for (size_t i = 0; i < LW_ARRAY_SIZE(requests); i++) {
    lw_h1_parser *p = lw_h1_new(&limits);
    size_t whole = SIZE_MAX;
    free(h1_trace(p, requests[i], strlen(requests[i]), max_body, h1_trace_whole, &whole));
    assert_int_equal(lw_h1_state_of(p), LW_H1_ERROR);
    int status = lw_h1_error_status(p);
    assert_int_equal(lw_h1_feed(p, "GET / HTTP/1.0\r\n\r\n", 18), 0);
    assert_int_equal(lw_h1_state_of(p), LW_H1_ERROR);
    assert_int_equal(lw_h1_error_status(p), status);
    assert_true(strlen(lw_h1_error_text(p)) > 10);
    assert_true(lw_h1_started(p));
    lw_h1_free(p);
  }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup(f, use_defaults)
  const struct CMUnitTest tests[] = {
      TEST(chunks),
      TEST(limit_of_the_body),
      TEST(limits_of_the_chunk_framing),
      TEST(every_split_gives_the_same),
      TEST(pipelined_rest_is_not_consumed),
      TEST(nothing_is_consumed_after_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

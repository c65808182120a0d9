/* SPDX-License-Identifier: MIT
 * wire/h1_write: exact heads for each framing, what is left out of them, the Date, and chunks read
 * back by a decoder of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "wire/h1_write.h"

#define DATE "Date", "Thu, 01 Jan 1970 00:00:00 GMT"
#define DATE_LINE "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

/* Takes everything out of the buf; NUL-terminated, to be freed. */
static char *drain(lw_buf *b, size_t *n) {
  size_t size = b->size, at = 0;
  char *bytes = lw_alloc(size + 1);
  while (b->size > 0) {
    lw_span s = lw_buf_peek(b);
    memcpy(bytes + at, s.p, s.n);
    at += s.n;
    lw_buf_consume(b, s.n);
  }
  assert_int_equal(at, size);
  bytes[size] = '\0';
  if (n) *n = size;
  return bytes;
}

static void add(lw_headers *h, const char *name, const char *value) {
  lw_headers_add(h, lw_span_of(name), lw_span_of(value));
}

typedef struct head_case {
  int status, minor;
  lw_h1_framing framing;
  uint64_t length;
  bool keep_alive;
  const char *expected;
} head_case;

static void assert_head(const lw_headers *h, const head_case *c, size_t illegal) {
  lw_buf out;
  lw_buf_init(&out, 0, 1, 0);
  assert_int_equal(
      lw_h1_write_head(&out, c->status, c->minor, h, c->framing, c->length, c->keep_alive),
      illegal);
  char *text = drain(&out, NULL);
  assert_string_equal(text, c->expected);
  free(text);
}

static void test_framings(void **state) {
  (void)state;
  static const head_case cases[] = {
      {200, 1, LW_H1_LENGTH, 0, true, "HTTP/1.1 200 OK\r\n" DATE_LINE "Content-Length: 0\r\n\r\n"},
      {201, 1, LW_H1_LENGTH, UINT64_MAX, true,
       "HTTP/1.1 201 Created\r\n" DATE_LINE "Content-Length: 18446744073709551615\r\n\r\n"},
      {200, 1, LW_H1_LENGTH, 1234567890, false,
       "HTTP/1.1 200 OK\r\n" DATE_LINE "Content-Length: 1234567890\r\nConnection: close\r\n\r\n"},
      {200, 0, LW_H1_LENGTH, 5, true,
       "HTTP/1.1 200 OK\r\n" DATE_LINE "Content-Length: 5\r\nConnection: keep-alive\r\n\r\n"},
      {200, 0, LW_H1_LENGTH, 5, false,
       "HTTP/1.1 200 OK\r\n" DATE_LINE "Content-Length: 5\r\nConnection: close\r\n\r\n"},
      {502, 1, LW_H1_CHUNKED, 99, true,
       "HTTP/1.1 502 Bad Gateway\r\n" DATE_LINE "Transfer-Encoding: chunked\r\n\r\n"},
      {200, 0, LW_H1_UNTIL_CLOSE, 99, false,
       "HTTP/1.1 200 OK\r\n" DATE_LINE "Connection: close\r\n\r\n"},
      {200, 0, LW_H1_UNTIL_CLOSE, 0, true,
       "HTTP/1.1 200 OK\r\n" DATE_LINE "Connection: close\r\n\r\n"},
      {204, 1, LW_H1_NO_BODY, 99, true, "HTTP/1.1 204 No Content\r\n" DATE_LINE "\r\n"},
      {999, 1, LW_H1_NO_BODY, 0, true, "HTTP/1.1 999 Unknown\r\n" DATE_LINE "\r\n"},
      {0, 1, LW_H1_NO_BODY, 0, true, "HTTP/1.1 500 Internal Server Error\r\n" DATE_LINE "\r\n"},
      {1000, 1, LW_H1_NO_BODY, 0, true, "HTTP/1.1 500 Internal Server Error\r\n" DATE_LINE "\r\n"},
      {-200, 1, LW_H1_NO_BODY, 0, true, "HTTP/1.1 500 Internal Server Error\r\n" DATE_LINE "\r\n"},
  };
  lw_headers h;
  lw_headers_init(&h);
  add(&h, DATE);
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) assert_head(&h, &cases[i], 0);
  lw_headers_fini(&h);
}

static void test_left_out(void **state) {
  (void)state;
  lw_headers h;
  lw_headers_init(&h);
  add(&h, "Content-Type", "text/event-stream");
  add(&h, "content-length", "99");
  add(&h, "Transfer-Encoding", "chunked");
  add(&h, "Keep-Alive", "timeout=5");
  add(&h, "Connection", "X-Private, close");
  add(&h, "x-private", "secret");
  add(&h, "Set-Cookie", "a=1");
  add(&h, "Set-Cookie", "b=2");
  add(&h, "X-Empty", "");
  add(&h, "dAtE", "Thu, 01 Jan 1970 00:00:00 GMT");
  const head_case c = {200,
                       1,
                       LW_H1_LENGTH,
                       3,
                       true,
                       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=1\r\n"
                       "Set-Cookie: b=2\r\nX-Empty: \r\ndAtE: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                       "Content-Length: 3\r\n\r\n"};
  assert_head(&h, &c, 0);
  lw_headers_fini(&h);
}

static void test_illegal(void **state) {
  (void)state;
  lw_headers h;
  lw_headers_init(&h);
  add(&h, DATE);
  add(&h, "X-Split", "a\r\nSet-Cookie: forged=1");
  add(&h, "X Name", "a");
  add(&h, "", "a");
  add(&h, "X-Name:", "a");
  add(&h, "X-Lf", "a\nb");
  add(&h, "X-Pad", " a");
  lw_headers_add(&h, LW_SPAN("X-Nul"), LW_SPAN("a\0b"));
  lw_headers_add(&h, LW_SPAN("X\r\nY"), LW_SPAN("a"));
  add(&h, "X-Good", "caf\xc3\xa9\tx");
  const head_case c = {200, 1,    LW_H1_NO_BODY,
                       0,   true, "HTTP/1.1 200 OK\r\n" DATE_LINE "X-Good: caf\xc3\xa9\tx\r\n\r\n"};
  assert_head(&h, &c, 8);
  lw_headers_fini(&h);

  lw_headers_init(&h); /* an illegal Date does not stand in for the one that must be there */
  add(&h, "Date", "now\n");
  lw_buf out;
  lw_buf_init(&out, 0, 1, 0);
  assert_int_equal(lw_h1_write_head(&out, 200, 1, &h, LW_H1_NO_BODY, 0, true), 1);
  char *text = drain(&out, NULL);
  assert_non_null(strstr(text, " GMT\r\n"));
  free(text);
  lw_headers_fini(&h);
}

static void test_date(void **state) {
  (void)state;
  lw_headers none;
  lw_headers_init(&none);
  lw_buf out;
  lw_buf_init(&out, 0, 1, 0);
  for (int i = 0; i < 2; i++) { /* made, then from the cache */
    time_t before = time(NULL);
    lw_h1_write_head(&out, 304, 1, &none, LW_H1_NO_BODY, 0, true);
    time_t after = time(NULL);
    char *text = drain(&out, NULL);
    static const char start[] = "HTTP/1.1 304 Not Modified\r\nDate: ";
    assert_memory_equal(text, start, sizeof start - 1);
    struct tm t = {0};
    const char *rest = strptime(text + sizeof start - 1, "%a, %d %b %Y %H:%M:%S GMT", &t);
    assert_non_null(rest);
    assert_string_equal(rest, "\r\n\r\n");
    time_t said = timegm(&t);
    assert_true(said >= before - 1 && said <= after + 1);
    assert_int_equal(strlen(text), sizeof start - 1 + 29 + 4);
    free(text);
  }
  assert_int_equal(none.count, 0);
}

/* A usual head is one contiguous piece; a huge one is still whole. */
static void test_sizes(void **state) {
  (void)state;
  lw_headers h;
  lw_headers_init(&h);
  char name[32];
  for (int i = 0; i < 10; i++) {
    snprintf(name, sizeof name, "X-Field-%d", i);
    add(&h, name, "some value of a usual length");
  }
  lw_buf out;
  lw_buf_init(&out, 0, 1, 0);
  lw_h1_write_head(&out, 200, 1, &h, LW_H1_CHUNKED, 0, true);
  assert_int_equal(lw_buf_peek(&out).n, out.size);
  lw_buf_fini(&out);

  char *large = lw_alloc(10001);
  for (size_t n = 1; n < 10000; n = n * 2 + 37) {
    memset(large, 'v', n);
    large[n] = '\0';
    add(&h, "Large", large);
  }
  add(&h, DATE);
  lw_h1_write_head(&out, 200, 1, &h, LW_H1_LENGTH, 12, true);
  lw_buf expected;
  lw_buf_init(&expected, 0, 1, 0);
  lw_buf_printf(&expected, "HTTP/1.1 200 OK\r\n");
  for (size_t i = 0; i < h.count; i++) {
    lw_header f = h.items[i];
    lw_buf_printf(&expected, "%.*s: %.*s\r\n", (int)f.name.n, f.name.p, (int)f.value.n, f.value.p);
  }
  lw_buf_printf(&expected, "Content-Length: 12\r\n\r\n");
  char *got = drain(&out, NULL), *wanted = drain(&expected, NULL);
  assert_string_equal(got, wanted);
  free(got);
  free(wanted);
  free(large);
  lw_headers_fini(&h);
}

static void test_reasons(void **state) {
  (void)state;
  assert_string_equal(lw_h1_reason(200), "OK");
  assert_string_equal(lw_h1_reason(422), "Unprocessable Content");
  assert_string_equal(lw_h1_reason(429), "Too Many Requests");
  assert_string_equal(lw_h1_reason(504), "Gateway Timeout");
  assert_string_equal(lw_h1_reason(299), "Unknown");
  assert_string_equal(lw_h1_reason(-1), "Unknown");
}

static void test_fixed_pieces(void **state) {
  (void)state;
  lw_buf out;
  lw_buf_init(&out, 0, 1, 0);
  lw_h1_write_continue(&out);
  lw_h1_write_chunk(&out, "abc", 3);
  lw_h1_write_chunk(&out, "0123456789abcdef", 16);
  lw_h1_write_last_chunk(&out);
  char *text = drain(&out, NULL);
  assert_string_equal(
      text, "HTTP/1.1 100 Continue\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
  free(text);
}

/* One chunk at *at: its bytes must be the next of `expected`. Returns its length. */
static size_t read_chunk(const char *bytes, size_t size, size_t *at, const char *expected) {
  char *end;
  assert_true(*at < size && bytes[*at] != '0');
  size_t n = strtoul(bytes + *at, &end, 16);
  *at = (size_t)(end - bytes);
  assert_memory_equal(end, "\r\n", 2);
  assert_true(*at + n + 4 <= size);
  assert_memory_equal(bytes + *at + 2, expected, n);
  assert_memory_equal(bytes + *at + 2 + n, "\r\n", 2);
  *at += n + 4;
  return n;
}

static void test_chunks(void **state) {
  (void)state;
  static const size_t sizes[] = {1,    15,   16,   511,   512,   513,   2000,  2041, 2042,  2048,
                                 2049, 4095, 4096, 16383, 16384, 16385, 65536, 7,    70000, 200000};
  enum {
    N = 600000
  };
  char *bytes = lw_alloc(N);
  for (int i = 0; i < N; i++) bytes[i] = (char)(i * 31 + (i >> 8) * 7);
  for (int way = 0; way < 2; way++) {
    lw_buf from, out;
    lw_buf_init(&from, 0, 1, 0);
    lw_buf_init(&out, 0, 1, 0);
    lw_buf_add(&from, bytes, 10);
    lw_buf_add(&from, bytes + 10, N - 10);
    size_t sent = 0;
    for (size_t i = 0; i < LW_ARRAY_SIZE(sizes); sent += sizes[i], i++) {
      if (way == 0)
        lw_h1_write_chunk(&out, bytes + sent, sizes[i]);
      else
        lw_h1_write_chunk_from(&out, &from, sizes[i]);
    }
    assert_int_equal(from.size, way == 0 ? N : N - sent);
    size_t size, at = 0, got = 0;
    char *wire = drain(&out, &size);
    for (size_t i = 0; i < LW_ARRAY_SIZE(sizes); i++) {
      size_t n = read_chunk(wire, size, &at, bytes + got);
      assert_int_equal(n, sizes[i]);
      got += n;
    }
    assert_int_equal(at, size);
    free(wire);
    lw_buf_fini(&from);
  }
  free(bytes);
}

/* A small chunk whose bytes lie in two pieces of `from`. */
static void test_chunk_across_pieces(void **state) {
  (void)state;
  enum {
    N = 5000
  };
  char *bytes = lw_alloc(N);
  for (int i = 0; i < N; i++) bytes[i] = (char)(i * 31);
  lw_buf from, out;
  lw_buf_init(&from, 0, 1, 0);
  lw_buf_init(&out, 0, 1, 0);
  for (int i = 0; i < N; i += 100) lw_buf_add(&from, bytes + i, 100);
  size_t first = lw_buf_peek(&from).n;
  assert_true(first < N - 10);
  lw_buf_consume(&from, first - 10);
  lw_h1_write_chunk_from(&out, &from, 20);
  size_t size, at = 0;
  char *wire = drain(&out, &size);
  assert_int_equal(read_chunk(wire, size, &at, bytes + first - 10), 20);
  assert_int_equal(at, size);
  free(wire);
  free(bytes);
  lw_buf_fini(&from);
}

static int drop_spares(void **state) {
  (void)state;
  lw_buf_drop_spares();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_framings),
      cmocka_unit_test(test_left_out),
      cmocka_unit_test(test_illegal),
      cmocka_unit_test(test_date),
      cmocka_unit_test(test_sizes),
      cmocka_unit_test(test_reasons),
      cmocka_unit_test(test_fixed_pieces),
      cmocka_unit_test(test_chunks),
      cmocka_unit_test(test_chunk_across_pieces),
  };
  return cmocka_run_group_tests_name("h1_write", tests, NULL, drop_spares);
}

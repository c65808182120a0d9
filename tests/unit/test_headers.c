/* SPDX-License-Identifier: MIT
 * wire/headers: lists of fields, and which names, values, lengths and tokens are what RFC 9110
 * says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "wire/headers.h"

static void assert_span(lw_span s, const char *text) {
  assert_int_equal(s.n, strlen(text));
  if (s.n > 0) assert_memory_equal(s.p, text, s.n);
}

static void test_add_and_get(void **state) {
  (void)state;
  lw_headers h;
  lw_span value;
  lw_headers_init(&h);
  assert_false(lw_headers_get(&h, LW_SPAN("A"), &value));
  assert_int_equal(value.n, 0);
  lw_headers_add(&h, LW_SPAN("X-One"), LW_SPAN("first"));
  lw_headers_add(&h, LW_SPAN("X-Two"), LW_SPAN(""));
  lw_headers_add(&h, LW_SPAN("x-one"), LW_SPAN("second"));
  assert_true(lw_headers_get(&h, LW_SPAN("X-ONE"), &value));
  assert_span(value, "first");
  assert_true(lw_headers_get(&h, LW_SPAN("x-two"), &value));
  assert_span(value, "");
  value = LW_SPAN("left over");
  assert_false(lw_headers_get(&h, LW_SPAN("X-On"), &value));
  assert_true(value.n == 0 && !value.p);
  assert_int_equal(lw_headers_count(&h, LW_SPAN("x-One")), 2);
  assert_int_equal(lw_headers_count(&h, LW_SPAN("x-three")), 0);
  assert_span(h.items[2].name, "x-one");
  assert_span(h.items[2].value, "second");
  lw_headers_fini(&h);
  assert_int_equal(h.count, 0);
  lw_headers_fini(&h);
}

static void test_borrowed_and_owned(void **state) {
  (void)state;
  lw_headers h;
  lw_span value;
  char name[] = "Name", bytes[] = "value";
  lw_headers_init(&h);
  lw_headers_add_borrowed(&h, lw_span_of(name), lw_span_of(bytes));
  assert_true(lw_headers_get(&h, LW_SPAN("Name"), &value));
  assert_ptr_equal(value.p, bytes);
  lw_headers_add(&h, LW_SPAN("Copy"), lw_span_of(bytes));
  bytes[0] = 'X';
  assert_true(lw_headers_get(&h, LW_SPAN("Copy"), &value));
  assert_span(value, "value");
  lw_headers_fini(&h);
}

/* Spans stay good while the list and its arena grow; a value may be larger than a block. */
static void test_growth(void **state) {
  (void)state;
  enum {
    N = 500
  };
  lw_headers h;
  char name[32], value[32], large[5000];
  lw_headers_init(&h);
  for (int i = 0; i < N; i++) {
    snprintf(name, sizeof name, "Name-%d", i);
    snprintf(value, sizeof value, "value %d", i * 7);
    lw_headers_add(&h, lw_span_of(name), lw_span_of(value));
    if (i == N / 2) {
      memset(large, 'x', sizeof large);
      lw_headers_add(&h, LW_SPAN("Large"), (lw_span){large, sizeof large});
    }
  }
  assert_int_equal(h.count, N + 1);
  for (int i = 0; i < N; i++) {
    lw_span got;
    snprintf(name, sizeof name, "NAME-%d", i);
    snprintf(value, sizeof value, "value %d", i * 7);
    assert_true(lw_headers_get(&h, lw_span_of(name), &got));
    assert_span(got, value);
  }
  assert_int_equal(h.items[N / 2 + 1].value.n, sizeof large);
  assert_memory_equal(h.items[N / 2 + 1].value.p, large, sizeof large);
  lw_headers_fini(&h);
}

static void test_tokens(void **state) {
  (void)state;
  lw_headers h;
  lw_headers_init(&h);
  lw_headers_add_borrowed(&h, LW_SPAN("Connection"), LW_SPAN("Keep-Alive , x-foo"));
  lw_headers_add_borrowed(&h, LW_SPAN("Other"), LW_SPAN("close"));
  lw_headers_add_borrowed(&h, LW_SPAN("connection"), LW_SPAN(",,UPGRADE"));
  lw_span name = LW_SPAN("Connection");
  assert_true(lw_headers_has_token(&h, name, LW_SPAN("keep-alive")));
  assert_true(lw_headers_has_token(&h, name, LW_SPAN("X-Foo")));
  assert_true(lw_headers_has_token(&h, name, LW_SPAN("upgrade")));
  assert_false(lw_headers_has_token(&h, name, LW_SPAN("close")));
  assert_false(lw_headers_has_token(&h, name, LW_SPAN("keep")));
  assert_false(lw_headers_has_token(&h, name, LW_SPAN("")));
  lw_headers_fini(&h);
}

static void test_names(void **state) {
  (void)state;
  const char *legal =
      "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  for (int c = 0; c < 256; c++) {
    char name[] = {'a', (char)c, 'z'};
    bool expected = c != 0 && strchr(legal, c) != NULL;
    assert_int_equal(lw_header_name_ok((lw_span){name, 3}), expected);
    assert_int_equal(lw_header_name_ok((lw_span){name + 1, 1}), expected);
  }
  assert_false(lw_header_name_ok(LW_SPAN("")));
  assert_true(lw_header_name_ok(LW_SPAN("Content-Type")));
}

static void test_values(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) {
    char value[] = {'a', (char)c, 'z'};
    bool expected = c == '\t' || (c >= 0x20 && c != 0x7f);
    assert_int_equal(lw_header_value_ok((lw_span){value, 3}), expected);
    bool alone = expected && c != '\t' && c != ' ';
    assert_int_equal(lw_header_value_ok((lw_span){value, 2}), alone);
    assert_int_equal(lw_header_value_ok((lw_span){value + 1, 2}), alone);
  }
  assert_true(lw_header_value_ok(LW_SPAN("")));
  assert_true(lw_header_value_ok(lw_span_of(NULL)));
  assert_false(lw_header_value_ok(LW_SPAN("a\r\nX: y")));
  /* Every byte at every place: values are looked at eight bytes at a time. */
  char large[20];
  for (size_t at = 1; at < sizeof large - 1; at++) {
    memset(large, 'v', sizeof large);
    for (int c = 0; c < 256; c++) {
      large[at] = (char)c;
      bool expected = c == '\t' || (c >= 0x20 && c != 0x7f);
      assert_int_equal(lw_header_value_ok((lw_span){large, sizeof large}), expected);
      large[at - 1] = '\t';
      assert_int_equal(lw_header_value_ok((lw_span){large, sizeof large}), expected && at > 1);
      large[at - 1] = 'v';
    }
  }
}

static void test_hop_by_hop(void **state) {
  (void)state;
  static const char *const ours[] = {"connection",
                                     "KEEP-ALIVE",
                                     "Proxy-Connection",
                                     "Proxy-Authenticate",
                                     "Proxy-Authorization",
                                     "te",
                                     "Trailer",
                                     "transfer-encoding",
                                     "Upgrade"};
  static const char *const others[] = {
      "Content-Length", "Content-Type", "Date",        "TF",
      "Trailes",        "Upgraded",     "connectioN2", "Accept-Te"};
  lw_headers h;
  lw_headers_init(&h);
  for (size_t i = 0; i < LW_ARRAY_SIZE(ours); i++) {
    assert_true(lw_header_is_hop_by_hop(&h, lw_span_of(ours[i])));
    assert_true(lw_header_is_hop_by_hop(NULL, lw_span_of(ours[i])));
  }
  for (size_t i = 0; i < LW_ARRAY_SIZE(others); i++) {
    assert_false(lw_header_is_hop_by_hop(&h, lw_span_of(others[i])));
    assert_false(lw_header_is_hop_by_hop(NULL, lw_span_of(others[i])));
  }
  lw_headers_add_borrowed(&h, LW_SPAN("Connection"), LW_SPAN("close, X-Private"));
  assert_true(lw_header_is_hop_by_hop(&h, LW_SPAN("x-private")));
  assert_false(lw_header_is_hop_by_hop(&h, LW_SPAN("x-public")));
  assert_false(lw_header_is_hop_by_hop(NULL, LW_SPAN("x-private")));
  lw_headers_fini(&h);
}

static void test_length(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t value;
  } good[] = {{"0", 0},
              {"000", 0},
              {"42", 42},
              {"00000000000000000000000000042", 42},
              {"9223372036854775800", 9223372036854775800u},
              {"9223372036854775807", INT64_MAX}};
  static const char *const bad[] = {"",
                                    "+1",
                                    "-1",
                                    "1 ",
                                    " 1",
                                    "1,1",
                                    "0x10",
                                    "1.0",
                                    "1e3",
                                    "१२",
                                    "1\t2",
                                    "9223372036854775808",
                                    "9223372036854775810",
                                    "18446744073709551616",
                                    "99999999999999999999999",
                                    "/",
                                    ":"};
  uint64_t length;
  for (size_t i = 0; i < LW_ARRAY_SIZE(good); i++) {
    length = 7777;
    assert_true(lw_header_parse_length(lw_span_of(good[i].text), &length));
    assert_true(length == good[i].value);
  }
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    length = 7777;
    assert_false(lw_header_parse_length(lw_span_of(bad[i]), &length));
    assert_true(length == 7777);
  }
  assert_false(lw_header_parse_length(LW_SPAN("1\0"), &length));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_add_and_get), cmocka_unit_test(test_borrowed_and_owned),
      cmocka_unit_test(test_growth),      cmocka_unit_test(test_tokens),
      cmocka_unit_test(test_names),       cmocka_unit_test(test_values),
      cmocka_unit_test(test_hop_by_hop),  cmocka_unit_test(test_length),
  };
  return cmocka_run_group_tests_name("headers", tests, NULL, NULL);
}

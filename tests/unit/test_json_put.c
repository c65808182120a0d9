/* SPDX-License-Identifier: MIT
 * What is written piece by piece is JSON, byte for byte. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/doc.h"
#include "wire/json_put.h"

static lw_body *body;

static int begin(void **state) {
  (void)state;
  body = lw_body_new();
  return 0;
}
static int end(void **state) {
  (void)state;
  lw_body_unref(body);
  lw_doc_drop_spares();
  return 0;
}

static void expect(const char *text) {
  if (body->n != strlen(text) || memcmp(body->p, text, body->n) != 0) {
    fail_msg("got %.*s, want %s", (int)body->n, body->p, text);
  }
}

static void a_whole_document(void **state) {
  (void)state;
  lw_put(body, "{\"i\":");
  lw_put_integer(body, -5);
  lw_put(body, ",\"n\":");
  lw_put_number(body, 0.1);
  lw_put(body, ",\"b\":[");
  lw_put_bool(body, true);
  lw_put(body, ",");
  lw_put_bool(body, false);
  lw_put(body, "],\"s\":");
  lw_put_text(body, "x");
  lw_put(body, "}");
  expect("{\"i\":-5,\"n\":0.1,\"b\":[true,false],\"s\":\"x\"}");
  lw_doc *d = lw_doc_parse(body);
  assert_null(d->json.error);
  lw_doc_unref(d);
}

static void integers_to_their_ends(void **state) {
  (void)state;
  lw_put_integer(body, INT64_MAX);
  lw_put(body, " ");
  lw_put_integer(body, INT64_MIN);
  lw_put(body, " ");
  lw_put_integer(body, 0);
  expect("9223372036854775807 -9223372036854775808 0");
}

static void numbers(void **state) {
  (void)state;
  static const double values[] = {0,      -0.0, 1.5,      1793480000.25, 1e300,
                                  5e-324, NAN,  INFINITY, -INFINITY};
  for (size_t i = 0; i < LW_ARRAY_SIZE(values); i++) {
    if (i) lw_put(body, " ");
    lw_put_number(body, values[i]);
  }
  expect("0 -0 1.5 1793480000.25 1e+300 5e-324 0 0 0");
}

static void strings_are_escaped(void **state) {
  (void)state;
  lw_put_string(body, (lw_span){"\"\\\n\0\x1f/\xc3\xa9", 8});
  expect("\"\\\"\\\\\\n\\u0000\\u001f/\xc3\xa9\"");
}

static void broken_utf8_becomes_a_replacement(void **state) {
  (void)state;
  lw_put_string(body, (lw_span){"a\xff\x62", 3});
  expect(
      "\"a\xef\xbf\xbd"
      "b\"");
}

static void empty_ones(void **state) {
  (void)state;
  lw_put(body, "");
  lw_put_text(body, "");
  lw_put_string(body, (lw_span){NULL, 0});
  expect("\"\"\"\"");
}

static void a_long_string(void **state) {
  (void)state;
  enum {
    N = 300000
  };
  char *text = lw_alloc(N);
  memset(text, '\n', N);
  lw_put_string(body, (lw_span){text, N});
  assert_int_equal(body->n, 2 * N + 2);
  free(text);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(a_whole_document),
      CASE(integers_to_their_ends),
      CASE(numbers),
      CASE(strings_are_escaped),
      CASE(broken_utf8_becomes_a_replacement),
      CASE(empty_ones),
      CASE(a_long_string),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

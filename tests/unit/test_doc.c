/* SPDX-License-Identifier: MIT
 * wire/doc: counted references, the text outliving its giver, recycling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka needs the three above. */
#include <cmocka.h>

#include "wire/doc.h"

static lw_body *body_of(const char *text) {
  lw_body *b = lw_body_new();
  lw_body_append(b, text, strlen(text));
  return b;
}

static void test_parse_holds_the_body(void **state) {
  (void)state;
  lw_body *body = body_of("{\"a\":\"text\"}");
  lw_doc *d = lw_doc_parse(body);
  assert_int_equal(d->refs, 1);
  assert_int_equal(body->refs, 2);
  lw_body_unref(body);
  assert_null(d->json.error);
  uint32_t a = lw_json_member(&d->json, 0, LW_SPAN("a"));
  assert_true(lw_span_eq(lw_json_string(&d->json, a), LW_SPAN("text")));
  assert_ptr_equal(d->json.text, d->body->p);
  lw_doc_unref(d);
}

static void test_unref_gives_the_body_back(void **state) {
  (void)state;
  lw_body *body = body_of("[]");
  lw_doc *d = lw_doc_parse(body);
  assert_ptr_equal(lw_doc_ref(d), d);
  lw_doc_unref(d);
  assert_int_equal(body->refs, 2);
  lw_doc_unref(d);
  assert_int_equal(body->refs, 1);
  lw_body_unref(body);
  lw_doc_unref(NULL);
}

static void test_parse_copy(void **state) {
  (void)state;
  char text[] = "[\"x\"]";
  lw_doc *d = lw_doc_parse_copy(text, strlen(text));
  memset(text, '!', sizeof text);
  assert_true(lw_span_eq(lw_json_string(&d->json, 1), LW_SPAN("x")));
  assert_int_equal(d->body->refs, 1);
  lw_doc_unref(d);
  d = lw_doc_parse_copy("", 0);
  assert_non_null(d->json.error);
  lw_doc_unref(d);
}

static void test_recycled_forgets_the_error(void **state) {
  (void)state;
  lw_doc *bad = lw_doc_parse_copy("{", 1);
  assert_string_equal(bad->json.error, "the text ends too early");
  assert_int_equal(bad->json.error_offset, 1);
  lw_doc_unref(bad);
  lw_doc *good = lw_doc_parse_copy("{}", 2);
  assert_ptr_equal(good, bad);
  assert_null(good->json.error);
  assert_int_equal(good->json.count, 1);
  lw_doc_unref(good);
}

static void test_many_at_once(void **state) {
  (void)state;
  lw_doc *docs[40];
  char text[] = "[\"\\u0030\"]";
  for (size_t round = 0; round < 2; round++) {
    for (size_t i = 0; i < LW_ARRAY_SIZE(docs); i++) {
      text[7] = (char)('0' + i % 10);
      docs[i] = lw_doc_parse_copy(text, strlen(text));
    }
    for (size_t i = 0; i < LW_ARRAY_SIZE(docs); i++) {
      char digit = (char)('0' + i % 10);
      assert_true(lw_span_eq(lw_json_string(&docs[i]->json, 1), (lw_span){&digit, 1}));
      lw_doc_unref(docs[i]);
    }
  }
}

static int drop_spares(void **state) {
  (void)state;
  lw_doc_drop_spares();
  return 0;
}

#define DOC_TEST(f) cmocka_unit_test_teardown(f, drop_spares)

int main(void) {
  const struct CMUnitTest tests[] = {
      DOC_TEST(test_parse_holds_the_body), DOC_TEST(test_unref_gives_the_body_back),
      DOC_TEST(test_parse_copy),           DOC_TEST(test_recycled_forgets_the_error),
      DOC_TEST(test_many_at_once),
  };
  return cmocka_run_group_tests_name("doc", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * The envelope: what is read out of it, and each refusal in the words that clients expect. */
#include "worker/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/doc.h"

#define AUTH                                                                                    \
  "\"cost\":300,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,\"signature\":\"s\",\"url\":" \
  "\"http://u\""

static lw_doc *doc;
static lw_envelope e;
static bool without_idx, bare; /* how it is read; both false again after each test */
static char refusal[2048];

static int read_text(const char *text) {
  lw_doc_unref(doc);
  doc = lw_doc_parse_copy(text, strlen(text));
  lw_buf out;
  lw_buf_init(&out, 0, 65536, 0);
  int status = bare ? lw_envelope_read_auth(&doc->json, !without_idx, &e, &out)
                    : lw_envelope_read(&doc->json, !without_idx, &e, &out);
  size_t n = 0;
  while (out.size) {
    lw_span s = lw_buf_peek(&out);
    assert_true(n + s.n <= 1024);
    memcpy(refusal + n, s.p, s.n);
    n += s.n;
    lw_buf_consume(&out, s.n);
  }
  refusal[n] = 0;
  lw_buf_fini(&out);
  return status;
}

static int end(void **state) {
  (void)state;
  lw_doc_unref(doc);
  doc = NULL;
  without_idx = bare = false;
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  return 0;
}

#define ASSERT_SPAN(span, text) assert_true(lw_span_eq(span, lw_span_of(text)))
static void refused(const char *text, const char *wanted) {
  assert_int_equal(read_text(text), 422);
  assert_string_equal(refusal, wanted);
}

static void all_is_read(void **state) {
  (void)state;
  assert_int_equal(
      read_text("{\"auth_data\":{" AUTH ",\"__request_id\":\"r\"},\"payload\":{\"a\": 1}}"), 0);
  assert_string_equal(refusal, "");
  ASSERT_SPAN(e.url, "http://u");
  ASSERT_SPAN(e.signature, "s");
  ASSERT_SPAN(e.endpoint, "e");
  assert_true(e.cost == 300);
  assert_int_equal(e.reqnum, 7);
  assert_int_equal(e.request_idx, 9);
  ASSERT_SPAN(lw_json_text(&doc->json, e.payload), "{\"a\": 1}");
  assert_false(e.has_session);
}

static void the_order_does_not_matter_and_the_last_wins(void **state) {
  (void)state;
  assert_int_equal(read_text("{\"payload\":{\"a\":1},\"x\":[{\"auth_data\":5}],\"auth_data\":{" AUTH
                             ",\"url\":\"http:\\/\\/\\u0076\"},\"payload\":{}}"),
                   0);
  ASSERT_SPAN(e.url, "http://v");
  ASSERT_SPAN(lw_json_text(&doc->json, e.payload), "{}");
}

static void what_is_not_json(void **state) {
  (void)state;
  static const char *const bad[] = {"", " ", "{", "nonsense", "{\"auth_data\":{}", "{}{}", "\xff"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) refused(bad[i], "{\"error\":\"invalid JSON\"}");
}

static void what_is_absent(void **state) {
  (void)state;
  static const char both[] = "{\"auth_data\":\"field missing\",\"payload\":\"field missing\"}";
  refused("{}", both);
  refused("[]", both);
  refused("5", both);
  refused("\"auth_data\"", both);
  refused("{\"auth_data\":{" AUTH "}}", "{\"payload\":\"field missing\"}");
  refused("{\"payload\":{}}", "{\"auth_data\":\"field missing\"}");
  refused("{\"auth_data\":{},\"payload\":{}}",
          "{\"auth_data\":{\"cost\":\"missing parameter\",\"endpoint\":\"missing parameter\","
          "\"reqnum\":\"missing parameter\",\"request_idx\":\"missing parameter\","
          "\"signature\":\"missing parameter\",\"url\":\"missing parameter\"}}");
  refused(
      "{\"auth_data\":{\"cost\":1,\"endpoint\":\"e\",\"reqnum\":1,\"request_idx\":1,\"url\":\"u\"},"
      "\"payload\":{}}",
      "{\"auth_data\":{\"signature\":\"missing parameter\"}}");
}

static void what_is_of_the_wrong_kind(void **state) {
  (void)state;
  refused("{\"auth_data\":[],\"payload\":\"x\"}",
          "{\"auth_data\":\"not an object\",\"payload\":\"not an object\"}");
  refused("{\"auth_data\":null,\"payload\":{}}", "{\"auth_data\":\"not an object\"}");
  refused("{\"auth_data\":{" AUTH "},\"payload\":[1]}", "{\"payload\":\"not an object\"}");
  refused(
      "{\"auth_data\":{\"cost\":1,\"endpoint\":5,\"reqnum\":1,\"request_idx\":1,\"signature\":null,"
      "\"url\":{}},\"payload\":{}}",
      "{\"auth_data\":{\"endpoint\":\"not a string\",\"signature\":\"not a string\","
      "\"url\":\"not a string\"}}");
}

static void check_cost(const char *json, double wanted) {
  char *text = lw_printf_dup("{\"auth_data\":{" AUTH ",\"cost\":%s},\"payload\":{}}", json);
  assert_int_equal(read_text(text), 0);
  if (e.cost != wanted) fail_msg("cost %s is read as %g", json, e.cost);
  free(text);
}

static void costs(void **state) {
  (void)state;
  check_cost("12", 12);
  check_cost("1.5", 1.5);
  check_cost("\"300.25\"", 300.25);
  check_cost("\"1e3\"", 1000);
  check_cost("0", 0);
  static const char *const nothing[] = {
      "-1",      "\"-1\"",
      "null",    "true",
      "[]",      "{}",
      "\"\"",    "\"x\"",
      "\"1x\"",  "\"nan\"",
      "\"inf\"", "1e300",
      "1e999",   "\"11111111111111111111111111111111111111111111\""};
  for (size_t i = 0; i < LW_ARRAY_SIZE(nothing); i++) check_cost(nothing[i], 0);
}

static void check_numbers(const char *json, int64_t wanted) {
  char *text = lw_printf_dup(
      "{\"auth_data\":{" AUTH ",\"reqnum\":%s,\"request_idx\":%s},\"payload\":{}}", json, json);
  assert_int_equal(read_text(text), 0);
  if (e.reqnum != wanted || e.request_idx != wanted)
    fail_msg("%s is read as %ld", json, (long)e.reqnum);
  free(text);
}

static void request_numbers(void **state) {
  (void)state;
  check_numbers("0", 0);
  check_numbers("9223372036854775807", INT64_MAX);
  static const char *const none[] = {"-1", "9223372036854775808", "1.5", "null", "\"7\"", "[]",
                                     "1e3"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(none); i++) check_numbers(none[i], -1);
}

static void sessions(void **state) {
  (void)state;
  assert_int_equal(read_text("{\"auth_data\":{" AUTH "},\"payload\":{},\"session_id\":null}"), 0);
  assert_false(e.has_session);
  assert_int_equal(read_text("{\"auth_data\":{" AUTH "},\"payload\":{},\"session_id\":\"abc\"}"),
                   0);
  assert_true(e.has_session);
  ASSERT_SPAN(e.session, "abc");
  assert_int_equal(read_text("{\"auth_data\":{" AUTH "},\"payload\":{},\"session_id\":5}"), 0);
  assert_true(e.has_session);
  assert_int_equal(e.session.n, 0);
}

static void a_scheme_without_request_idx(void **state) {
  (void)state;
  static const char without[] =
      "{\"auth_data\":{\"cost\":1,\"endpoint\":\"e\",\"reqnum\":3,"
      "\"signature\":\"s\",\"url\":\"u\"},\"payload\":{}}";
  refused(without, "{\"auth_data\":{\"request_idx\":\"missing parameter\"}}");
  without_idx = true;
  assert_int_equal(read_text(without), 0);
  assert_int_equal(e.request_idx, -1);
  assert_int_equal(e.reqnum, 3);
  assert_int_equal(read_text("{\"auth_data\":{" AUTH "},\"payload\":{}}"), 0);
  assert_int_equal(e.request_idx, 9);
  refused(
      "{\"auth_data\":{\"cost\":1,\"endpoint\":\"e\",\"signature\":\"s\",\"url\":\"u\"},"
      "\"payload\":{}}",
      "{\"auth_data\":{\"reqnum\":\"missing parameter\"}}");
}

static void auth_data_alone(void **state) {
  (void)state;
  bare = true;
  assert_int_equal(read_text("{" AUTH "}"), 0);
  ASSERT_SPAN(e.url, "http://u");
  assert_int_equal(e.auth, 0);
  assert_int_equal(e.request_idx, 9);
  assert_false(e.has_session);
  static const char *const none[] = {"[]", "5", "\"x\"", "null"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(none); i++)
    refused(none[i], "{\"auth_data\":\"not an object\"}");
  refused("{", "{\"error\":\"invalid JSON\"}");
  refused("{\"cost\":1,\"endpoint\":\"e\",\"reqnum\":1,\"request_idx\":1,\"url\":7}",
          "{\"auth_data\":{\"signature\":\"missing parameter\",\"url\":\"not a string\"}}");
}

#define TEST(f) cmocka_unit_test_teardown(f, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(all_is_read),
      TEST(the_order_does_not_matter_and_the_last_wins),
      TEST(what_is_not_json),
      TEST(what_is_absent),
      TEST(what_is_of_the_wrong_kind),
      TEST(costs),
      TEST(request_numbers),
      TEST(sessions),
      TEST(a_scheme_without_request_idx),
      TEST(auth_data_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

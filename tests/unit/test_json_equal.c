/* SPDX-License-Identifier: MIT
 * Pairs of texts that are the same value, and pairs that are not, each in both directions; deep and
 * wide ones; and random values against themselves written in another way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/doc.h"
#include "wire/json_equal.h"

static bool equal(const char *a, const char *b) {
  lw_doc *x = lw_doc_parse_copy(a, strlen(a));
  lw_doc *y = lw_doc_parse_copy(b, strlen(b));
  if (x->json.error || y->json.error) fail_msg("not JSON: %.80s / %.80s", a, b);
  bool same = lw_json_equal(&x->json, 0, &y->json, 0);
  if (lw_json_equal(&y->json, 0, &x->json, 0) != same) fail_msg("one way only: %s, %s", a, b);
  lw_doc_unref(x);
  lw_doc_unref(y);
  return same;
}

static const char *const same[][2] = {
    {"null", " null "},
    {"true", "true"},
    {"\"\"", "\"\""},
    {"\"a/\\u00e9\"", "\"\\u0061\\/\xc3\xa9\""},
    {"1", "1.0"},
    {"100", "1e2"},
    {"0", "-0"},
    {"0", "-0.0e5"},
    {"-1", "-10e-1"},
    {"0.1", "0.10000000000000001"},
    {"9007199254740992", "9007199254740992.0"},
    {"18446744073709551615", "18446744073709551615"},
    {"9223372036854775808", "9.223372036854775808e18"},
    {"-9223372036854775808", "-9223372036854775808.0"},
    {"1000000000000000000000", "1e21"},
    {"1e999", "1e999"},
    {"1e-999", "1e-999"},
    {"[]", "[ ]"},
    {"[1,[2,{}]]", "[1.0, [2e0, { }]]"},
    {"{}", "{ }"},
    {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"},
    {"{\"a\":1,\"a\":2}", "{\"a\":2}"},
    {"{\"a\":1,\"b\":0,\"a\":2}", "{\"b\":0,\"a\":7,\"a\":2}"},
    {"{\"a\":{\"x\":[1,2],\"y\":null}}", "{\"a\":{\"y\":null,\"x\":[1,2]}}"},
    {"{\"\":1,\"\\u0000\":2}", "{\"\\u0000\":2,\"\":1}"},
};

static const char *const different[][2] = {
    {"null", "false"},
    {"true", "false"},
    {"0", "false"},
    {"1", "true"},
    {"0", "null"},
    {"\"1\"", "1"},
    {"\"a\"", "\"A\""},
    {"\"a\"", "\"a \""},
    {"\"\"", "null"},
    {"1", "1.0000000000000002"},
    {"9007199254740993", "9007199254740992.0"},
    {"9223372036854775807", "9223372036854775808"},
    {"9223372036854775807", "9.223372036854775807e18"},
    {"18446744073709551615", "-1"},
    {"18446744073709551615", "1.8446744073709552e19"},
    {"1e999", "1e998"},
    {"1e999", "-1e999"},
    {"1e-999", "0"},
    {"1e-999", "0.0"},
    {"1e-999", "2e-999"},
    {"[]", "{}"},
    {"[]", "[[]]"},
    {"[1,2]", "[2,1]"},
    {"[1]", "[1,1]"},
    {"{\"a\":1}", "{\"a\":2}"},
    {"{\"a\":1}", "{\"b\":1}"},
    {"{\"a\":1}", "{\"a\":1,\"b\":1}"},
    {"{\"a\":1,\"a\":2}", "{\"a\":1}"},
    {"{\"a\":1,\"a\":2}", "{\"a\":1,\"b\":2}"},
    {"{\"ab\":1}", "{\"a\":1}"},
    {"{\"a\":{\"x\":1}}", "{\"a\":{\"x\":[1]}}"},
};

static void equal_values(void **state) {
  (void)state;
  for (size_t i = 0; i < LW_ARRAY_SIZE(same); i++) {
    if (!equal(same[i][0], same[i][1])) fail_msg("%s, %s", same[i][0], same[i][1]);
    assert_true(equal(same[i][0], same[i][0]));
  }
}

static void different_values(void **state) {
  (void)state;
  for (size_t i = 0; i < LW_ARRAY_SIZE(different); i++) {
    if (equal(different[i][0], different[i][1])) {
      fail_msg("%s, %s", different[i][0], different[i][1]);
    }
  }
}

static void within_documents(void **state) {
  (void)state;
  static const char text[] = "{\"x\":{\"a\":[1]},\"y\":{\"a\":[1.0]},\"z\":[1]}";
  lw_doc *d = lw_doc_parse_copy(text, sizeof text - 1);
  const lw_json *j = &d->json;
  uint32_t x = lw_json_member(j, 0, LW_SPAN("x")), y = lw_json_member(j, 0, LW_SPAN("y"));
  uint32_t z = lw_json_member(j, 0, LW_SPAN("z"));
  assert_true(lw_json_equal(j, x, j, y));
  assert_false(lw_json_equal(j, x, j, z));
  assert_true(lw_json_equal(j, lw_json_member(j, x, LW_SPAN("a")), j, z));
  lw_doc_unref(d);
}

/* As deep as the parser allows. */
static void deep_ones(void **state) {
  (void)state;
  char a[4000] = "", b[4000] = "";
  for (int i = 0; i < 250; i++) strcat(a, "[{\"a\":"), strcat(b, "[{ \"a\":");
  strcat(a, "1"), strcat(b, "1.0");
  for (int i = 0; i < 250; i++) strcat(a, "}]"), strcat(b, "}]");
  assert_true(equal(a, b));
  *strchr(b, '1') = '2';
  assert_false(equal(a, b));
}

/* An object of this size would take minutes if each member were looked for. */
static void wide_ones(void **state) {
  (void)state;
  enum {
    MEMBERS = 200000
  };
  lw_body *texts[2] = {lw_body_new(), lw_body_new()};
  for (int k = 0; k < 2; k++) {
    lw_body_append(texts[k], "{", 1);
    for (int i = 0; i < MEMBERS; i++) {
      char member[40];
      int name = k ? MEMBERS - 1 - i : i;
      int n = snprintf(member, sizeof member, "%s\"%d\":%d", i ? "," : "", name / 2, name % 2);
      lw_body_append(texts[k], member, (size_t)n);
    }
    lw_body_append(texts[k], "}", 1);
  }
  lw_doc *a = lw_doc_parse(texts[0]), *b = lw_doc_parse(texts[1]);
  assert_true(lw_json_equal(&a->json, 0, &a->json, 0));
  assert_false(lw_json_equal(&a->json, 0, &b->json, 0)); /* other ones come last */
  lw_doc_unref(a);
  lw_doc_unref(b);
  lw_body_unref(texts[0]);
  lw_body_unref(texts[1]);
}

/* -- random values, written twice -- */

static uint32_t dice_state = 12345;
static uint32_t dice(uint32_t sides) {
  dice_state = dice_state * 1664525u + 1013904223u;
  return (dice_state >> 8) % sides;
}

static void write_both(lw_body *a, lw_body *b, int depth);

static void both(lw_body *a, lw_body *b, const char *x, const char *y) {
  lw_body_append(a, x, strlen(x));
  lw_body_append(b, y, strlen(y));
}

/* b's members come in the reverse order. */
static void write_object(lw_body *a, lw_body *b, int depth) {
  uint32_t count = dice(4);
  lw_body *parts[4];
  both(a, b, "{", "{");
  for (uint32_t i = 0; i < count; i++) {
    char name[16];
    snprintf(name, sizeof name, "%s\"k%u\":", i ? "," : "", i);
    lw_body_append(a, name, strlen(name));
    parts[i] = lw_body_new();
    snprintf(name, sizeof name, "\"k%u\": ", i);
    lw_body_append(parts[i], name, strlen(name));
    write_both(a, parts[i], depth + 1);
  }
  for (uint32_t i = count; i-- > 0;) {
    lw_body_append(b, parts[i]->p, parts[i]->n);
    if (i) lw_body_append(b, " ,", 2);
    lw_body_unref(parts[i]);
  }
  both(a, b, "}", "}");
}

static void write_both(lw_body *a, lw_body *b, int depth) {
  char text[40];
  switch (dice(depth > 5 ? 4 : 6)) {
    case 0:
      both(a, b, "null", "null");
      break;
    case 1:
      snprintf(text, sizeof text, "%u", dice(5));
      lw_body_append(a, text, strlen(text));
      strcat(text, ".0");
      lw_body_append(b, text, strlen(text));
      break;
    case 2:
      both(a, b, "\"x\"", "\"\\u0078\"");
      break;
    case 3:
      both(a, b, "0.5", "5e-1");
      break;
    case 4:
      both(a, b, "[", "[ ");
      for (uint32_t i = 0, n = dice(4); i < n; i++) {
        if (i) both(a, b, ",", ",");
        write_both(a, b, depth + 1);
      }
      both(a, b, "]", " ]");
      break;
    default:
      write_object(a, b, depth);
  }
}

static void random_values(void **state) {
  (void)state;
  for (int i = 0; i < 5000; i++) {
    lw_body *a = lw_body_new(), *b = lw_body_new();
    write_both(a, b, 0);
    lw_body_append(a, "", 1);
    lw_body_append(b, "", 1);
    if (!equal(a->p, b->p)) fail_msg("%s\n%s", a->p, b->p);
    char *other = lw_printf_dup("[%s,0]", b->p);
    assert_false(equal(a->p, other));
    free(other);
    lw_body_unref(a);
    lw_body_unref(b);
  }
}

static int end_all(void **state) {
  (void)state;
  lw_doc_drop_spares();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equal_values),     cmocka_unit_test(different_values),
      cmocka_unit_test(within_documents), cmocka_unit_test(deep_ones),
      cmocka_unit_test(wide_ones),        cmocka_unit_test(random_values),
  };
  return cmocka_run_group_tests(tests, NULL, end_all);
}

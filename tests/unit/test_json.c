/* SPDX-License-Identifier: MIT
 * wire/json: nodes and their slices, strings, numbers, refusals with their place, memory, printing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka needs the three above. */
#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "wire/json.h"

static lw_json json;
static char *held; /* the text of the last parse */

/* Parses a copy whose padding is filled with what would continue a token, if it were looked at. */
static lw_code parse_span(const char *text, size_t n) {
  free(held);
  held = malloc(n + LW_JSON_PADDING);
  assert_non_null(held);
  memcpy(held, text, n);
  memset(held + n, '5', LW_JSON_PADDING);
  return lw_json_parse(&json, held, n);
}

static lw_code parse(const char *text) { return parse_span(text, strlen(text)); }

static const lw_json_node *root_of(const char *text) {
  if (parse(text) != LW_OK) fail_msg("%s: %s at %zu", text, json.error, json.error_offset);
  return json.nodes;
}

static void check_refused(const char *text, const char *error, size_t offset) {
  if (parse(text) != LW_PROTOCOL) fail_msg("%s was taken", text);
  assert_string_equal(json.error, error);
  if (json.error_offset != offset) fail_msg("%s: at %zu", text, json.error_offset);
  assert_int_equal(json.count, 0);
}

static void check_text(uint32_t node, const char *text) {
  lw_span slice = lw_json_text(&json, node);
  if (!lw_span_eq(slice, lw_span_of(text))) fail_msg("%.*s, not %s", (int)slice.n, slice.p, text);
}

static void test_nodes(void **state) {
  (void)state;
  root_of(" {\"a\" : [1, true ] ,\"b\":{}}\n");
  static const struct {
    uint32_t kind, next, length;
    const char *text;
  } want[] = {
      {LW_JSON_OBJECT, 8, 27, "{\"a\" : [1, true ] ,\"b\":{}}"},
      {LW_JSON_STRING, 2, 3, "\"a\""},
      {LW_JSON_ARRAY, 5, 10, "[1, true ]"},
      {LW_JSON_INT, 4, 1, "1"},
      {LW_JSON_TRUE, 5, 4, "true"},
      {LW_JSON_STRING, 6, 3, "\"b\""},
      {LW_JSON_OBJECT, 7, 2, "{}"},
  };
  assert_int_equal(json.count, LW_ARRAY_SIZE(want));
  assert_int_equal(json.nodes[0].next, json.count);
  for (uint32_t i = 0; i < json.count; i++) {
    assert_int_equal(json.nodes[i].kind, want[i].kind);
    if (i > 0) assert_int_equal(json.nodes[i].next, want[i].next);
    check_text(i, want[i].text);
  }
  assert_int_equal(json.nodes[0].count, 2);
  assert_int_equal(json.nodes[2].count, 2);
  assert_int_equal(json.nodes[6].count, 0);
}

static void test_literals_and_roots(void **state) {
  (void)state;
  assert_int_equal(root_of("null")->kind, LW_JSON_NULL);
  assert_int_equal(root_of(" true ")->kind, LW_JSON_TRUE);
  check_text(0, "true");
  assert_int_equal(root_of("false")->kind, LW_JSON_FALSE);
  assert_int_equal(root_of("\"\"")->kind, LW_JSON_STRING);
  assert_int_equal(json.nodes[0].string_length, 0);
  assert_int_equal(root_of("[]")->kind, LW_JSON_ARRAY);
  assert_int_equal(root_of("\t[ ]\r")->next, 1);
  check_text(0, "[ ]");
}

static void check_string(const char *text, const char *value, size_t n, uint32_t escaped) {
  const lw_json_node *node = root_of(text);
  assert_int_equal(node->kind, LW_JSON_STRING);
  if (!lw_span_eq(lw_json_string(&json, 0), (lw_span){value, n})) fail_msg("%s", text);
  if (node->escaped != escaped) fail_msg("%s: escaped is %u", text, node->escaped);
}
#define CHECK_STRING(text, value, escaped) check_string(text, value, sizeof(value) - 1, escaped)

static void test_strings(void **state) {
  (void)state;
  CHECK_STRING("\"plain\"", "plain", 0);
  assert_ptr_equal(json.nodes[0].string, held + 1);
  CHECK_STRING("\"caf\xc3\xa9 \xf0\x9f\x98\x80\x7f\"", "caf\xc3\xa9 \xf0\x9f\x98\x80\x7f", 0);
  CHECK_STRING("\"\\\"\\\\\\b\\f\\n\\r\\t\"", "\"\\\b\f\n\r\t", 1);
  CHECK_STRING("\"a\\u0000b\\u001f\"", "a\0b\x1f", 1);
  CHECK_STRING("\"\\/\"", "/", 2);
  CHECK_STRING("\"\\u000a\"", "\n", 2);
  CHECK_STRING("\"\\u001F\"", "\x1f", 2);
  CHECK_STRING("\"\\u0041\"", "A", 2);
  CHECK_STRING("\"\\u00e9\\u20AC\"", "\xc3\xa9\xe2\x82\xac", 2);
  CHECK_STRING("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 2);
  CHECK_STRING("\"\\ud83dx\"", "\xef\xbf\xbdx", 2);
  CHECK_STRING("\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd", 2);
  CHECK_STRING("\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80", 2);
  CHECK_STRING("\"\\ud83d\\u0041\"",
               "\xef\xbf\xbd"
               "A",
               2);
  CHECK_STRING("\"\\uffff\"", "\xef\xbf\xbf", 2);
}

/* Backslashes are looked for in steps of eight bytes: every place in a string is tried. */
static void test_backslash_everywhere(void **state) {
  (void)state;
  char text[128], want[128];
  for (size_t n = 0; n < 100; n++) {
    for (size_t at = 0; at <= n; at += n < 60 ? 1 : 13) {
      memset(text, 'x', sizeof text);
      memset(want, 'x', sizeof want);
      text[0] = text[n + 3] = '"';
      memcpy(text + 1 + at, "\\t", 2);
      want[at] = '\t';
      assert_int_equal(parse_span(text, n + 4), LW_OK);
      assert_int_equal(json.nodes[0].string_length, n + 1);
      assert_memory_equal(json.nodes[0].string, want, n + 1);
      assert_int_equal(json.nodes[0].escaped, 1);
      memset(text + 1 + at, 'x', 2);
      assert_int_equal(parse_span(text, n + 4), LW_OK);
      assert_int_equal(json.nodes[0].escaped, 0);
    }
  }
}

/* Many unescaped strings share one arena: none may overlap another. */
static void test_strings_side_by_side(void **state) {
  (void)state;
  char text[40 * 16 + 3];
  size_t n = 0;
  for (int i = 0; i < 40; i++) {
    n += (size_t)snprintf(text + n, sizeof text - n, "%c\"\\u00e9%02d\\n\"", i ? ',' : '[', i);
  }
  snprintf(text + n, sizeof text - n, "]");
  root_of(text);
  for (uint32_t i = 0; i < 40; i++) {
    char want[16];
    snprintf(want, sizeof want, "\xc3\xa9%02u\n", i);
    assert_true(lw_span_eq(lw_json_string(&json, i + 1), lw_span_of(want)));
  }
}

static void check_integer(const char *text, uint32_t kind, uint64_t bits) {
  const lw_json_node *node = root_of(text);
  if (node->kind != kind) fail_msg("%s: kind %u", text, node->kind);
  assert_true(node->integer == (int64_t)bits);
  assert_int_equal(node->escaped, 0);
  check_text(0, text);
}

static void check_number(const char *text, uint32_t kind, double value, uint32_t escaped) {
  const lw_json_node *node = root_of(text);
  if (node->kind != kind) fail_msg("%s: kind %u", text, node->kind);
  if (node->number != value || signbit(node->number) != signbit(value)) {
    fail_msg("%s: %.17g, not %.17g", text, node->number, value);
  }
  if (node->escaped != escaped) fail_msg("%s: escaped is %u", text, node->escaped);
  check_text(0, text);
}

static void test_integers(void **state) {
  (void)state;
  check_integer("0", LW_JSON_INT, 0);
  check_integer("-1", LW_JSON_INT, (uint64_t)-1);
  check_integer("9007199254740993", LW_JSON_INT, UINT64_C(9007199254740993));
  check_integer("9223372036854775807", LW_JSON_INT, INT64_MAX);
  check_integer("-9223372036854775808", LW_JSON_INT, UINT64_C(1) << 63);
  check_integer("9223372036854775808", LW_JSON_UINT, UINT64_C(1) << 63);
  check_integer("18446744073709551615", LW_JSON_UINT, UINT64_MAX);
  check_number("18446744073709551616", LW_JSON_BIG, 18446744073709551616.0, 2);
  check_number("99999999999999999999", LW_JSON_BIG, 1e20, 2);
  check_number("-9223372036854775809", LW_JSON_BIG, -9223372036854775808.0, 2);
  check_number("123456789012345678901234567890", LW_JSON_BIG, 123456789012345678901234567890.0, 2);
  check_number("-0", LW_JSON_NUMBER, -0.0, 0);
}

static void test_fractions(void **state) {
  (void)state;
  check_number("0.1", LW_JSON_NUMBER, 0.1, 0);
  check_number("-12.75", LW_JSON_NUMBER, -12.75, 0);
  check_number("0.0001", LW_JSON_NUMBER, 0.0001, 0);
  check_number("3.141592653589793", LW_JSON_NUMBER, 3.141592653589793, 0);
  check_number("1e+16", LW_JSON_NUMBER, 1e16, 0);
  check_number("1e-05", LW_JSON_NUMBER, 1e-5, 0);
  check_number("1.7976931348623157e+308", LW_JSON_NUMBER, 1.7976931348623157e308, 0);
  check_number("5e-324", LW_JSON_NUMBER, 5e-324, 0);
  check_number("2.225073858507201e-308", LW_JSON_NUMBER, 2.225073858507201e-308, 0);
  check_number("1.0", LW_JSON_NUMBER, 1, 2);
  check_number("-0.0", LW_JSON_NUMBER, -0.0, 2);
  check_number("0.10", LW_JSON_NUMBER, 0.1, 2);
  check_number("1e5", LW_JSON_NUMBER, 1e5, 2);
  check_number("1E+16", LW_JSON_NUMBER, 1e16, 2);
  check_number("0.00001", LW_JSON_NUMBER, 1e-5, 2);
  check_number("0.10000000000000001", LW_JSON_NUMBER, 0.1, 2);
  check_number("0e999999999999999999999", LW_JSON_NUMBER, 0, 2);
  check_number("1e400", LW_JSON_BIG, HUGE_VAL, 2);
  check_number("-1e400", LW_JSON_BIG, -HUGE_VAL, 2);
  check_number("1e-400", LW_JSON_BIG, 0, 2);
  check_number("1e99999999999999999999", LW_JSON_BIG, HUGE_VAL, 2);
  check_number("0.000000000000000000000001e24", LW_JSON_NUMBER, 1, 2);
  /* halfway between two doubles, and a digit above halfway */
  check_number("9007199254740993.0", LW_JSON_NUMBER, 9007199254740992.0, 2);
  check_number("9007199254740993.00000000000000000001", LW_JSON_NUMBER, 9007199254740994.0, 2);
}

static void test_refusals(void **state) {
  (void)state;
  check_refused("", "the text is empty", 0);
  check_refused(" \n", "the text is empty", 0);
  check_refused("{\"a\":\"b\x01\"}", "control character in a string", 7);
  check_refused("[\"a\\\x01\"]", "control character in a string", 4);
  check_refused("[1,\"ab]", "string without an end", 3);
  check_refused("[\"\xff\"]", "not UTF-8", 2);
  check_refused("[\"\xed\xa0\x80\"]", "not UTF-8", 2);
  check_refused("\xef\xbb\xbf{}", "not a value", 0);
  check_refused("[1,]", "not a value", 3);
  check_refused("[1 2]", "expected ',' or ']'", 3);
  check_refused("[1}", "expected ',' or ']'", 2);
  check_refused("{\"a\":1,}", "expected a member's name", 7);
  check_refused("{\"a\" 1}", "expected ':'", 5);
  check_refused("{\"a\":1]", "expected ',' or '}'", 6);
  check_refused("{a:1}", "expected a member's name", 1);
  check_refused("{\"a\\x\":1}", "no such escape", 3);
  check_refused("[\"\\u12g4\"]", "no such escape", 2);
  check_refused("[\"\\u12\"]", "no such escape", 2);
  check_refused("[", "the text ends too early", 1);
  check_refused("{\"a\":", "the text ends too early", 5);
  check_refused("{\"a\"", "the text ends too early", 4);
  check_refused("[1,", "the text ends too early", 3);
  check_refused("{} {}", "more text after the document", 3);
  check_refused("1 1", "more text after the document", 2);
  check_refused("\"a\"\"b\"", "more text after the document", 3);
  check_refused("tru", "not a value", 0);
  check_refused("trueish", "not a value", 0);
  check_refused("[nul\"l\"]", "not a value", 1);
  check_refused("NaN", "not a value", 0);
}

static void test_number_grammar(void **state) {
  (void)state;
  static const char *const bad[] = {"-",     "01", "-01",  "1.", ".5",  "1.e5",  "1e",
                                    "1e+",   "+1", "0x10", "1a", "1_0", "1.2.3", "--1",
                                    "1e5.0", "-a", "1\"",  "1,", "0e",  "00.1",  "\xc2\xb1"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    if (parse(bad[i]) == LW_OK) fail_msg("%s was taken", bad[i]);
  }
}

static void test_nul_is_no_end(void **state) {
  (void)state;
  assert_int_equal(parse_span("[1]\0", 4), LW_PROTOCOL);
  assert_int_equal(json.error_offset, 3);
  assert_int_equal(parse_span("\0", 1), LW_PROTOCOL);
  assert_int_equal(parse_span("[1,\f2]", 6), LW_PROTOCOL);
}

static lw_code parse_nested(size_t depth, char open, char close) {
  char *text = malloc(2 * depth + 1);
  assert_non_null(text);
  memset(text, open, depth);
  memset(text + depth, close, depth);
  lw_code code = parse_span(text, 2 * depth);
  free(text);
  return code;
}

static void test_depth(void **state) {
  (void)state;
  assert_int_equal(parse_nested(512, '[', ']'), LW_OK);
  assert_int_equal(json.count, 512);
  assert_int_equal(json.nodes[511].next, 512);
  assert_int_equal(json.nodes[0].length, 1024);
  assert_int_equal(parse_nested(513, '[', ']'), LW_PROTOCOL);
  assert_string_equal(json.error, "nested too deep");
  assert_int_equal(json.error_offset, 512);
  assert_int_equal(parse_nested(200000, '[', '['), LW_PROTOCOL);
}

static void test_member(void **state) {
  (void)state;
  root_of("{\"a\":{\"b\":1},\"b\":2,\"a\":3,\"\\u0063\":4}");
  check_text(lw_json_member(&json, 0, LW_SPAN("a")), "3");
  check_text(lw_json_member(&json, 0, LW_SPAN("b")), "2");
  check_text(lw_json_member(&json, 0, LW_SPAN("c")), "4");
  check_text(lw_json_member(&json, 2, LW_SPAN("b")), "1");
  assert_int_equal(lw_json_member(&json, 0, LW_SPAN("x")), 0);
  assert_int_equal(lw_json_member(&json, 0, LW_SPAN("")), 0);
  assert_int_equal(lw_json_member(&json, 1, LW_SPAN("a")), 0);
  assert_int_equal(parse("{"), LW_PROTOCOL);
  assert_int_equal(lw_json_member(&json, 0, LW_SPAN("a")), 0);
}

/* One parser and one object for all sizes, small after large and large after small. */
static void test_reuse(void **state) {
  (void)state;
  static const size_t sizes[] = {10, 100000, 5, 3000000, 70000, 1, 1200000};
  for (size_t k = 0; k < LW_ARRAY_SIZE(sizes); k++) {
    size_t n = 2 * sizes[k] + 1;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = i % 2 ? '7' : ',';
    text[0] = '[';
    text[n - 1] = ']';
    assert_int_equal(parse_span(text, n), LW_OK);
    assert_int_equal(json.count, sizes[k] + 1);
    assert_int_equal(json.nodes[sizes[k]].offset, n - 2);
    free(text);
    if (k % 2) {
      lw_json_trim(&json);
      assert_int_equal(json.count, 0);
    }
  }
}

static void check_escaped(lw_span value, const char *text) {
  char out[256];
  assert_int_equal(lw_json_escaped_size(value), strlen(text));
  size_t n = lw_json_escape(out, value);
  if (!lw_span_eq((lw_span){out, n}, lw_span_of(text))) fail_msg("%.*s, not %s", (int)n, out, text);
}

static void test_escape(void **state) {
  (void)state;
  check_escaped(LW_SPAN(""), "\"\"");
  check_escaped(LW_SPAN("plain text, longer than one word /"),
                "\"plain text, longer than one word /\"");
  check_escaped(LW_SPAN("a\"b\\c\b\f\n\r\t\0\x1f\x7f"),
                "\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\"");
  check_escaped(LW_SPAN("12345678caf\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
                "\"12345678caf\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
  check_escaped(LW_SPAN("\xff"), "\"\xef\xbf\xbd\"");
  check_escaped(LW_SPAN("\xc3"), "\"\xef\xbf\xbd\"");
  check_escaped(LW_SPAN("\xe2\x82"), "\"\xef\xbf\xbd\"");
  check_escaped(LW_SPAN("\xe2\x82x"), "\"\xef\xbf\xbdx\"");
  check_escaped(LW_SPAN("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
  check_escaped(LW_SPAN("\xc0\xaf"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
  check_escaped(LW_SPAN("\xf4\x90\x80\x80"),
                "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* Every byte at every place of a word comes back through the parser as it was. */
static void test_escape_reads_back(void **state) {
  (void)state;
  for (unsigned c = 0; c < 0x80; c++) {
    for (size_t at = 0; at < 20; at++) {
      char value[20], text[20 * 6 + 2];
      memset(value, 'v', sizeof value);
      value[at] = (char)c;
      lw_span s = {value, sizeof value};
      size_t n = lw_json_escape(text, s);
      assert_int_equal(n, lw_json_escaped_size(s));
      assert_int_equal(parse_span(text, n), LW_OK);
      assert_true(lw_span_eq(lw_json_string(&json, 0), s));
      assert_int_not_equal(json.nodes[0].escaped, 2);
    }
  }
}

static void test_utf8_prefix(void **state) {
  (void)state;
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("")), 0);
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("0123456789\xc3\xa9")), 12);
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("0123456789\xc3")), 10);
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("0123456\x80 9abcdef")), 7);
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("\xf4\x8f\xbf\xbf\xf5")), 4);
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("\xe0\x9f\xbf")), 0);
  assert_int_equal(lw_json_utf8_prefix(LW_SPAN("\xf0\x8f\xbf\xbf")), 0);
}

static void check_number_text(double value, const char *text) {
  char out[32];
  size_t n = lw_json_number_text(out, value);
  if (!lw_span_eq((lw_span){out, n}, lw_span_of(text))) fail_msg("%.*s, not %s", (int)n, out, text);
}

static void test_number_text(void **state) {
  (void)state;
  check_number_text(0, "0");
  check_number_text(-0.0, "-0");
  check_number_text(300, "300");
  check_number_text(-1, "-1");
  check_number_text(0.1, "0.1");
  check_number_text(1.0 / 3, "0.3333333333333333");
  check_number_text(999999999999999, "999999999999999");
  check_number_text(1e15, "1000000000000000");
  check_number_text(9007199254740991, "9007199254740991");
  check_number_text(9999999999999998, "9999999999999998");
  check_number_text(1e16, "1e+16");
  check_number_text(-1.5e300, "-1.5e+300");
  check_number_text(0.0001, "0.0001");
  check_number_text(0.00012345678901234567, "0.00012345678901234567");
  check_number_text(0.00001, "1e-05");
  check_number_text(5e-324, "5e-324");
  check_number_text(-1.7976931348623157e308, "-1.7976931348623157e+308");
  check_number_text(NAN, "");
  check_number_text(HUGE_VAL, "");
  check_number_text(-HUGE_VAL, "");
}

/* Any double's text reads back as the same bits, and is called canonical by the parser. */
static void test_number_text_reads_back(void **state) {
  (void)state;
  uint64_t bits = 88172645463325252;
  for (int i = 0; i < 20000; i++) {
    bits ^= bits << 13;
    bits ^= bits >> 7;
    bits ^= bits << 17;
    double value, back;
    memcpy(&value, &bits, sizeof value);
    if (i % 3 == 0) value = (double)(int64_t)bits / 1e6;
    if (i % 3 == 1) value = (double)(int64_t)(bits >> (i % 60)) / 1024;
    char text[32];
    size_t n = lw_json_number_text(text, value);
    if (n == 0) continue;
    assert_int_equal(parse_span(text, n), LW_OK);
    const lw_json_node *node = json.nodes;
    back = node->kind == LW_JSON_INT ? (double)node->integer : node->number;
    if (memcmp(&back, &value, sizeof value) != 0) fail_msg("%.*s: %.17g", (int)n, text, back);
    assert_int_equal(node->escaped, 0);
  }
}

static int begin(void **state) {
  (void)state;
  lw_json_init(&json);
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_json_fini(&json);
  free(held);
  held = NULL;
  return 0;
}

#define JSON_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      JSON_TEST(test_nodes),
      JSON_TEST(test_literals_and_roots),
      JSON_TEST(test_strings),
      JSON_TEST(test_backslash_everywhere),
      JSON_TEST(test_strings_side_by_side),
      JSON_TEST(test_integers),
      JSON_TEST(test_fractions),
      JSON_TEST(test_refusals),
      JSON_TEST(test_number_grammar),
      JSON_TEST(test_nul_is_no_end),
      JSON_TEST(test_depth),
      JSON_TEST(test_member),
      JSON_TEST(test_reuse),
      JSON_TEST(test_escape),
      JSON_TEST(test_escape_reads_back),
      JSON_TEST(test_utf8_prefix),
      JSON_TEST(test_number_text),
      JSON_TEST(test_number_text_reads_back),
  };
  return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * wire/canon against what Python 3's json.dumps printed, and its bounds. The comparison with Python
 * itself, on random documents, is tests/e2e/test_canon.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka needs the three above. */
#include <cmocka.h>

#include "wire/canon.h"
#include "wire/doc.h"

static const struct {
  lw_span value, printed; /* printed = json.dumps(value) */
} python[] = {
    {LW_SPAN(""), LW_SPAN("\"\"")},
    {LW_SPAN("http://1.2.3.4:40001"), LW_SPAN("\"http://1.2.3.4:40001\"")},
    {LW_SPAN("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
             "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"),
     LW_SPAN("\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u00"
             "0e\\u000f\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001"
             "a\\u001b\\u001c\\u001d\\u001e\\u001f\"")},
    {LW_SPAN(" !\"#$%&'()*+,-./"
             "0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"),
     LW_SPAN(
         "\" "
         "!\\\"#$%&'()*+,-./"
         "0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\"")},
    {LW_SPAN("\x7f/\\\""), LW_SPAN("\"\\u007f/\\\\\\\"\"")},
    {LW_SPAN("\xc2\x80\xc3\xa9\xc3\xbf"), LW_SPAN("\"\\u0080\\u00e9\\u00ff\"")},
    {LW_SPAN("\xdf\xbf\xe0\xa0\x80\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd\xef\xbf\xbf"),
     LW_SPAN("\"\\u07ff\\u0800\\u20ac\\ud7ff\\ue000\\ufffd\\uffff\"")},
    {LW_SPAN("\xf0\x90\x80\x80\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"),
     LW_SPAN("\"\\ud800\\udc00\\ud83d\\ude00\\udbff\\udfff\"")},
    {LW_SPAN(
         "https://\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84:3000/"
         "\xd0\xbf\xd1\x83\xd1\x82\xd1\x8c?q=\xe2\x80\xa8\xe2\x80\xa9&x=\xe6\x97\xa5\xe6\x9c\xac"),
     LW_SPAN("\"https://\\u043f\\u0440\\u0438\\u043c\\u0435\\u0440.\\u0440\\u0444:3000/"
             "\\u043f\\u0443\\u0442\\u044c?q=\\u2028\\u2029&x=\\u65e5\\u672c\"")},
    {LW_SPAN("a\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9"
             "b"),
     LW_SPAN("\"a\\ud83d\\udc68\\u200d\\ud83d\\udc69b\"")},
};

/* The whole buffer as one span; clears it. */
static lw_span drain(lw_buf *b, char *out, size_t room) {
  size_t n = 0;
  while (b->size > 0) {
    lw_span piece = lw_buf_peek(b);
    assert_true(n + piece.n <= room);
    memcpy(out + n, piece.p, piece.n);
    n += piece.n;
    lw_buf_consume(b, piece.n);
  }
  return (lw_span){out, n};
}

static void check_printed(lw_buf *b, lw_span want) {
  char out[1024];
  lw_span got = drain(b, out, sizeof out);
  if (!lw_span_eq(got, want)) fail_msg("%.*s, not %.*s", (int)got.n, got.p, (int)want.n, want.p);
}

static void test_string(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 0, 0);
  for (size_t i = 0; i < LW_ARRAY_SIZE(python); i++) {
    lw_canon_string(&b, python[i].value);
    check_printed(&b, python[i].printed);
  }
  lw_buf_fini(&b);
}

static void test_ill_formed_is_replaced(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 0, 0);
  lw_canon_string(&b, LW_SPAN("a\xff"
                              "b\xe2\x82"));
  check_printed(&b, LW_SPAN("\"a\\ufffdb\\ufffd\\ufffd\""));
  lw_buf_fini(&b);
}

static void test_url_message(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 0, 0);
  lw_canon_url_message(&b, LW_SPAN("http://1.2.3.4:40001"));
  check_printed(&b, LW_SPAN("{\n    \"url\": \"http://1.2.3.4:40001\"\n}"));
  lw_canon_url_message(&b, LW_SPAN("https://\xc3\xa9.example:3000/\"x\""));
  check_printed(&b, LW_SPAN("{\n    \"url\": \"https://\\u00e9.example:3000/\\\"x\\\"\"\n}"));
  lw_buf_fini(&b);
}

static const struct {
  const char *text, *printed, *sorted; /* sorted NULL: the same */
} documents[] = {
    {"1e16", "1e+16", NULL},
    {"1E-5", "1e-05", NULL},
    {"300.0", "300.0", NULL},
    {"3e2", "300.0", NULL},
    {"-0", "0", NULL},
    {"-0.0", "-0.0", NULL},
    {"0.10", "0.1", NULL},
    {"9999999999999998.0", "9999999999999998.0", NULL},
    {"1e400", "Infinity", NULL},
    {"-1e400", "-Infinity", NULL},
    {"-1e-400", "-0.0", NULL},
    {"5e-324", "5e-324", NULL},
    {"-123456789012345678901234567890", "-123456789012345678901234567890", NULL},
    {" [ ] ", "[]", NULL},
    {"{ }", "{}", NULL},
    {"[true,null,[false]]", "[\n    true,\n    null,\n    [\n        false\n    ]\n]", NULL},
    {"\"\\ud800\\uDBFF\\/\\u0041\\u000a\\u0022\"", "\"\\ud800\\udbff/A\\n\\\"\"", NULL},
    {"{\"b\":1,\"a\":2,\"\\u0062\":3}", "{\n    \"b\": 3,\n    \"a\": 2\n}",
     "{\n    \"a\": 2,\n    \"b\": 3\n}"},
    /* by code points: U+D800 alone, U+FFFF, U+10000; UTF-16 would say otherwise */
    {"{\"\\ud800\\udc00\":1,\"\\uffff\":2,\"\\ud800\":3,\"\\udc00\":4}",
     "{\n    \"\\ud800\\udc00\": 1,\n    \"\\uffff\": 2,\n    \"\\ud800\": 3,\n    \"\\udc00\": "
     "4\n}",
     "{\n    \"\\ud800\": 3,\n    \"\\udc00\": 4,\n    \"\\uffff\": 2,\n    \"\\ud800\\udc00\": "
     "1\n}"},
};

static void check_document(const char *text, bool sort_keys, const char *wanted) {
  char *printed;
  assert_int_equal(lw_canon_text(lw_span_of(text), sort_keys, 4096, &printed), LW_OK);
  assert_string_equal(printed, wanted);
  free(printed);
}

static void test_documents(void **state) {
  (void)state;
  for (size_t i = 0; i < LW_ARRAY_SIZE(documents); i++) {
    const char *sorted = documents[i].sorted ? documents[i].sorted : documents[i].printed;
    check_document(documents[i].text, false, documents[i].printed);
    check_document(documents[i].text, true, sorted);
  }
}

static void test_members(void **state) {
  (void)state;
  static const char *const names[] = {"z", "absent", "a"};
  lw_span text = LW_SPAN("{\"a\":1,\"b\":2,\"z\":{\"d\":[],\"c\":0},\"a\":3}");
  lw_doc *doc = lw_doc_parse_copy(text.p, text.n);
  lw_buf b;
  lw_buf_init(&b, 0, 0, 0);
  assert_int_equal(lw_canon_members(&b, &doc->json, 0, names, 3, true), LW_OK);
  check_printed(&b, LW_SPAN("{\n    \"z\": {\n        \"c\": 0,\n        \"d\": []\n    },\n"
                            "    \"a\": 3\n}"));
  assert_int_equal(lw_canon_members(&b, &doc->json, 0, names + 1, 1, true), LW_OK);
  check_printed(&b, LW_SPAN("{}"));
  lw_buf_fini(&b);
  lw_doc_unref(doc);
}

/* Each limit below the whole is refused, wherever it cuts. */
static void test_the_limit_holds(void **state) {
  (void)state;
  lw_span text = LW_SPAN("{\"k\\u00e9\":[1.5,[],{\"a\":\"x\\ud83d\\ude00\"},-7],\"b\":null}");
  char *printed;
  assert_int_equal(lw_canon_text(text, false, 0, &printed), LW_OK);
  size_t n = strlen(printed);
  free(printed);
  for (size_t limit = 1; limit < n; limit++) {
    assert_int_equal(lw_canon_text(text, false, limit, &printed), LW_LIMIT);
    assert_null(printed);
  }
  assert_int_equal(lw_canon_text(text, false, n, &printed), LW_OK);
  free(printed);
  assert_int_equal(lw_canon_text(LW_SPAN("[1,"), false, 0, &printed), LW_PROTOCOL);
  assert_null(printed);
}

static int drop_spares(void **state) {
  (void)state;
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_string),      cmocka_unit_test(test_ill_formed_is_replaced),
      cmocka_unit_test(test_url_message), cmocka_unit_test(test_documents),
      cmocka_unit_test(test_members),     cmocka_unit_test(test_the_limit_holds),
  };
  return cmocka_run_group_tests_name("canon", tests, NULL, drop_spares);
}

/* SPDX-License-Identifier: MIT
 * wire/canon against what Python 3's json.dumps printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka needs the three above. */
#include <cmocka.h>

#include "wire/canon.h"

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

static int drop_spares(void **state) {
  (void)state;
  lw_buf_drop_spares();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_string),
      cmocka_unit_test(test_ill_formed_is_replaced),
      cmocka_unit_test(test_url_message),
  };
  return cmocka_run_group_tests_name("canon", tests, NULL, drop_spares);
}

/* SPDX-License-Identifier: MIT
 * The fields of a request: which go, how, and that nothing is left for the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "exchange/fields.h"

static void assert_lines(const lw_fields *f, const char *const *lines, size_t n) {
  const char *p = f->lines;
  assert_int_equal(f->count, n);
  for (size_t i = 0; i < n; i++) {
    assert_string_equal(p, lines[i]);
    p += strlen(p) + 1;
  }
}

static lw_code add(lw_fields *f, const char *name, const char *value) {
  return lw_fields_add(f, lw_span_of(name), lw_span_of(value));
}

static void which_go(void **state) {
  (void)state;
  lw_fields f = {0};
  const char *not_ours[] = {"Host", "content-length", "Expect", "Connection", "TE", "Upgrade"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(not_ours); i++) {
    assert_int_equal(add(&f, not_ours[i], "x"), LW_OK);
  }
  assert_int_equal(add(&f, "A b", "x"), LW_PROTOCOL);
  assert_int_equal(add(&f, "A", "x\r\nB: c"), LW_PROTOCOL);
  assert_int_equal(f.count, 0);
  assert_int_equal(add(&f, "X-Full", "1"), LW_OK);
  assert_int_equal(add(&f, "X-Empty", ""), LW_OK);
  const char *lines[] = {"X-Full: 1", "X-Empty;", "Accept:", "Expect:", "Content-Type:"};
  assert_lines(&f, lines, 2);
  lw_fields_seal(&f, true);
  assert_lines(&f, lines, 5);
  lw_fields_fini(&f);
}

static void used_again(void **state) {
  (void)state;
  lw_fields f = {0};
  assert_int_equal(add(&f, "accept", "*/*"), LW_OK);
  assert_int_equal(add(&f, "CONTENT-TYPE", "a/b"), LW_OK);
  lw_fields_seal(&f, true);
  assert_lines(&f, (const char *[]){"accept: */*", "CONTENT-TYPE: a/b", "Expect:"}, 3);
  char *room = f.lines;
  lw_fields_clear(&f);
  assert_ptr_equal(f.lines, room);
  lw_fields_seal(&f, false);
  assert_lines(&f, (const char *[]){"Accept:"}, 1);
  char *big = lw_calloc(1, 10001);
  memset(big, 'x', 10000);
  assert_int_equal(add(&f, "Big", big), LW_OK);
  lw_fields_clear(&f);
  assert_int_equal(f.capacity, 0); /* much room is not kept */
  free(big);
  lw_fields_fini(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(which_go),
      cmocka_unit_test(used_again),
  };
  return cmocka_run_group_tests_name("fields", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * The list of a script's files: order, digests, what is missing, and its limit. */
#include "script/sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "turn.h"

static unsigned woken;
static lw_wake wake;

static void run_wake(lw_wake *w) {
  (void)w;
  woken++;
}

static int begin(void **state) {
  (void)state;
  lw_loop_init();
  lw_wake_init(&wake, run_wake);
  lw_sources_tell(NULL);
  lw_sources_begin();
  woken = 0;
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_sources_tell(NULL);
  lw_sources_begin();
  lw_loop_fini();
  return 0;
}

static void note(const char *path, const char *text) {
  lw_span bytes = text ? lw_span_of(text) : LW_SPAN("");
  lw_sources_note(lw_span_of(path), text ? &bytes : NULL);
}

static void files_keep_their_order(void **state) {
  (void)state;
  note("b.lua", "return 1");
  note("a.lua", NULL);
  note("b.lua", "return 2");
  assert_int_equal(lw_sources_count(), 2);
  assert_string_equal(lw_sources_at(0)->path, "b.lua");
  assert_string_equal(lw_sources_at(1)->path, "a.lua");
  assert_true(lw_sources_at(0)->digest == lw_source_digest(LW_SPAN("return 2")));
  assert_true(lw_sources_at(1)->digest == 0);
  note("a.lua", "");
  assert_true(lw_sources_at(1)->digest != 0); /* it is there now, and empty */
  lw_sources_begin();
  assert_int_equal(lw_sources_count(), 0);
}

static void digests_tell_texts_apart(void **state) {
  (void)state;
  static const char *const texts[] = {"", " ", "a", "b", "ab", "ba"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(texts); i++) {
    for (size_t j = 0; j < LW_ARRAY_SIZE(texts); j++) {
      bool same = lw_source_digest(lw_span_of(texts[i])) == lw_source_digest(lw_span_of(texts[j]));
      assert_int_equal(same, i == j);
    }
  }
}

static void new_ones_are_told(void **state) {
  (void)state;
  lw_sources_tell(&wake);
  note("a.lua", "x");
  note("b.lua", NULL);
  turn_for(1);
  assert_int_equal(woken, 1);
  note("a.lua", "y");
  turn_for(1);
  assert_int_equal(woken, 1);
  lw_sources_begin();
  note("a.lua", "y");
  turn_for(1);
  assert_int_equal(woken, 2);
}

static void there_is_a_limit(void **state) {
  (void)state;
  char path[32];
  for (int i = 0; i < LW_SOURCES_MAX + 5; i++) {
    snprintf(path, sizeof path, "%d.lua", i);
    note(path, "");
  }
  assert_int_equal(lw_sources_count(), LW_SOURCES_MAX);
  assert_int_equal(lw_sources_left_out(), 5);
  note("0.lua", "x"); /* one that is in the list */
  assert_int_equal(lw_sources_left_out(), 5);
  lw_sources_begin();
  assert_int_equal(lw_sources_left_out(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(files_keep_their_order),
      TEST(digests_tell_texts_apart),
      TEST(new_ones_are_told),
      TEST(there_is_a_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

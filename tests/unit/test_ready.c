/* SPDX-License-Identifier: MIT
 * The gates: which states count as ready, what is told of them, when a change is told. */
#include "worker/ready.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static int changes;
static bool ready_at_change;
static void on_change(void) {
  changes++;
  ready_at_change = lw_ready_is();
}

static int begin(void **state) {
  (void)state;
  changes = 0;
  lw_ready_init(on_change);
  return 0;
}

static void nothing_to_wait_for_is_ready(void **state) {
  (void)state;
  assert_true(lw_ready_is());
  assert_string_equal(lw_ready_error(), "");
  for (int g = 0; g < LW_GATE_COUNT; g++) {
    assert_int_equal(lw_ready_gate(g).state, LW_GATE_UNUSED);
    assert_string_equal(lw_ready_gate(g).why, "");
  }
}

static void each_gate_closes_it(void **state) {
  (void)state;
  for (int g = 0; g < LW_GATE_COUNT; g++) {
    lw_ready_set(g, LW_GATE_WAITING, "waits for %d", g);
    assert_false(lw_ready_is());
    assert_string_equal(lw_ready_error(), "");
    lw_ready_set(g, LW_GATE_FAILED, "bad %d", g);
    assert_false(lw_ready_is());
    assert_string_equal(lw_ready_error(), lw_ready_gate(g).why);
    lw_ready_set(g, LW_GATE_PASSED, "%s", "");
    assert_true(lw_ready_is());
    lw_ready_set(g, LW_GATE_FAILED, "bad again");
    lw_ready_set(g, LW_GATE_UNUSED, "%s", "");
    assert_true(lw_ready_is());
  }
}

static void the_first_failed_gate_gives_the_error(void **state) {
  (void)state;
  lw_ready_set(LW_GATE_KEY, LW_GATE_FAILED, "no key");
  assert_string_equal(lw_ready_error(), "no key");
  lw_ready_set(LW_GATE_LOG, LW_GATE_FAILED, "corrupted");
  assert_string_equal(lw_ready_error(), "corrupted");
  lw_ready_set(LW_GATE_LOG, LW_GATE_PASSED, "%s", "");
  assert_string_equal(lw_ready_error(), "no key");
}

static void changes_are_told_once(void **state) {
  (void)state;
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "a");
  assert_int_equal(changes, 1);
  assert_false(ready_at_change);
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "a");
  assert_int_equal(changes, 1);
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "b"); /* the text alone */
  assert_int_equal(changes, 2);
  lw_ready_set(LW_GATE_LOG, LW_GATE_PASSED, "b"); /* the state alone */
  assert_int_equal(changes, 3);
  assert_true(ready_at_change);
}

static void since_moves_with_the_state_only(void **state) {
  (void)state;
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "a");
  double since_s = lw_ready_gate(LW_GATE_LOG).since_s, whole_s = lw_ready_since_s();
  usleep(3000);
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "b");
  assert_true(lw_ready_gate(LW_GATE_LOG).since_s == since_s);
  lw_ready_set(LW_GATE_LOG, LW_GATE_FAILED, "c"); /* still not ready */
  assert_true(lw_ready_gate(LW_GATE_LOG).since_s > since_s);
  assert_true(lw_ready_since_s() == whole_s);
  usleep(3000);
  lw_ready_set(LW_GATE_LOG, LW_GATE_PASSED, "d");
  assert_true(lw_ready_since_s() > whole_s);
}

static void a_long_text_is_cut_between_characters(void **state) {
  (void)state;
  char text[1200];
  for (size_t shift = 0; shift < 4; shift++) {
    memset(text, 'x', shift);
    for (size_t i = shift; i + 4 < sizeof text; i += 4) memcpy(text + i, "\xF0\x9F\x98\x80", 5);
    lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "%s", text);
    const char *why = lw_ready_gate(LW_GATE_LOG).why;
    assert_true(strlen(why) <= 500 && strlen(why) > 496);
    assert_int_equal((strlen(why) - shift) % 4, 0);
    assert_memory_equal(why, text, strlen(why));
  }
}

static void a_text_may_come_from_the_gate_itself(void **state) {
  (void)state;
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "old");
  lw_ready_set(LW_GATE_LOG, LW_GATE_FAILED, "%s, and more", lw_ready_gate(LW_GATE_LOG).why);
  assert_string_equal(lw_ready_error(), "old, and more");
}

static void names(void **state) {
  (void)state;
  for (int g = 0; g < LW_GATE_COUNT; g++) assert_true(*lw_gate_name(g) != 0);
  assert_string_equal(lw_gate_name(LW_GATE_KEY), "key");
  assert_string_equal(lw_gate_state_name(LW_GATE_UNUSED), "unused");
  assert_string_equal(lw_gate_state_name(LW_GATE_FAILED), "failed");
}

#define TEST(f) cmocka_unit_test_setup(f, begin)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(nothing_to_wait_for_is_ready),          TEST(each_gate_closes_it),
      TEST(the_first_failed_gate_gives_the_error), TEST(changes_are_told_once),
      TEST(since_moves_with_the_state_only),       TEST(a_long_text_is_cut_between_characters),
      TEST(a_text_may_come_from_the_gate_itself),  TEST(names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

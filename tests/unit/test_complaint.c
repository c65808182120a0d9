/* SPDX-License-Identifier: MIT
 * worker/complaint: that what floor/fold counts is told in time, and that no timer runs without
 * need. The windows pass a hundred times as fast. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/timer.h"
#include "turn.h"
#include "worker/complaint.h"
#include "worker/pace.h"

static char seen[65536];
static int sink_fd = -1;

static int begin(void **state) {
  (void)state;
  char path[] = "/tmp/lw-test-complaint-XXXXXX";
  sink_fd = mkstemp(path);
  if (sink_fd < 0 || unlink(path) != 0) return 1;
  lw_log_setup(sink_fd, LW_LOG_INFO, LW_LOG_TEXT);
  lw_pace_set(100);
  lw_loop_init();
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_complaint_close();
  unsigned left = lw_timers_active();
  lw_loop_fini();
  lw_pace_set(1);
  close(sink_fd);
  lw_log_setup(STDERR_FILENO, LW_LOG_INFO, LW_LOG_TEXT);
  return left != 0;
}

static bool has(const char *text) {
  ssize_t n = pread(sink_fd, seen, sizeof seen - 1, 0);
  assert_true(n >= 0);
  seen[n] = 0;
  return strstr(seen, text) != NULL;
}

static void complain(const char *error) {
  lw_complain(
      &(lw_fold_line){.level = LW_LOG_WARN, .message = "it failed", .error = lw_span_of(error)});
}

static void what_was_counted_is_told_in_time(void **state) {
  (void)state;
  complain("boom");
  assert_true(has("it failed error=boom\n"));
  assert_int_equal(lw_timers_active(), 0);
  complain("boom");
  assert_int_equal(lw_timers_active(), 1);
  complain("boom");
  complain("bang");
  complain("bang");
  assert_int_equal(lw_timers_active(), 1);
  TURN_UNTIL(has("it failed, again times=2 ") && has("it failed, again times=1 "));
  TURN_UNTIL(lw_timers_active() == 0);
}

/* A kind whose window has grown must not hold up a new one. */
static void a_new_kind_is_told_before_an_old_one(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    char text[64];
    complain("old");
    complain("old");
    snprintf(text, sizeof text, "times=%d ", i == 0 ? 1 : 2);
    TURN_UNTIL(has(text));
  }
  complain("old");
  complain("new");
  complain("new");
  TURN_UNTIL(has("error=new"));
  TURN_UNTIL(strstr(seen, "again") && has("times=1 ") &&
             strstr(strstr(seen, "error=new"), "again"));
}

static void a_reset_tells_at_once(void **state) {
  (void)state;
  lw_complaint_reset();
  complain("boom");
  complain("boom");
  lw_complaint_reset();
  assert_true(has("it failed, again times=1 "));
  assert_int_equal(lw_timers_active(), 0);
  complain("boom");
  assert_true(strstr(strstr(seen, "again"), "\n") != NULL && has("again"));
  lw_complaint_close();
  lw_complaint_close();
  complain("after the end");
  assert_true(has("after the end"));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(what_was_counted_is_told_in_time),
      CASE(a_new_kind_is_told_before_an_old_one),
      CASE(a_reset_tells_at_once),
  };
  return cmocka_run_group_tests_name("complaint", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * The tail of a log: what can't be read, how much it reads in a turn of the loop, and its end. */
#include "worker/tail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tail_story.h"

/* -- what can't be read -- */

static void what_is_no_file_is_refused(void **state) {
  (void)state;
  mkdir(at("log"), 0700);
  follow("log");
  TURN_UNTIL(strcmp(error(), "Is a directory") == 0);
  assert_int_equal(rmdir(at("log")), 0);
  assert_int_equal(mkfifo(at("log"), 0600), 0);
  TURN_UNTIL(strcmp(error(), "it is a pipe, socket or device") == 0);
  assert_int_equal(open(at("log"), O_WRONLY | O_NONBLOCK), -1); /* nobody reads it */
  unlink(at("log"));
  point("log", "/dev/zero");
  turn_for(20);
  assert_string_equal(error(), "it is a pipe, socket or device");
  point("log", "log");
  TURN_UNTIL(strcmp(error(), "Too many levels of symbolic links") == 0);
  unlink(at("log"));
  put("log", "x\n");
  EXPECT("x\n");
  assert_string_equal(error(), "");
}

static void said_once_in_the_log(void **state) {
  (void)state;
  FILE *f = begin("own");
  lw_log_setup(fileno(f), LW_LOG_INFO, LW_LOG_TEXT);
  follow("log");
  TURN_UNTIL(strcmp(error(), "No such file or directory") == 0);
  mkdir(at("log"), 0700);
  TURN_UNTIL(strcmp(error(), "Is a directory") == 0);
  turn_for(1100); /* two more looks */
  rmdir(at("log"));
  put("log", "x\n");
  EXPECT("x\n");
  move("log", "log.1"); /* says nothing */
  turn_for(20);
  put("log", "y\n");
  EXPECT("x\n|y\n");
  lw_log_setup(1, LW_LOG_OFF, LW_LOG_TEXT);
  fclose(f);
  char text[2000], *line = text;
  assert_int_equal(read_all("own", text, sizeof text), 3);
  assert_non_null(line = strstr(line, "log is not there yet"));
  assert_non_null(line = strstr(line, "can't be read: Is a directory"));
  assert_non_null(line = strstr(line, "can be read again"));
}

static void a_file_without_permission(void **state) {
  (void)state;
  put("log", "x\n");
  chmod(at("log"), 0);
  leave_root();
  follow("log");
  TURN_UNTIL(strcmp(error(), "Permission denied") == 0);
  be_root_again();
  chmod(at("log"), 0644);
  leave_root();
  EXPECT("x\n");
}

/* -- how much, and the end -- */

static size_t in_turn, most_in_turn;
static void count_bytes(void *owner, lw_span bytes) {
  (void)owner;
  in_turn += bytes.n;
  most_in_turn = LW_MAX(most_in_turn, in_turn);
}
static lw_timer turns;
static lw_wake next_turn;
static void begin_turn(lw_timer *t) {
  (void)t;
  in_turn = 0;
  lw_loop_wake(&next_turn);
}
static void run_next_turn(lw_wake *w) {
  (void)w;
  lw_timer_start(&turns, 0);
}
static void count_file(void *owner) { (void)owner; }

static void a_huge_file_leaves_the_loop_its_turns(void **state) {
  (void)state;
  static char block[1 << 20];
  memset(block, 'x', sizeof block);
  FILE *f = begin("log");
  for (int i = 0; i < 20; i++) fwrite(block, 1, sizeof block, f);
  fflush(f);
  lw_wake_init(&next_turn, run_next_turn);
  lw_timer_init(&turns, begin_turn);
  lw_timer_start(&turns, 0);
  static const lw_tail_events counting = {count_bytes, count_file};
  tail = lw_tail_open(at("log"), &counting, NULL);
  while (lw_tail_look(tail).bytes < 20 * sizeof block) {
    add_to(f, "x"); /* events of the watch do not make it read more */
    turn_for(1);
  }
  assert_true(most_in_turn >= 64 * 1024);
  assert_true(most_in_turn <= 256 * 1024);
  lw_timer_fini(&turns);
  lw_wake_cancel(&next_turn);
  fclose(f);
}

static void it_may_be_closed_by_its_callbacks(void **state) {
  (void)state;
  bool whole = false;
  for (size_t place = 1; !whole; place++) {
    empty("log");
    put("log", "1\n");
    story[story_n = 0] = 0;
    close_at = place;
    follow("log");
    TURN_UNTIL(!tail || story_n == 2);
    put("log", "2\n");
    copy("log", "log.0");
    empty("log");
    put("log", "3\n4");
    move("log", "log.2");
    put("log", "5\n");
    move("log", "log.1");
    put("log", "6\n");
    TURN_UNTIL(!tail || story_n == 14);
    whole = tail != NULL;
    lw_tail_close(tail);
    tail = NULL;
  }
  close_at = SIZE_MAX;
  assert_string_equal(story, "1\n2\n|3\n4|5\n|6\n");
}

static void several_of_one_file(void **state) {
  (void)state;
  lw_tail_close(NULL);
  put("log", "1\n");
  lw_tail *never_turned = lw_tail_open(at("log"), &events, story);
  lw_tail_close(never_turned);
  follow("log");
  lw_tail *other = lw_tail_open(at("log"), &events, story);
  EXPECT("1\n1\n");
  lw_tail_close(other);
  put("log", "2\n");
  EXPECT("1\n1\n2\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_is_no_file_is_refused),        TEST(said_once_in_the_log),
      TEST(a_file_without_permission),         TEST(a_huge_file_leaves_the_loop_its_turns),
      TEST(it_may_be_closed_by_its_callbacks), TEST(several_of_one_file),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

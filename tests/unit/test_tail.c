/* SPDX-License-Identifier: MIT
 * The tail of a log: every byte once, in order, never mixed within a line, through rotations of all
 * kinds. Files that can't be read and the tail's own end are in test_tail_ends.c, thousands of
 * rotations in test_tail_rotations.c. */
#include "worker/tail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tail_story.h"

/* -- one file -- */

static void a_file_from_its_first_byte(void **state) {
  (void)state;
  put("log", "one\ntwo\n");
  follow("log");
  assert_int_equal(story_n, 0);
  EXPECT("one\ntwo\n");
  put("log", "thr");
  EXPECT("one\ntwo\nthr");
  put("log", "ee\n");
  EXPECT("one\ntwo\nthree\n");
  lw_tail_figures f = lw_tail_look(tail);
  assert_int_equal(f.bytes, 14);
  assert_int_equal(f.files, 1);
  assert_int_equal(f.truncations, 0);
  assert_null(f.error);
}

static void a_file_that_comes_later(void **state) {
  (void)state;
  follow("log");
  TURN_UNTIL(strcmp(error(), "No such file or directory") == 0);
  assert_int_equal(lw_tail_look(tail).files, 0);
  put("log", "");
  TURN_UNTIL(lw_tail_look(tail).files == 1);
  assert_string_equal(error(), "");
  put("log", "x");
  EXPECT("x");
}

static void a_directory_that_comes_later(void **state) {
  (void)state;
  follow("dir/sub/log");
  turn_for(20);
  mkdir(at("dir"), 0700);
  mkdir(at("dir/sub"), 0700);
  put("dir/sub/log", "x\n");
  EXPECT("x\n");
}

static void bytes_of_any_kind(void **state) {
  (void)state;
  follow("log");
  FILE *f = fopen(at("log"), "a");
  fwrite("a\0b\xff\n", 1, 5, f);
  fclose(f);
  TURN_UNTIL(story_n == 5);
  assert_memory_equal(story, "a\0b\xff\n", 5);
}

/* -- rotation by rename -- */

static void the_old_file_is_read_to_its_end(void **state) {
  (void)state;
  FILE *old = begin("log");
  add_to(old, "1\n");
  follow("log");
  EXPECT("1\n");
  add_to(old, "2\n");
  move("log", "log.1");
  add_to(old, "3\n");
  put("log", "4\n");
  add_to(old, "5\n");
  EXPECT("1\n2\n3\n5\n|4\n");
  put("log", "6\n");
  EXPECT("1\n2\n3\n5\n|4\n6\n");
  assert_int_equal(lw_tail_look(tail).files, 2);
  fclose(old);
}

static void late_lines_come_between_lines(void **state) {
  (void)state;
  FILE *old = begin("log");
  add_to(old, "1\n");
  follow("log");
  EXPECT("1\n");
  move("log", "log.1");
  put("log", "a\n");
  EXPECT("1\n|a\n");
  add_to(old, "2\n"); /* no on_file: no line is cut by it */
  EXPECT("1\n|a\n2\n");
  put("log", "b");
  EXPECT("1\n|a\n2\nb");
  add_to(old, "3\n");
  turn_for(20);
  assert_string_equal(story, "1\n|a\n2\nb");
  put("log", "c\n");
  EXPECT("1\n|a\n2\nbc\n3\n");
  put("log", "d\n");
  EXPECT("1\n|a\n2\nbc\n3\nd\n");
  fclose(old);
}

static void an_unfinished_line_is_waited_for(void **state) {
  (void)state;
  FILE *old = begin("log");
  add_to(old, "un");
  follow("log");
  EXPECT("un");
  move("log", "log.1");
  put("log", "new\n");
  turn_for(20);
  assert_string_equal(story, "un");
  add_to(old, "finished\n");
  EXPECT("unfinished\n|new\n");
  fclose(old);
}

static void but_not_for_ever(void **state) {
  (void)state;
  FILE *old = begin("log");
  add_to(old, "un");
  follow("log");
  EXPECT("un");
  move("log", "log.1");
  put("log", "new");
  EXPECT("un|new");
  add_to(old, "finished\n"); /* now it waits for the other one */
  EXPECT("un|new|finished\n");
  put("log", "er\n");
  EXPECT("un|new|finished\ner\n");
  fclose(old);
}

static void while_there_is_no_new_file_the_old_one_is_read(void **state) {
  (void)state;
  FILE *old = begin("log");
  follow("log");
  TURN_UNTIL(lw_tail_look(tail).files == 1);
  move("log", "elsewhere");
  add_to(old, "1\n");
  EXPECT("1\n");
  assert_string_equal(error(), "No such file or directory");
  unlink(at("elsewhere"));
  add_to(old, "2\n");
  EXPECT("1\n2\n");
  put("log", "3\n");
  EXPECT("1\n2\n|3\n");
  assert_string_equal(error(), "");
  fclose(old);
}

static void a_renamed_file_may_come_back(void **state) {
  (void)state;
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  move("log", "log.1");
  put("log", "2\n");
  EXPECT("1\n|2\n");
  move("log.1", "log");
  put("log", "3\n");
  EXPECT("1\n|2\n3\n");
}

static void an_old_file_is_let_go(void **state) {
  (void)state;
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  move("log", "log.1");
  put("log", "");
  TURN_UNTIL(lw_tail_look(tail).files == 2);
  assert_int_equal(logs_open_files(), 2);
  put("log", "2\n");
  EXPECT("1\n|2\n");
  TURN_UNTIL(logs_open_files() == 1);
  move("log.1", "log"); /* what was read of it is remembered */
  put("log", "3\n");
  EXPECT("1\n|2\n3\n");
}

/* -- several rotations between two looks -- */

static void rotate(const char *const *names, size_t n) {
  for (size_t i = n - 1; i > 0; i--) rename(at(names[i - 1]), at(names[i]));
}

static void files_between_are_found(void **state) {
  (void)state;
  static const char *const names[] = {"log", "log.1", "log.2", "log.3", "log.4"};
  put("log.1", "from before\n");
  turn_for(20); /* the clock of file systems ticks */
  put("logs", "another\n");
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  put("log", "2\n");
  for (int i = 3; i <= 5; i++) {
    char line[24];
    rotate(names, 5);
    snprintf(line, sizeof line, "%d\n", i);
    put("log", line);
  }
  put("log.5.gz", "compressed\n");
  put("log2", "another\n");
  mkdir(at("log.d"), 0700);
  assert_int_equal(mkfifo(at("log.pipe"), 0600), 0);
  assert_int_equal(symlink("logs", at("log.link")), 0);
  EXPECT("1\n2\n|3\n|4\n|5\n");
  assert_int_equal(lw_tail_look(tail).files, 4);
  put("log", "6\n");
  EXPECT("1\n2\n|3\n|4\n|5\n6\n");
}

static void files_named_by_date(void **state) {
  (void)state;
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  move("log", "log-20260101");
  put("log", "2\n");
  move("log", "log-20260102");
  put("log", "3\n");
  move("log", "log-20260103");
  put("log", "4\n");
  EXPECT("1\n|2\n|3\n|4\n");
}

static void more_files_than_may_be_open(void **state) {
  (void)state;
  put("log", "0");
  follow("log");
  EXPECT("0");
  char expected[2000] = "0", name[24], line[24];
  for (int i = 1; i < 100; i++) {
    snprintf(name, sizeof name, "log.%04d", i);
    move("log", name);
    snprintf(line, sizeof line, "%d\n", i);
    put("log", line);
    strcat(strcat(expected, "|"), line);
  }
  EXPECT(expected);
  assert_true(logs_open_files() <= 16);
  assert_int_equal(lw_tail_look(tail).files, 100);
}

/* Those that were read to their end are closed for others, but not with bytes that came since. */
static void late_lines_of_many_files(void **state) {
  (void)state;
  char expected[2000] = "0\n", name[24], line[24];
  put("log", "0\n");
  follow("log");
  EXPECT("0\n");
  FILE *old = begin("log");
  for (int i = 1; i < 40; i++) {
    snprintf(name, sizeof name, "log.%04d", i);
    move("log", name);
    snprintf(line, sizeof line, "%d\n", i);
    put("log", line);
  }
  add_to(old, "late\n");
  strcat(expected, "late\n");
  for (int i = 1; i < 40; i++) {
    snprintf(line, sizeof line, "|%d\n", i);
    strcat(expected, line);
  }
  EXPECT(expected);
  fclose(old);
}

static void a_file_between_that_is_not_readable(void **state) {
  (void)state;
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  move("log", "log.2");
  put("log", "2\n");
  chmod(at("log"), 0);
  move("log", "log.1");
  put("log", "3\n");
  leave_root();
  EXPECT("1\n|3\n");
}

/* -- truncation -- */

static void truncated_to_nothing(void **state) {
  (void)state;
  put("log", "old line\nun");
  follow("log");
  EXPECT("old line\nun");
  empty("log");
  TURN_UNTIL(lw_tail_look(tail).truncations == 1);
  put("log", "new\n");
  EXPECT("old line\nun|new\n");
  assert_int_equal(lw_tail_look(tail).files, 1);
}

static void truncated_and_grown_between_two_looks(void **state) {
  (void)state;
  put("log", "first line\n");
  follow("log");
  EXPECT("first line\n");
  empty("log");
  put("log", "other text of more bytes\n");
  EXPECT("first line\n|other text of more bytes\n");
  empty("log");
  put("log", "and as many bytes again.\n");
  EXPECT("first line\n|other text of more bytes\n|and as many bytes again.\n");
  assert_int_equal(lw_tail_look(tail).truncations, 2);
}

static void a_copy_has_what_was_truncated(void **state) {
  (void)state;
  put("log", "1\n2");
  follow("log");
  EXPECT("1\n2");
  put("log", "3\n4\n");
  copy("log", "log.1");
  empty("log");
  put("log", "5\n");
  EXPECT("1\n23\n4\n|5\n");
  copy("log", "log.2"); /* of what was read already */
  empty("log");
  put("log", "6\n7\n8\n");
  EXPECT("1\n23\n4\n|5\n|6\n7\n8\n");
  copy("log", "log.3");
  empty("log");
  put("log", "9\n");
  move("log", "log.4");
  put("log", "10\n");
  EXPECT("1\n23\n4\n|5\n|6\n7\n8\n|9\n|10\n");
}

static void appended_to_an_older_file_and_emptied(void **state) {
  (void)state;
  put("log.old", "0\n");
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  put("log.old", "1\n");
  empty("log");
  put("log", "model loaded\n");
  EXPECT("1\n|model loaded\n");
}

static void a_hole_is_passed_over(void **state) {
  (void)state;
  int fd = open(at("log"), O_WRONLY | O_CREAT, 0600); /* without O_APPEND */
  char block[9000];
  memset(block, 'x', sizeof block - 1);
  block[sizeof block - 1] = '\n';
  assert_int_equal(write(fd, block, sizeof block), sizeof block);
  follow("log");
  TURN_UNTIL(lw_tail_look(tail).bytes == sizeof block);
  story[story_n = 0] = 0;
  empty("log");
  assert_int_equal(write(fd, "a\n", 2), 2);
  EXPECT("|a\n");
  empty("log");
  TURN_UNTIL(lw_tail_look(tail).truncations == 2);
  assert_int_equal(lseek(fd, 1LL << 40, SEEK_SET), 1LL << 40); /* a sparse terabyte */
  assert_int_equal(write(fd, "b\n", 2), 2);
  EXPECT("|a\n|b\n");
  close(fd);
}

/* -- replaced -- */

static void another_file_moved_there(void **state) {
  (void)state;
  put("log", "1\n");
  follow("log");
  EXPECT("1\n");
  put("log", "2\n");
  put("new", "1\n2\n3\n");
  move("new", "log");
  EXPECT("1\n2\n|1\n2\n3\n");
}

static void removed_and_made_again(void **state) {
  (void)state;
  char expected[2000] = "", line[24];
  follow("log");
  for (int i = 0; i < 100; i++) { /* many with the inode of one before */
    unlink(at("log"));
    snprintf(line, sizeof line, "%d\n", i);
    put("log", line);
    if (i > 0) strcat(expected, "|");
    strcat(expected, line);
    EXPECT(expected);
  }
}

static void a_symlink_pointed_elsewhere(void **state) {
  (void)state;
  mkdir(at("runs"), 0700);
  put("runs/a", "a1\n");
  put("runs/b", "b1\n");
  point("log", "runs/a");
  follow("log");
  EXPECT("a1\n");
  put("runs/a", "a2\n");
  EXPECT("a1\na2\n");
  point("log", "runs/b");
  EXPECT("a1\na2\n|b1\n");
  put("runs/b", "b2\n");
  EXPECT("a1\na2\n|b1\nb2\n");
  point("log", "runs/a");
  put("runs/a", "a3\n");
  EXPECT("a1\na2\n|b1\nb2\na3\n");
  move("runs/a", "runs/a.2"); /* rotated where it is */
  put("runs/a", "a4\n");
  move("runs/a", "runs/a.1");
  put("runs/a", "a5\n");
  EXPECT("a1\na2\n|b1\nb2\na3\n|a4\n|a5\n");
}

static void a_file_becomes_a_symlink(void **state) {
  (void)state;
  put("log", "1\n");
  put("other", "2\n");
  follow("log");
  EXPECT("1\n");
  point("log", "other");
  EXPECT("1\n|2\n");
  point("log", "nowhere");
  TURN_UNTIL(strcmp(error(), "No such file or directory") == 0);
  put("nowhere", "3\n");
  EXPECT("1\n|2\n|3\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_file_from_its_first_byte),
      TEST(a_file_that_comes_later),
      TEST(a_directory_that_comes_later),
      TEST(bytes_of_any_kind),
      TEST(the_old_file_is_read_to_its_end),
      TEST(late_lines_come_between_lines),
      TEST(an_unfinished_line_is_waited_for),
      TEST(but_not_for_ever),
      TEST(while_there_is_no_new_file_the_old_one_is_read),
      TEST(a_renamed_file_may_come_back),
      TEST(an_old_file_is_let_go),
      TEST(files_between_are_found),
      TEST(files_named_by_date),
      TEST(more_files_than_may_be_open),
      TEST(late_lines_of_many_files),
      TEST(a_file_between_that_is_not_readable),
      TEST(truncated_to_nothing),
      TEST(truncated_and_grown_between_two_looks),
      TEST(a_copy_has_what_was_truncated),
      TEST(appended_to_an_older_file_and_emptied),
      TEST(a_hole_is_passed_over),
      TEST(another_file_moved_there),
      TEST(removed_and_made_again),
      TEST(a_symlink_pointed_elsewhere),
      TEST(a_file_becomes_a_symlink),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

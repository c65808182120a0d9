/* SPDX-License-Identifier: MIT
 * --watch on real files: what is told as a change, once, and what is not. The list of the script's
 * files is filled by hand. */
#include "program/watcher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "floor/log.h"
#include "turn.h"

enum {
  LONG_MS = 300 /* than the settling of a burst */
};

static char folder[200], last[400];
static unsigned changes;

static const char *at(const char *name) {
  static char paths[4][400];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static void write_to(const char *name, const char *text) {
  FILE *f = fopen(at(name), "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

/* As a load would. */
static void note(const char *name, const char *text) {
  lw_span bytes = text ? lw_span_of(text) : LW_SPAN("");
  lw_sources_note(lw_span_of(at(name)), text ? &bytes : NULL);
}

static void on_changed(const char *path) {
  changes++;
  snprintf(last, sizeof last, "%s", path);
}

static int set_up(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s/lw_watcher_XXXXXX",
           getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  if (!mkdtemp(folder)) return -1;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  lw_sources_begin();
  changes = 0;
  write_to("a", "one");
  note("a", "one");
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  lw_watcher_close();
  lw_sources_begin();
  lw_loop_fini();
  static const char *const names[] = {"a", "b", "pipe"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(names); i++) unlink(at(names[i]));
  rmdir(folder);
  return 0;
}

static void a_change_is_told(void **state) {
  (void)state;
  lw_watcher_open(on_changed);
  turn_for(LONG_MS);
  assert_int_equal(changes, 0);
  write_to("a", "two");
  TURN_UNTIL(changes == 1);
  assert_string_equal(last, at("a"));
  turn_for(LONG_MS);
  assert_int_equal(changes, 1); /* though nobody has loaded it */
}

static void the_same_bytes_are_none(void **state) {
  (void)state;
  lw_watcher_open(on_changed);
  turn_for(20);
  write_to("a", "one");
  turn_for(LONG_MS);
  assert_int_equal(changes, 0);
}

/* It was saved after it was read, and before anybody watched. */
static void what_changed_before_is_told(void **state) {
  (void)state;
  write_to("a", "two");
  lw_watcher_open(on_changed);
  TURN_UNTIL(changes == 1);
}

static void saved_together_is_told_once(void **state) {
  (void)state;
  write_to("b", "one");
  note("b", "one");
  lw_watcher_open(on_changed);
  turn_for(20);
  write_to("a", "two");
  write_to("b", "two");
  TURN_UNTIL(changes > 0);
  turn_for(LONG_MS);
  assert_int_equal(changes, 1);
}

static void missing_ones_are_waited_for(void **state) {
  (void)state;
  note("b", NULL);
  lw_watcher_open(on_changed);
  turn_for(20);
  write_to("b", "one");
  TURN_UNTIL(changes == 1);
  assert_string_equal(last, at("b"));
  unlink(at("b"));
  TURN_UNTIL(changes == 2);
}

static void the_list_is_followed(void **state) {
  (void)state;
  lw_watcher_open(on_changed);
  turn_for(20);
  lw_sources_begin();
  write_to("b", "one");
  note("b", "one");
  turn_for(20);
  write_to("a", "two"); /* no longer one of them */
  turn_for(LONG_MS);
  assert_int_equal(changes, 0);
  write_to("b", "two");
  TURN_UNTIL(changes == 1);
}

static void a_pipe_is_not_read(void **state) {
  (void)state;
  lw_watcher_open(on_changed);
  turn_for(20);
  assert_int_equal(mkfifo(at("pipe"), 0600), 0);
  assert_int_equal(rename(at("pipe"), at("a")), 0);
  turn_for(LONG_MS); /* would stand still */
  assert_int_equal(changes, 0);
}

static void closing_it_twice_does_nothing(void **state) {
  (void)state;
  lw_watcher_open(on_changed);
  write_to("a", "two");
  lw_watcher_close();
  lw_watcher_close();
  turn_for(LONG_MS);
  assert_int_equal(changes, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_change_is_told),
      TEST(the_same_bytes_are_none),
      TEST(what_changed_before_is_told),
      TEST(saved_together_is_told_once),
      TEST(missing_ones_are_waited_for),
      TEST(the_list_is_followed),
      TEST(a_pipe_is_not_read),
      TEST(closing_it_twice_does_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

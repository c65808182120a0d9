/* SPDX-License-Identifier: MIT
 * floor/fold: what is told whole, what is counted, what counts as one kind, at times given by hand;
 * that no count is lost; and tracebacks in each form of the log. LW_SEED repeats the random part.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "floor/fold.h"
#include "lines.h"

enum {
  SEEN_MOST = 1 << 22
};
static char seen[SEEN_MOST + 1];
static int sink_fd = -1;
static uint64_t now;

/* -- where the lines go -- */

static int begin(void **state) {
  (void)state;
  char path[] = "/tmp/lw-test-fold-XXXXXX";
  sink_fd = mkstemp(path);
  if (sink_fd < 0 || unlink(path) != 0) return 1;
  lw_log_setup(sink_fd, LW_LOG_INFO, LW_LOG_JSON);
  lw_fold_set_window(LW_FOLD_WINDOW_MS);
  now = 1000000;
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_fold_reset(now);
  close(sink_fd);
  lw_log_setup(STDERR_FILENO, LW_LOG_INFO, LW_LOG_TEXT);
  return 0;
}

static void look(void) {
  ssize_t n = pread(sink_fd, seen, SEEN_MOST, 0);
  assert_true(n >= 0);
  seen[n] = 0;
}

/* How many lines have all of these; b and c may be NULL. */
static int lines_with(const char *a, const char *b, const char *c) {
  look();
  int found = 0;
  for (char *line = seen, *next; *line; line = next) {
    next = strchr(line, '\n') + 1;
    char kept = *next;
    *next = 0;
    assert_true(is_json_line(line));
    found += strstr(line, a) && (!b || strstr(line, b)) && (!c || strstr(line, c));
    *next = kept;
  }
  return found;
}

#define LINES(a) lines_with(a, NULL, NULL)
#define WHOLE "\"message\":\"it failed\""
#define AGAIN "\"message\":\"it failed, again\""

static void note(const char *at, const char *error, const char *id) {
  lw_fold_note(&(lw_fold_line){.level = LW_LOG_ERROR,
                               .message = "it failed",
                               .route = LW_SPAN("POST /go"),
                               .hook = LW_SPAN("handler"),
                               .at = lw_span_of(at),
                               .error = lw_span_of(error),
                               .request_id = lw_span_of(id),
                               .traceback = LW_SPAN("w.lua:1: in a\nw.lua:2: in b")},
               now);
}

static void pass(uint64_t ms) {
  now += ms;
  lw_fold_tell(now);
}

/* -- one kind -- */

static void the_first_is_told_whole(void **state) {
  (void)state;
  note("w.lua:1", "boom", "one");
  assert_int_equal(
      lines_with(WHOLE, "\"at\":\"w.lua:1\",\"error\":\"boom\"", "\"request_id\":\"one\""), 1);
  assert_int_equal(LINES("\"traceback\":\"w.lua:1: in a\\nw.lua:2: in b\"}"), 1);
  assert_true(lw_fold_due_ms() == UINT64_MAX);
}

static void the_next_are_counted(void **state) {
  (void)state;
  note("w.lua:1", "boom", "one");
  for (int i = 0; i < 1000; i++) note("w.lua:1", "boom", i == 999 ? "last" : "other");
  assert_int_equal(LINES("failed"), 1);
  assert_true(lw_fold_due_ms() == now + LW_FOLD_WINDOW_MS);
  pass(LW_FOLD_WINDOW_MS - 1);
  assert_int_equal(LINES(AGAIN), 0);
  pass(1);
  assert_int_equal(lines_with(AGAIN, "\"times\":1000,\"seconds\":10,\"route\":\"POST /go\"",
                              "\"error\":\"boom\",\"request_id\":\"last\"}"),
                   1);
  assert_int_equal(LINES("traceback"), 1);
  assert_true(lw_fold_due_ms() == UINT64_MAX);
  pass(LW_FOLD_WINDOW_MS);
  assert_int_equal(LINES("failed"), 2);
}

static void windows_double_up_to_a_limit(void **state) {
  (void)state;
  uint64_t window = LW_FOLD_WINDOW_MS;
  note("w.lua:1", "boom", "x");
  for (int i = 0; i < 9; i++) {
    note("w.lua:1", "boom", "x");
    assert_true(lw_fold_due_ms() == now + window);
    pass(window);
    assert_int_equal(LINES(AGAIN), i + 1);
    window = LW_MIN(window * 2, (uint64_t)LW_FOLD_WINDOW_MS * LW_FOLD_GROWTH);
  }
  assert_int_equal(window, LW_FOLD_WINDOW_MS * LW_FOLD_GROWTH);
}

static void after_a_quiet_window_it_is_told_whole_again(void **state) {
  (void)state;
  note("w.lua:1", "boom", "x");
  now += LW_FOLD_WINDOW_MS - 1;
  note("w.lua:1", "boom", "x");
  assert_int_equal(LINES(WHOLE), 1);
  pass(1); /* told; the next window is of 20 s */
  assert_int_equal(LINES(AGAIN), 1);
  now += 2 * LW_FOLD_WINDOW_MS;
  note("w.lua:1", "boom", "x");
  assert_int_equal(LINES(WHOLE), 2);
  note("w.lua:1", "boom", "x");
  assert_true(lw_fold_due_ms() == now + LW_FOLD_WINDOW_MS);
}

static void a_late_timer_loses_nothing(void **state) {
  (void)state;
  note("w.lua:1", "boom", "x");
  note("w.lua:1", "boom", "x");
  now += 3 * LW_FOLD_WINDOW_MS;
  note("w.lua:1", "boom", "x");
  assert_int_equal(lines_with(AGAIN, "\"times\":1,", "\"seconds\":30,"), 1);
  lw_fold_reset(now);
  assert_int_equal(lines_with(AGAIN, "\"times\":1,", "\"seconds\":0,"), 1);
  assert_int_equal(LINES(WHOLE), 1);
}

static void a_reset_tells_all_and_begins_anew(void **state) {
  (void)state;
  note("w.lua:1", "boom", "x");
  note("w.lua:1", "boom", "x");
  now += 1234;
  lw_fold_reset(now);
  assert_int_equal(lines_with(AGAIN, "\"times\":1,", "\"seconds\":1.2,"), 1);
  assert_true(lw_fold_due_ms() == UINT64_MAX);
  note("w.lua:1", "boom", "x");
  assert_int_equal(LINES(WHOLE), 2);
}

static void what_the_level_hides_is_not_counted(void **state) {
  (void)state;
  lw_log_setup(sink_fd, LW_LOG_OFF, LW_LOG_JSON);
  note("w.lua:1", "boom", "x");
  note("w.lua:1", "boom", "x");
  assert_true(lw_fold_due_ms() == UINT64_MAX);
  assert_int_equal(LINES("failed"), 0);
}

/* -- kinds -- */

static void words_with_digits_are_alike(void **state) {
  (void)state;
  note("w.lua:1", "user 17 has no key a9f3 at 0x7f00", "x");
  note("w.lua:1", "user 23456 has no key 7 at 0x1", "x");
  assert_int_equal(LINES("failed"), 1);
  note("w.lua:1", "user has no key", "x");
  note("w.lua:1", "user  has no key", "x");
  assert_int_equal(LINES(WHOLE), 3);
}

static void other_places_routes_hooks_levels_are_other_kinds(void **state) {
  (void)state;
  lw_fold_line line = {.level = LW_LOG_ERROR, .message = "it failed", .at = LW_SPAN("w.lua:1")};
  lw_fold_note(&line, now);
  line.at = LW_SPAN("w.lua:2");
  lw_fold_note(&line, now);
  line.route = LW_SPAN("GET /a");
  lw_fold_note(&line, now);
  line.hook = LW_SPAN("remote");
  lw_fold_note(&line, now);
  line.level = LW_LOG_WARN;
  lw_fold_note(&line, now);
  line.message = "it failed otherwise";
  lw_fold_note(&line, now);
  assert_int_equal(LINES("it failed"), 6);
  assert_true(lw_fold_due_ms() == UINT64_MAX);
  /* What moves from one text to its neighbour is not the same. */
  line.route = LW_SPAN("GET /aremote");
  line.hook = (lw_span){0, 0};
  lw_fold_note(&line, now);
  assert_int_equal(LINES("it failed"), 7);
}

static const char *words(unsigned n) {
  static char text[64];
  size_t i = 0;
  for (text[i++] = 'w'; n; n /= 20) text[i++] = (char)('a' + n % 20);
  text[i] = 0;
  return text;
}

static void a_place_with_many_texts_is_one_kind(void **state) {
  (void)state;
  for (unsigned i = 0; i < 1000; i++) note("w.lua:1", words(i), "x");
  assert_int_equal(LINES("failed"), LW_FOLD_KINDS_OF_PLACE + 1);
  note("w.lua:2", "elsewhere", "x");
  assert_int_equal(LINES(WHOLE), LW_FOLD_KINDS_OF_PLACE + 2);
  pass(LW_FOLD_WINDOW_MS);
  char times[32], error[64];
  snprintf(times, sizeof times, "\"times\":%d,", 1000 - LW_FOLD_KINDS_OF_PLACE - 1);
  snprintf(error, sizeof error, "\"error\":\"%s\"", words(999)); /* the last one */
  assert_int_equal(lines_with(AGAIN, times, error), 1);
}

static void the_one_not_seen_for_longest_goes(void **state) {
  (void)state;
  char at[32];
  for (int i = 0; i < LW_FOLD_KINDS; i++) {
    snprintf(at, sizeof at, "w.lua:%d", i);
    note(at, "boom", "x");
    note(at, "boom", "x");
  }
  note("w.lua:0", "boom", "x");
  note("w.lua:9999", "boom", "x"); /* w.lua:1 goes, and what it counted is told */
  assert_int_equal(LINES(AGAIN), 1);
  assert_int_equal(lines_with(AGAIN, "\"at\":\"w.lua:1\"", "\"times\":1,"), 1);
  note("w.lua:0", "boom", "x");
  assert_int_equal(LINES("failed"), LW_FOLD_KINDS + 2);
}

/* Whatever comes, at whatever times: each is told, whole or in a count. */
static void no_count_is_lost(void **state) {
  (void)state;
  const char *given = getenv("LW_SEED");
  unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)lw_now_ns();
  print_message("LW_SEED=%u\n", seed);
  long noted = 0, told = 0;
  for (int i = 0; i < 20000; i++) {
    char at[32];
    unsigned dice = (unsigned)rand_r(&seed);
    snprintf(at, sizeof at, "w.lua:%u", dice % 100);
    note(at, words(dice / 100 % 12), "x");
    noted++;
    if (dice % 31 == 0) now += (unsigned)rand_r(&seed) % 30000;
    if (dice % 7 == 0) lw_fold_tell(now);
  }
  lw_fold_reset(now);
  look();
  for (char *line = seen; *line; line = strchr(line, '\n') + 1) {
    const char *times = strstr(line, "\"times\":"), *stop = strchr(line, '\n');
    told += times && times < stop ? strtol(times + 8, NULL, 10) : 1;
  }
  assert_int_equal(told, noted);
}

static void long_texts_and_none(void **state) {
  (void)state;
  static char text[100000];
  memset(text, 'x', sizeof text - 1);
  for (int i = 0; i < 2; i++) note(text, text, text);
  lw_fold_note(&(lw_fold_line){.level = LW_LOG_WARN, .message = "bare"}, now);
  lw_fold_note(&(lw_fold_line){.level = LW_LOG_WARN, .message = "bare"}, now);
  lw_fold_reset(now);
  assert_int_equal(LINES("\"message\":\"bare\"}"), 1);
  assert_int_equal(LINES("\"message\":\"bare, again\",\"times\":1,\"seconds\":0}"), 1);
  assert_int_equal(LINES(AGAIN), 1);
}

/* -- tracebacks in the log -- */

static void log_traceback(lw_span lines) {
  lw_field f[] = {lw_field_text("a", "b"), lw_field_traceback("traceback", lines)};
  lw_log_fields(LW_LOG_ERROR, "it failed", f, 2);
}

static void a_traceback_in_text_is_one_line(void **state) {
  (void)state;
  lw_log_setup(sink_fd, LW_LOG_INFO, LW_LOG_TEXT);
  log_traceback(LW_SPAN("w.lua:1: in \"a\"\n\tw.lua:2: in \x1b[31m\n"));
  look();
  assert_non_null(strstr(seen,
                         "ERROR it failed a=b traceback=\"w.lua:1: in \\\"a\\\" | w.lua:2: in "
                         "\\u001b[31m\"\n"));
}

static void a_traceback_is_cut(void **state) {
  (void)state;
  static char lines[100000];
  for (size_t i = 0; i < sizeof lines - 1; i++) lines[i] = i % 50 == 49 ? '\n' : 'x';
  log_traceback(lw_span_of(lines));
  look();
  assert_in_range(strlen(seen), 8192, 10000);
  assert_true(is_json_line(seen));
  assert_non_null(strstr(seen, "\xe2\x80\xa6\"}\n"));
}

static void on_a_terminal_it_has_lines_of_its_own(void **state) {
  (void)state;
  int source = posix_openpt(O_RDWR | O_NOCTTY);
  if (source < 0 || grantpt(source) != 0 || unlockpt(source) != 0) {
    print_message("skipped: no pseudo terminals here\n");
    skip();
  }
  int terminal = open(ptsname(source), O_RDWR | O_NOCTTY);
  struct termios t;
  assert_int_equal(tcgetattr(terminal, &t), 0);
  cfmakeraw(&t);
  assert_int_equal(tcsetattr(terminal, TCSANOW, &t), 0);
  lw_log_setup(terminal, LW_LOG_INFO, LW_LOG_AUTO);
  log_traceback(LW_SPAN("w.lua:1: in \"a\"\n2026-01-01 ERROR \x1b[31m\r\nlast"));
  ssize_t n = read(source, seen, SEEN_MOST);
  assert_true(n > 0);
  seen[n] = 0;
  assert_non_null(strstr(seen,
                         "it failed a=b\n    w.lua:1: in \"a\"\n    2026-01-01 ERROR "
                         "\\u001b[31m\n    last\n"));
  close(terminal);
  close(source);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(the_first_is_told_whole),
      CASE(the_next_are_counted),
      CASE(windows_double_up_to_a_limit),
      CASE(after_a_quiet_window_it_is_told_whole_again),
      CASE(a_late_timer_loses_nothing),
      CASE(a_reset_tells_all_and_begins_anew),
      CASE(what_the_level_hides_is_not_counted),
      CASE(words_with_digits_are_alike),
      CASE(other_places_routes_hooks_levels_are_other_kinds),
      CASE(a_place_with_many_texts_is_one_kind),
      CASE(the_one_not_seen_for_longest_goes),
      CASE(no_count_is_lost),
      CASE(long_texts_and_none),
      CASE(a_traceback_in_text_is_one_line),
      CASE(a_traceback_is_cut),
      CASE(on_a_terminal_it_has_lines_of_its_own),
  };
  return cmocka_run_group_tests_name("fold", tests, NULL, NULL);
}

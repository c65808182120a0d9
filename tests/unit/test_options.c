/* SPDX-License-Identifier: MIT
 * Options from the command line and the environment. What ends the process runs in a child, whose
 * output and status are looked at. */
#include "program/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "floor/log.h"

static bool verbose;
static const char *name;
static int64_t count;
static double seconds;
static uint64_t bytes;

static const lw_option options[] = {
    {"verbose", LW_OPTION_FLAG, &verbose, NULL, "say more", "LW_TEST_VERBOSE", 0, 0},
    {"name", LW_OPTION_TEXT, &name, "NAME", "what it is called", "LW_TEST_NAME", 0, 0},
    {"count", LW_OPTION_NUMBER, &count, "N", "how many", "LW_TEST_COUNT", 1, 100},
    {"seconds", LW_OPTION_SECONDS, &seconds, "S", "how long", NULL, 0, 0},
    {"Sizes", LW_OPTION_HEADING, NULL, NULL, NULL, NULL, 0, 0},
    {"bytes", LW_OPTION_BYTES, &bytes, "B", "how much", NULL, 0, 0},
};
static lw_command command = {"try",   "[options] [FILE...]",  "Tries it.",
                             options, LW_ARRAY_SIZE(options), false};

/* getopt keeps its order of arguments from its first call in a process; a program parses once. */
static void forget_order(bool stop_at_first) {
  char *nothing[] = {(char *)"try", NULL};
  command.stop_at_first = stop_at_first;
  optind = 0;
  (void)!getopt(1, nothing, stop_at_first ? "+" : "");
}

static int begin(void **state) {
  (void)state;
  forget_order(false);
  verbose = false;
  name = NULL;
  count = 5;
  seconds = 1.5;
  bytes = 64 << 20;
  unsetenv("LW_TEST_VERBOSE");
  unsetenv("LW_TEST_NAME");
  unsetenv("LW_TEST_COUNT");
  return 0;
}

enum {
  MOST = 12
};
static char *argv[MOST];
static int argc;

static void set_line(const char *const *words, size_t n) {
  assert_true(n + 2 <= MOST);
  argc = 0;
  argv[argc++] = (char *)"try";
  for (size_t i = 0; i < n; i++) argv[argc++] = (char *)words[i];
  argv[argc] = NULL;
}
#define LINE(...)                              \
  do {                                         \
    const char *const words[] = {__VA_ARGS__}; \
    set_line(words, LW_ARRAY_SIZE(words));     \
  } while (0)

static void parse_it(void) { lw_options_parse(&command, argc, argv); }
static void set_up_log_wrong_level(void) { lw_options_setup_log("try", "loud", "auto"); }
static void set_up_log_wrong_format(void) { lw_options_setup_log("try", "info", "xml"); }

/* Runs f in a child: its exit status, and what it said on stdout and stderr. */
static int run(void (*f)(void), char *said, size_t size) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    f();
    fflush(stdout);
    _exit(99);
  }
  close(ends[1]);
  size_t n = 0;
  ssize_t got;
  while ((got = read(ends[0], said + n, size - 1 - n)) > 0) n += (size_t)got;
  said[n] = 0;
  close(ends[0]);
  int status;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_refusal(const char *part) {
  char said[4096];
  assert_int_equal(run(parse_it, said, sizeof said), 2);
  if (!strstr(said, part)) fail_msg("\"%s\" is not in: %s", part, said);
  assert_non_null(strstr(said, "luaworker try: "));
  assert_non_null(strstr(said, "\nTry: luaworker try --help\n"));
}

/* -- good lines -- */

static void without_options_all_stays(void **state) {
  (void)state;
  LINE("file");
  assert_int_equal(lw_options_parse(&command, argc, argv), 1);
  assert_true(!verbose && !name && count == 5 && seconds == 1.5 && bytes == 64 << 20);
  argc = 1;
  argv[1] = NULL;
  assert_int_equal(lw_options_parse(&command, argc, argv), 1);
}

static void each_kind_is_read(void **state) {
  (void)state;
  LINE("--verbose", "--name", "a b", "--count=7", "--seconds", "0.25", "--bytes", "3k", "file");
  int at = lw_options_parse(&command, argc, argv);
  assert_int_equal(at, argc - 1);
  assert_string_equal(argv[at], "file");
  assert_true(verbose && count == 7 && seconds == 0.25 && bytes == 3072);
  assert_string_equal(name, "a b");
}

static void one_dash_will_do(void **state) {
  (void)state;
  LINE("-seconds", "0.5", "-count", "9", "-verbose");
  lw_options_parse(&command, argc, argv);
  assert_true(verbose && count == 9 && seconds == 0.5);
}

static void options_may_follow_arguments(void **state) {
  (void)state;
  LINE("one", "--count", "2", "two", "--", "--verbose");
  int at = lw_options_parse(&command, argc, argv);
  assert_int_equal(count, 2);
  assert_false(verbose);
  assert_int_equal(argc - at, 3);
  assert_string_equal(argv[at], "one");
  assert_string_equal(argv[at + 1], "two");
  assert_string_equal(argv[at + 2], "--verbose");
}

static void a_command_with_inner_options_stops_at_the_first(void **state) {
  (void)state;
  forget_order(true);
  LINE("--count", "2", "script", "--count", "999", "--nonsense");
  int at = lw_options_parse(&command, argc, argv);
  assert_int_equal(count, 2);
  assert_int_equal(at, 3);
  assert_string_equal(argv[at], "script");
  assert_string_equal(argv[at + 2], "999");
}

static void sizes_have_units(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t bytes;
  } cases[] = {{"0", 0}, {"7", 7}, {"2K", 2048}, {"1.5m", 3 << 19}, {"1G", 1u << 30}};
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    LINE("--bytes", cases[i].text);
    lw_options_parse(&command, argc, argv);
    assert_true(bytes == cases[i].bytes);
  }
}

/* -- the environment -- */

static void the_environment_is_read(void **state) {
  (void)state;
  setenv("LW_TEST_VERBOSE", "Yes", 1);
  setenv("LW_TEST_NAME", "env", 1);
  setenv("LW_TEST_COUNT", "11", 1);
  LINE("file");
  lw_options_parse(&command, argc, argv);
  assert_true(verbose && count == 11);
  assert_string_equal(name, "env");
}

static void the_option_wins(void **state) {
  (void)state;
  setenv("LW_TEST_NAME", "env", 1);
  setenv("LW_TEST_VERBOSE", "no", 1);
  setenv("LW_TEST_COUNT", "", 1); /* the same as unset */
  LINE("--name", "line");
  lw_options_parse(&command, argc, argv);
  assert_string_equal(name, "line");
  assert_false(verbose);
  assert_int_equal(count, 5);
}

static void a_wrong_variable_is_named(void **state) {
  (void)state;
  setenv("LW_TEST_COUNT", "many", 1);
  LINE("file");
  expect_refusal("LW_TEST_COUNT takes a whole number from 1 to 100, not \"many\"");
}

static void words_of_truth(void **state) {
  (void)state;
  static const char *const yes[] = {"true", "1", "yes", "on", "y", "t", "TRUE", "On"};
  static const char *const no[] = {"", "0", "false", "no", "off", "11", "tr", " true", "yes "};
  for (size_t i = 0; i < LW_ARRAY_SIZE(yes); i++) assert_true(lw_text_is_true(yes[i]));
  for (size_t i = 0; i < LW_ARRAY_SIZE(no); i++) assert_false(lw_text_is_true(no[i]));
  assert_false(lw_text_is_true(NULL));
}

/* -- wrong lines -- */

static void wrong_values_say_what_is_wanted(void **state) {
  (void)state;
  static const struct {
    const char *option, *value, *part;
  } cases[] = {
      {"--count", "0", "--count takes a whole number from 1 to 100, not \"0\""},
      {"--count", "101", "not \"101\""},
      {"--count", "5x", "not \"5x\""},
      {"--count", "1.5", "not \"1.5\""},
      {"--count", "", "not \"\""},
      {"--count", "99999999999999999999", "not \"99999999999999999999\""},
      {"--seconds", "soon", "--seconds takes seconds such as 1.5, not \"soon\""},
      {"--seconds", "-1", "not \"-1\""},
      {"--seconds", "nan", "not \"nan\""},
      {"--seconds", "inf", "not \"inf\""},
      {"--bytes", "64X", "--bytes takes bytes such as 64M, not \"64X\""},
      {"--bytes", "64MB", "not \"64MB\""},
      {"--bytes", "-1", "not \"-1\""},
      {"--bytes", "999999999G", "not \"999999999G\""},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char *joined = lw_printf_dup("%s=%s", cases[i].option, cases[i].value);
    LINE(joined);
    expect_refusal(cases[i].part);
    free(joined);
  }
}

static void unknown_options_are_named(void **state) {
  (void)state;
  LINE("--nonsense");
  expect_refusal("unknown option --nonsense");
  LINE("--count", "3", "--nonsense=5", "file");
  expect_refusal("unknown option --nonsense=5");
  LINE("--Sizes");
  expect_refusal("unknown option --Sizes");
  LINE("--name");
  expect_refusal("option --name needs a value");
  LINE("--verbose=yes");
  expect_refusal("--verbose");
}

static void help_is_printed(void **state) {
  (void)state;
  char said[4096];
  static const char *const asks[] = {"--help", "-h"};
  setenv("LW_TEST_COUNT", "many", 1); /* asking for help is never a mistake */
  for (size_t i = 0; i < LW_ARRAY_SIZE(asks); i++) {
    LINE(asks[i]);
    assert_int_equal(run(parse_it, said, sizeof said), 0);
    assert_non_null(
        strstr(said, "Usage: luaworker try [options] [FILE...]\n\nTries it.\n\nOptions:\n"));
    assert_non_null(strstr(said, "--count N"));
    assert_non_null(strstr(said, "how many [env LW_TEST_COUNT] (default 5)\n"));
    assert_non_null(strstr(said, "how long (default 1.5)\n"));
    assert_non_null(strstr(said, "\n\nSizes:\n  --bytes B"));
    assert_non_null(strstr(said, "how much (default 64M)\n"));
    assert_non_null(strstr(said, "what it is called [env LW_TEST_NAME]\n"));
  }
}

static void log_options(void **state) {
  (void)state;
  char said[1024];
  lw_options_setup_log("try", "error", "json");
  assert_true(lw_log_enabled(LW_LOG_ERROR) && !lw_log_enabled(LW_LOG_WARN));
  assert_int_equal(run(set_up_log_wrong_level, said, sizeof said), 2);
  assert_non_null(strstr(said, "not \"loud\""));
  assert_int_equal(run(set_up_log_wrong_format, said, sizeof said), 2);
  assert_non_null(strstr(said, "not \"xml\""));
}

#define TEST(f) cmocka_unit_test_setup(f, begin)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(without_options_all_stays),
      TEST(each_kind_is_read),
      TEST(one_dash_will_do),
      TEST(options_may_follow_arguments),
      TEST(a_command_with_inner_options_stops_at_the_first),
      TEST(sizes_have_units),
      TEST(the_environment_is_read),
      TEST(the_option_wins),
      TEST(a_wrong_variable_is_named),
      TEST(words_of_truth),
      TEST(wrong_values_say_what_is_wanted),
      TEST(unknown_options_are_named),
      TEST(help_is_printed),
      TEST(log_options),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

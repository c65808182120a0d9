/* SPDX-License-Identifier: MIT
 * Where max_perf comes from: declared, kept in the file, measured by the script's task, which is
 * played here; and every kind of file that must not be believed. */
#include "worker/benchmark.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "floor/log.h"

static char directory[] = "/tmp/lw_benchmark_XXXXXX";
static char file[256], fresh[256];
static lw_router *router;

/* -- the task, played -- */

static int started, cancelled;
static struct lw_task *const a_task = (struct lw_task *)&started;

static struct lw_task *start_task(lw_router *r, lw_request *request, int job) {
  assert_ptr_equal(r, router);
  assert_null(request);
  assert_int_equal(job, 7);
  started++;
  return a_task;
}
static void cancel_task(struct lw_task *task) {
  assert_ptr_equal(task, a_task);
  cancelled++;
}
static const lw_task_ops ops = {start_task, cancel_task, NULL};

/* -- what is told -- */

static int told;
static double perf;
static char how[32], error[256];

static void on_done(double max_perf, const char *how_text, const char *error_text) {
  assert_false(lw_benchmark_running());
  told++;
  perf = max_perf;
  snprintf(how, sizeof how, "%s", how_text);
  snprintf(error, sizeof error, "%s", error_text ? error_text : "");
}

static int begin(void **state) {
  (void)state;
  strcpy(directory + sizeof directory - 7, "XXXXXX");
  assert_non_null(mkdtemp(directory));
  snprintf(file, sizeof file, "%s/kept", directory);
  snprintf(fresh, sizeof fresh, "%s/kept.new", directory);
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  router = lw_router_new();
  router->ops = &ops;
  router->benchmark_job = 7;
  router->digest = 1;
  assert_int_equal(lw_router_set_text(router, "model_server_url", LW_SPAN("http://m:1")), LW_OK);
  assert_int_equal(lw_router_set_text(router, "benchmark_route", LW_SPAN("/a")), LW_OK);
  started = cancelled = told = 0;
  return 0;
}
static int end(void **state) {
  (void)state;
  lw_benchmark_cancel();
  lw_router_free(router);
  unlink(file);
  assert_int_equal(access(fresh, F_OK), -1); /* nothing half-written is left */
  assert_int_equal(rmdir(directory), 0);
  return 0;
}

static void expect_told(double value, const char *from) {
  assert_int_equal(told, 1);
  told = 0;
  assert_string_equal(error, "");
  assert_string_equal(how, from);
  assert_true(perf == value);
}
static void expect_measuring(void) {
  assert_int_equal(told, 0);
  assert_int_equal(started, 1);
  started = 0;
  assert_true(lw_benchmark_running());
}
static void measure(const char *cache, double value) {
  lw_benchmark_begin(router, cache, on_done);
  expect_measuring();
  lw_benchmark_measured(router, value, NULL);
  expect_told(value, "measured");
}
static void expect_cached(double value) {
  lw_benchmark_begin(router, file, on_done);
  expect_told(value, "cached");
  assert_int_equal(started, 0);
}
/* Not believed: it is measured, and from then on the file is good. */
static void expect_not_used(void) {
  measure(file, 5);
  expect_cached(5);
}

static void write_file(const char *text, size_t n) {
  FILE *f = fopen(file, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(text, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}
static size_t read_file(char *text, size_t size) {
  FILE *f = fopen(file, "rb");
  assert_non_null(f);
  size_t n = fread(text, 1, size - 1, f);
  text[n] = 0;
  fclose(f);
  return n;
}

/* -- where it comes from -- */

static void what_is_declared_is_used_at_once(void **state) {
  (void)state;
  measure(file, 3);
  router->max_perf = 42;
  lw_benchmark_begin(router, file, on_done);
  expect_told(42, "declared");
  router->max_perf = 0;
  expect_cached(3); /* the file is as it was */
}

static void without_a_benchmark_nothing_is_known(void **state) {
  (void)state;
  router->benchmark_job = 0;
  lw_benchmark_begin(router, file, on_done);
  expect_told(0, "none");
  assert_int_equal(access(file, F_OK), -1);
}

static void what_was_measured_is_kept(void **state) {
  (void)state;
  measure(file, 1234.56789012345678);
  expect_cached(1234.56789012345678);
  char text[256];
  read_file(text, sizeof text);
  assert_memory_equal(text, "1234.567890123456", 17); /* the first line is a number alone */
  assert_ptr_equal(strchr(text, '\n') + 1, strstr(text, "luaworker script=0000000000000001 "));
}

static void without_a_file_it_is_measured_each_time(void **state) {
  (void)state;
  measure(NULL, 3);
  measure("", 4);
}

static void another_script_model_or_route_is_measured(void **state) {
  (void)state;
  measure(file, 3);
  router->digest = 2;
  measure(file, 4);
  expect_cached(4);
  assert_int_equal(lw_router_set_text(router, "model_server_url", LW_SPAN("http://m:2")), LW_OK);
  measure(file, 5);
  expect_cached(5);
  assert_int_equal(lw_router_set_text(router, "benchmark_route", LW_SPAN("/b")), LW_OK);
  measure(file, 6);
  expect_cached(6);
}

static void digests_tell_texts_apart(void **state) {
  (void)state;
  uint64_t empty = LW_BENCHMARK_DIGEST_START;
  uint64_t ab_c = lw_benchmark_digest(lw_benchmark_digest(empty, LW_SPAN("ab")), LW_SPAN("c"));
  uint64_t a_bc = lw_benchmark_digest(lw_benchmark_digest(empty, LW_SPAN("a")), LW_SPAN("bc"));
  assert_true(ab_c != a_bc);
  assert_true(lw_benchmark_digest(empty, LW_SPAN("abc")) != ab_c);
  assert_true(lw_benchmark_digest(empty, LW_SPAN("")) != empty);
}

/* -- files that are not believed -- */

static void bad_files_are_measured_anew(void **state) {
  (void)state;
  char key[256];
  measure(file, 3);
  read_file(key, sizeof key);
  const char *tail = strchr(key, '\n');
  static const char *const numbers[] = {
      "",      "nan",    "-nan",  "inf", "-inf", "0",  "-1",           "-0.0",  "1e15",
      "1e400", "1e-400", "three", "3 4", "3,5",  "3x", "\xff\xfe\xff", "\"3\"", "0x",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(numbers); i++) {
    char *text = lw_printf_dup("%s%s", numbers[i], tail);
    write_file(text, strlen(text));
    free(text);
    expect_not_used();
  }
}

static void keys_of_others_are_not_believed(void **state) {
  (void)state;
  static const char *const texts[] = {
      "3",
      "3\n",
      "3.25\nluaworker",
      "3\nluaworker script=1 model=1 route=1\n",
      "3\n4\n5\n",
      "\n\n\n",
      "3\nluaworker script=zz model= route=\n",
      "3\nluaworker script=0000000000000001",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(texts); i++) {
    write_file(texts[i], strlen(texts[i]));
    expect_not_used();
  }
  write_file("3\0\n", 3);
  expect_not_used();
  char *big = lw_calloc(1, 1 << 20);
  memset(big, '3', 1 << 20);
  write_file(big, 1 << 20);
  free(big);
  expect_not_used();
}

static void line_ends_of_any_kind(void **state) {
  (void)state;
  char text[256], other[256];
  measure(file, 3);
  read_file(text, sizeof text);
  char *key = strchr(text, '\n') + 1;
  key[strlen(key) - 1] = 0;
  int n = snprintf(other, sizeof other, "7.5 \r\n%s\r\nmore\n", key);
  write_file(other, (size_t)n);
  expect_cached(7.5);
  n = snprintf(other, sizeof other, "8\n%s", key);
  write_file(other, (size_t)n);
  expect_cached(8);
  n = snprintf(other, sizeof other, "9\n%sf", key);
  write_file(other, (size_t)n);
  expect_not_used();
}

/* -- files that can't be written -- */

static void a_directory_in_its_place(void **state) {
  (void)state;
  assert_int_equal(mkdir(file, 0700), 0);
  measure(file, 3);
  measure(file, 3);
  assert_int_equal(rmdir(file), 0);
}

static void no_such_directory(void **state) {
  (void)state;
  measure("/nowhere/at/all/kept", 3);
  measure("/nowhere/at/all/kept", 3);
}

static void a_device_is_left_alone(void **state) {
  (void)state;
  struct stat before, after;
  assert_int_equal(stat("/dev/full", &before), 0);
  measure("/dev/full", 3);
  assert_int_equal(stat("/dev/full", &after), 0);
  assert_true(S_ISCHR(after.st_mode) && before.st_ino == after.st_ino);
}

static void a_pipe_holds_nothing_up(void **state) {
  (void)state;
  assert_int_equal(mkfifo(file, 0600), 0);
  measure(file, 3);
}

/* The new file can't be opened: a link to a full device stands there. */
static void what_cannot_be_written_leaves_the_old_file(void **state) {
  (void)state;
  measure(file, 3);
  assert_int_equal(symlink("/dev/full", fresh), 0);
  router->digest = 2;
  measure(file, 4);
  unlink(fresh);
  router->digest = 1;
  expect_cached(3);
}

/* -- a run -- */

static void a_failure_is_told_and_not_kept(void **state) {
  (void)state;
  lw_benchmark_begin(router, file, on_done);
  expect_measuring();
  lw_benchmark_measured(router, 0, "the model fell over");
  assert_int_equal(told, 1);
  assert_string_equal(error, "the model fell over");
  assert_int_equal(access(file, F_OK), -1);
  told = 0;
  measure(file, 3); /* once more */
}

static void no_number_is_a_failure(void **state) {
  (void)state;
  const double bad[] = {0, -1, NAN, INFINITY, 1e15};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    told = started = 0;
    lw_benchmark_begin(router, file, on_done);
    expect_measuring();
    lw_benchmark_measured(router, bad[i], NULL);
    assert_int_equal(told, 1);
    assert_string_not_equal(error, "");
    assert_true(perf == 0);
    assert_int_equal(access(file, F_OK), -1);
  }
}

static void others_have_no_say(void **state) {
  (void)state;
  lw_router *other = lw_router_new();
  lw_benchmark_measured(router, 3, NULL); /* none is under way */
  lw_benchmark_begin(router, file, on_done);
  lw_benchmark_measured(other, 9, NULL);
  expect_measuring();
  lw_router_free(other);
}

static void a_cancelled_run_says_nothing(void **state) {
  (void)state;
  lw_benchmark_cancel();
  lw_benchmark_begin(router, file, on_done);
  expect_measuring();
  lw_benchmark_cancel();
  assert_int_equal(cancelled, 1);
  assert_false(lw_benchmark_running());
  lw_benchmark_cancel();
  assert_int_equal(cancelled, 1);
  lw_benchmark_measured(router, 3, NULL);
  assert_int_equal(told, 0);
  assert_int_equal(access(file, F_OK), -1);
  measure(file, 3);
  lw_benchmark_cancel();
  assert_int_equal(cancelled, 1); /* that task has ended by itself */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_is_declared_is_used_at_once),
      TEST(without_a_benchmark_nothing_is_known),
      TEST(what_was_measured_is_kept),
      TEST(without_a_file_it_is_measured_each_time),
      TEST(another_script_model_or_route_is_measured),
      TEST(digests_tell_texts_apart),
      TEST(bad_files_are_measured_anew),
      TEST(keys_of_others_are_not_believed),
      TEST(line_ends_of_any_kind),
      TEST(a_directory_in_its_place),
      TEST(no_such_directory),
      TEST(a_device_is_left_alone),
      TEST(a_pipe_holds_nothing_up),
      TEST(what_cannot_be_written_leaves_the_old_file),
      TEST(a_failure_is_told_and_not_kept),
      TEST(no_number_is_a_failure),
      TEST(others_have_no_say),
      TEST(a_cancelled_run_says_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

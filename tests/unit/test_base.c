/* SPDX-License-Identifier: MIT
 * floor/base: code names, spans, copies, clocks, and how the process ends when it must. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "floor/base.h"

/* So that a refused allocation comes back as NULL under the sanitizer too. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void assert_span(lw_span s, const char *text) {
  assert_int_equal(s.n, strlen(text));
  assert_memory_equal(s.p, text, s.n);
}

static void test_code_names(void **state) {
  (void)state;
  assert_string_equal(lw_code_name(LW_OK), "ok");
  assert_string_equal(lw_code_name(LW_TIMEOUT), "timeout");
  assert_string_equal(lw_code_name(LW_MISUSE), "misuse");
  assert_string_equal(lw_code_name((lw_code)99), "unknown");
  assert_string_equal(lw_code_name((lw_code)-1), "unknown");
  for (int i = LW_OK; i <= LW_MISUSE; i++) assert_true(strlen(lw_code_name((lw_code)i)) > 1);
}

static void test_span_eq(void **state) {
  (void)state;
  assert_true(lw_span_eq(LW_SPAN("a\0b"), LW_SPAN("a\0b")));
  assert_false(lw_span_eq(LW_SPAN("a\0b"), LW_SPAN("a\0c")));
  assert_false(lw_span_eq(LW_SPAN("ab"), LW_SPAN("abc")));
  assert_true(lw_span_eq(lw_span_of(NULL), LW_SPAN("")));
}

static void test_span_ieq(void **state) {
  (void)state;
  assert_true(lw_span_ieq(LW_SPAN("Content-Length"), LW_SPAN("cONTENT-lENGTH")));
  assert_false(lw_span_ieq(LW_SPAN("Content-Length"), LW_SPAN("Content-Lengt")));
  assert_false(lw_span_ieq(LW_SPAN("abc"), LW_SPAN("abd")));
  assert_true(lw_span_ieq(LW_SPAN(""), lw_span_of(NULL)));
  /* Pairs that differ in bit 0x20 only, but are no letters. */
  assert_false(lw_span_ieq(LW_SPAN("@"), LW_SPAN("`")));
  assert_false(lw_span_ieq(LW_SPAN("["), LW_SPAN("{")));
  assert_false(lw_span_ieq(LW_SPAN("\xc0"), LW_SPAN("\xe0")));
  assert_true(lw_span_ieq(LW_SPAN("AZaz"), LW_SPAN("azAZ")));
}

static void test_span_trim(void **state) {
  (void)state;
  assert_span(lw_span_trim(LW_SPAN(" \t a b\t ")), "a b");
  assert_span(lw_span_trim(LW_SPAN("a")), "a");
  assert_int_equal(lw_span_trim(LW_SPAN(" \t ")).n, 0);
  assert_int_equal(lw_span_trim(LW_SPAN("")).n, 0);
  assert_span(lw_span_trim(LW_SPAN("\r\na\n")), "\r\na\n");
}

static void test_span_next(void **state) {
  (void)state;
  lw_span rest = LW_SPAN(", a ,, b c,\t,d"), item;
  assert_true(lw_span_next(&rest, ',', &item));
  assert_span(item, "a");
  assert_true(lw_span_next(&rest, ',', &item));
  assert_span(item, "b c");
  assert_true(lw_span_next(&rest, ',', &item));
  assert_span(item, "d");
  assert_false(lw_span_next(&rest, ',', &item));
  assert_int_equal(item.n, 0);
  assert_false(lw_span_next(&rest, ',', &item));

  rest = LW_SPAN("last;");
  assert_true(lw_span_next(&rest, ';', &item));
  assert_span(item, "last");
  assert_false(lw_span_next(&rest, ';', &item));
  rest = LW_SPAN(" ; ;");
  assert_false(lw_span_next(&rest, ';', &item));
}

static void test_copies(void **state) {
  (void)state;
  char *copy = lw_strdup_n("a\0b", 3);
  assert_memory_equal(copy, "a\0b\0", 4);
  free(copy);
  copy = lw_span_dup(lw_span_of(NULL));
  assert_string_equal(copy, "");
  free(copy);
  copy = lw_strdup("text");
  assert_string_equal(copy, "text");
  free(copy);
  copy = lw_printf_dup("%s-%05d", "x", 42);
  assert_string_equal(copy, "x-00042");
  free(copy);
}

static void test_allocation(void **state) {
  (void)state;
  void *p = lw_alloc(0);
  assert_non_null(p);
  p = lw_realloc(p, 0);
  assert_non_null(p);
  free(p);
  p = lw_calloc(0, 8);
  assert_non_null(p);
  free(p);
  unsigned char *cleared = lw_calloc(100, 3);
  for (int i = 0; i < 300; i++) assert_int_equal(cleared[i], 0);
  cleared[299] = 7;
  cleared = lw_realloc(cleared, 5000);
  assert_int_equal(cleared[299], 7);
  free(cleared);
}

static void test_clocks(void **state) {
  (void)state;
  uint64_t before = lw_now_ns();
  struct timespec pause = {0, 2000000};
  nanosleep(&pause, NULL);
  uint64_t after = lw_now_ns();
  assert_true(after - before >= 2000000);
  uint64_t ms = lw_now_ms();
  assert_true(ms >= after / 1000000 && ms <= lw_now_ns() / 1000000);
  time_t now = time(NULL);
  double wall = lw_wall_s();
  assert_true(wall >= (double)now - 1 && wall <= (double)time(NULL) + 1);
}

/* Runs `act` in a child and returns how it ended; what it wrote to stderr is in `text`. */
static int run_child(void (*act)(void), char *text, size_t size) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    act();
    _exit(0);
  }
  close(ends[1]);
  size_t n = 0;
  ssize_t got;
  while (n < size - 1 && (got = read(ends[0], text + n, size - 1 - n)) > 0) n += (size_t)got;
  text[n] = '\0';
  close(ends[0]);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

static void die_with_words(void) { lw_die("gone: %s %d", "reason", 7); }
static void die_at_length(void) { lw_die("%05000d", 1); }
static void ask_too_much(void) {
  volatile size_t n = SIZE_MAX / 2;
  free(lw_alloc(n));
}
static void ask_an_overflow(void) {
  volatile size_t n = SIZE_MAX / 2;
  free(lw_calloc(n, 3));
}

static void test_die(void **state) {
  (void)state;
  char text[8192];
  int status = run_child(die_with_words, text, sizeof text);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_string_equal(text, "gone: reason 7\n");
  status = run_child(die_at_length, text, sizeof text);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_in_range(strlen(text), 500, 1024);
  assert_int_equal(text[strlen(text) - 1], '\n');
}

static void test_out_of_memory(void **state) {
  (void)state;
  char text[8192];
  int status = run_child(ask_too_much, text, sizeof text);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_non_null(strstr(text, "out of memory"));
  status = run_child(ask_an_overflow, text, sizeof text);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_non_null(strstr(text, "out of memory"));
}

static void test_seconds_as_ms(void **state) {
  (void)state;
  assert_int_equal(lw_ms(0.0015), 2);
  assert_int_equal(lw_ms(30), 30000);
  assert_int_equal(lw_ms(0), 0);
  assert_int_equal(lw_ms(-1), 0);
  assert_int_equal(lw_ms(NAN), 0);
  assert_int_equal(lw_ms(1e-9), 1);
  assert_int_equal(lw_ms(1e300), 1000000000000);
  assert_int_equal(lw_ms(INFINITY), 1000000000000);
}

static void test_macros(void **state) {
  (void)state;
  struct outer {
    int first;
    char second[3];
  } o;
  assert_ptr_equal(LW_CONTAINER_OF(&o.second, struct outer, second), &o);
  assert_int_equal(LW_ARRAY_SIZE(o.second), 3);
  assert_int_equal(LW_MIN(2, 3), 2);
  assert_int_equal(LW_MAX(2, 3), 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_code_names), cmocka_unit_test(test_span_eq),
      cmocka_unit_test(test_span_ieq),   cmocka_unit_test(test_span_trim),
      cmocka_unit_test(test_span_next),  cmocka_unit_test(test_copies),
      cmocka_unit_test(test_allocation), cmocka_unit_test(test_clocks),
      cmocka_unit_test(test_die),        cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_macros),     cmocka_unit_test(test_seconds_as_ms),
  };
  return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * wire/body: growth, the readable zeros past the end, counted references. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "wire/body.h"

static void assert_padded(const lw_body *b) {
  assert_non_null(b->p);
  assert_true(b->n <= b->capacity);
  for (size_t i = 0; i < LW_BODY_PADDING; i++) assert_int_equal(b->p[b->n + i], 0);
}

static void test_empty(void **state) {
  (void)state;
  lw_body *b = lw_body_new();
  assert_int_equal(b->n, 0);
  assert_int_equal(b->refs, 1);
  assert_padded(b);
  lw_body_append(b, NULL, 0);
  assert_int_equal(b->n, 0);
  lw_body_unref(b);
  lw_body_unref(NULL);
}

/* Odd pieces across several doublings; under the sanitizer the padding reads prove the allocation.
 */
static void test_growth(void **state) {
  (void)state;
  enum {
    N = 300000
  };
  char *bytes = lw_alloc(N);
  for (int i = 0; i < N; i++) bytes[i] = (char)(i * 31 + (i >> 8) + 1);
  lw_body *b = lw_body_new();
  size_t moves = 0;
  for (size_t at = 0, piece = 1; at < N; piece = piece % 977 + 13) {
    size_t n = LW_MIN(piece, N - at), before = b->capacity;
    lw_body_append(b, bytes + at, n);
    at += n;
    moves += b->capacity != before;
    assert_int_equal(b->n, at);
    assert_padded(b);
  }
  assert_memory_equal(b->p, bytes, N);
  assert_in_range(moves, 1, 12); /* doublings from 256 bytes */
  lw_body_unref(b);
  free(bytes);
}

static void test_one_large_append(void **state) {
  (void)state;
  enum {
    N = 1 << 20
  };
  char *bytes = lw_calloc(1, N);
  memset(bytes, 'x', N);
  lw_body *b = lw_body_new();
  lw_body_append(b, "ab", 2);
  lw_body_append(b, bytes, N);
  assert_int_equal(b->n, N + 2);
  assert_memory_equal(b->p, "abxx", 4);
  assert_int_equal(b->p[N + 1], 'x');
  assert_padded(b);
  assert_true(b->capacity < 3 * (size_t)N);
  lw_body_unref(b);
  free(bytes);
}

/* Fills up to the last byte, before and after growing, keep their padding. */
static void test_exact_fills(void **state) {
  (void)state;
  lw_body *b = lw_body_new();
  lw_body_append(b, "y", 1);
  size_t first = b->capacity;
  while (b->n < 2 * first + 2) {
    lw_body_append(b, "y", 1);
    if (b->n + 70 > b->capacity) assert_padded(b);
  }
  assert_true(b->capacity > 2 * first);
  for (size_t i = 0; i < b->n; i++) assert_int_equal(b->p[i], 'y');
  lw_body_unref(b);
}

/* What arrives at once takes no more room than that. */
static void test_first_bytes_fit(void **state) {
  (void)state;
  char bytes[1800];
  memset(bytes, 'z', sizeof bytes);
  lw_body *b = lw_body_new();
  assert_int_equal(b->capacity, 0);
  assert_padded(b);
  lw_body_append(b, bytes, sizeof bytes);
  assert_int_equal(b->capacity, sizeof bytes);
  assert_padded(b);
  lw_body_unref(b);
}

static void test_trim(void **state) {
  (void)state;
  char bytes[1000];
  memset(bytes, 't', sizeof bytes);
  lw_body *b = lw_body_new();
  lw_body_trim(b);
  assert_int_equal(b->capacity, 0);
  lw_body_append(b, bytes, sizeof bytes);
  lw_body_append(b, bytes, 1);
  assert_true(b->capacity > 1500);
  lw_body_ref(b);
  lw_body_trim(b);
  assert_true(b->capacity > 1500); /* somebody else may point into it */
  lw_body_unref(b);
  lw_body_trim(b);
  assert_int_equal(b->capacity, 1001);
  assert_int_equal(b->n, 1001);
  for (size_t i = 0; i < b->n; i++) assert_int_equal(b->p[i], 't');
  assert_padded(b);
  lw_body_unref(b);
}

static void test_references(void **state) {
  (void)state;
  lw_body *b = lw_body_new();
  lw_body_append(b, "kept", 4);
  assert_ptr_equal(lw_body_ref(b), b);
  assert_int_equal(b->refs, 2);
  lw_body_unref(b);
  assert_int_equal(b->refs, 1);
  assert_memory_equal(b->p, "kept", 4);
  lw_body_unref(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_growth),
      cmocka_unit_test(test_one_large_append),
      cmocka_unit_test(test_exact_fills),
      cmocka_unit_test(test_first_bytes_fit),
      cmocka_unit_test(test_trim),
      cmocka_unit_test(test_references),
  };
  return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}

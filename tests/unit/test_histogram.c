/* SPDX-License-Identifier: MIT
 * Histograms: every duration lands in exactly the bucket that its bounds say, and nothing is lost.
 */
#include "floor/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t *const tables[] = {lw_histogram_short, lw_histogram_long};

static size_t last_of(const uint64_t *bounds) {
  size_t i = 0;
  while (bounds[i] != UINT64_MAX) i++;
  return i;
}

static void bounds_ascend_and_end(void **state) {
  (void)state;
  for (size_t t = 0; t < LW_ARRAY_SIZE(tables); t++) {
    size_t last = last_of(tables[t]);
    assert_in_range(last, 10, LW_HISTOGRAM_BUCKETS - 1);
    for (size_t i = 1; i <= last; i++) assert_true(tables[t][i] > tables[t][i - 1]);
  }
}

/* A bound belongs to its own bucket: `le` means less or equal. */
static void around_each_bound(void **state) {
  (void)state;
  for (size_t t = 0; t < LW_ARRAY_SIZE(tables); t++) {
    const uint64_t *bounds = tables[t];
    for (size_t i = 0; i < last_of(bounds); i++) {
      lw_histogram h = {.bounds = bounds};
      lw_histogram_note(&h, bounds[i] - 1);
      lw_histogram_note(&h, bounds[i]);
      assert_int_equal(h.counts[i], 2);
      lw_histogram_note(&h, bounds[i] + 1);
      assert_int_equal(h.counts[i], 2);
      assert_int_equal(h.counts[i + 1], 1);
      assert_int_equal(lw_histogram_count(&h), 3);
    }
  }
}

static void the_ends(void **state) {
  (void)state;
  lw_histogram h = {.bounds = lw_histogram_short};
  lw_histogram_note(&h, 0);
  assert_int_equal(h.counts[0], 1);
  lw_histogram_note(&h, UINT64_MAX);
  assert_int_equal(h.counts[last_of(h.bounds)], 1);
  assert_int_equal(lw_histogram_count(&h), 2);
}

static void random_walk_against_a_plain_count(void **state) {
  (void)state;
  srand(7);
  lw_histogram h = {.bounds = lw_histogram_long};
  uint64_t below[LW_HISTOGRAM_BUCKETS] = {0};
  double sum_s = 0;
  for (int n = 0; n < 20000; n++) {
    uint64_t ns = (uint64_t)rand() << (rand() % 12);
    lw_histogram_note(&h, ns);
    sum_s += (double)ns / 1e9;
    for (size_t i = 0; i <= last_of(h.bounds); i++) below[i] += ns <= h.bounds[i];
  }
  uint64_t cumulated = 0;
  for (size_t i = 0; i <= last_of(h.bounds); i++) {
    cumulated += h.counts[i];
    assert_int_equal(cumulated, below[i]);
  }
  assert_int_equal(lw_histogram_count(&h), 20000);
  assert_true(h.sum_s > sum_s * 0.999999 && h.sum_s < sum_s * 1.000001);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bounds_ascend_and_end),
      cmocka_unit_test(around_each_bound),
      cmocka_unit_test(the_ends),
      cmocka_unit_test(random_walk_against_a_plain_count),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

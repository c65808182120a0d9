/* SPDX-License-Identifier: MIT
 * Percentiles against those of the sorted values; the ends of the range; adding up; references. */
#include "floor/quantile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
  MANY = 200000
};

static uint64_t values[MANY];
static uint64_t seed = 7;

static double uniform(void) { /* above 0, below 1 */
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}
static double normal(void) {
  return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static double exact(size_t n, double fraction) {
  double rank = ceil(fraction * (double)n);
  return (double)values[rank < 1 ? 0 : (size_t)rank - 1];
}

/* Notes values[0..n) and compares; `allowed`: relative. Returns them all noted, to be freed. */
static lw_quantile *compare(size_t n, double allowed) {
  static const double fractions[] = {0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999};
  lw_quantile *q = lw_quantile_new();
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    lw_quantile_note(q, values[i]);
    sum += (double)values[i];
  }
  qsort(values, n, sizeof *values, by_size);
  assert_int_equal(q->count, n);
  assert_int_equal(q->min_ns, values[0]);
  assert_int_equal(q->max_ns, values[n - 1]);
  assert_true(fabs(q->sum_ns - sum) <= sum * 1e-12);
  double last = 0;
  for (size_t i = 0; i < LW_ARRAY_SIZE(fractions); i++) {
    double wanted = exact(n, fractions[i]), got = lw_quantile_at(q, fractions[i]);
    if (fabs(got - wanted) > wanted * allowed) {
      fail_msg("at %g: %.1f, expected %.1f", fractions[i], got, wanted);
    }
    assert_true(got >= last);
    last = got;
  }
  assert_true(lw_quantile_at(q, 0) == (double)values[0]);
  assert_true(lw_quantile_at(q, 1) == (double)values[n - 1]);
  return q;
}

static void real_distributions_within_half_a_percent(void **state) {
  (void)state;
  for (size_t i = 0; i < MANY; i++) values[i] = (uint64_t)(1e6 + 9e8 * uniform());
  lw_quantile_unref(compare(MANY, 0.005));
  for (size_t i = 0; i < MANY; i++) values[i] = (uint64_t)(2e7 * exp(0.8 * normal()));
  lw_quantile_unref(compare(MANY, 0.005));
  for (size_t i = 0; i < MANY; i++) values[i] = (uint64_t)(1e3 - 5e4 * log(uniform()));
  lw_quantile_unref(compare(MANY, 0.005));
}

static void two_humps_and_their_gap(void **state) {
  (void)state;
  for (size_t i = 0; i < MANY; i++) {
    double centre = i % 50 == 0 ? 2e9 : 1e7; /* a freeze of 2 s, for one in fifty */
    values[i] = (uint64_t)(centre * (1 + 0.02 * normal()));
  }
  lw_quantile_unref(compare(MANY, 0.005));
}

static void few_values_stay_within_their_bucket(void **state) {
  (void)state;
  for (size_t n = 1; n < 60; n++) {
    for (size_t i = 0; i < n; i++) values[i] = (uint64_t)(1e3 * exp(15 * uniform()));
    lw_quantile_unref(compare(n, 0.0079));
  }
}

static void constant_and_single_values_are_exact(void **state) {
  (void)state;
  for (size_t i = 0; i < 1000; i++) values[i] = 123456789;
  lw_quantile_unref(compare(1000, 0));
  values[0] = 777;
  lw_quantile_unref(compare(1, 0));
  values[0] = 0;
  lw_quantile_unref(compare(1, 0));
}

static void of_none_it_is_nothing(void **state) {
  (void)state;
  lw_quantile *q = lw_quantile_new();
  size_t cursor = 0;
  lw_quantile_range b;
  assert_true(lw_quantile_at(q, 0) == 0 && lw_quantile_at(q, 0.5) == 0 &&
              lw_quantile_at(q, 1) == 0);
  assert_false(lw_quantile_next(q, &cursor, &b));
  lw_quantile_note_many(q, 5, 0);
  assert_int_equal(q->count, 0);
  assert_int_equal(q->min_ns, UINT64_MAX);
  lw_quantile_unref(q);
  lw_quantile_unref(NULL);
}

static void the_longest_still_count(void **state) {
  (void)state;
  lw_quantile *q = lw_quantile_new();
  lw_quantile_note(q, UINT64_MAX);
  lw_quantile_note(q, 1);
  lw_quantile_note(q, 20000000000000); /* 5.5 h */
  assert_int_equal(q->count, 3);
  assert_true(lw_quantile_at(q, 1) == (double)UINT64_MAX);
  assert_true(lw_quantile_at(q, 0.01) >= 1 && lw_quantile_at(q, 0.01) < 8);
  size_t cursor = 0, buckets = 0;
  lw_quantile_range b;
  while (lw_quantile_next(q, &cursor, &b)) buckets++;
  assert_int_equal(buckets, 2);
  assert_int_equal(b.count, 2);
  assert_int_equal(b.upper_ns, UINT64_MAX);
  lw_quantile_note(q, 20000000000000);
  assert_true(lw_quantile_at(q, 0.999) <= (double)UINT64_MAX);
  lw_quantile_unref(q);
}

/* Every duration lies in the bucket that says so, and the buckets leave no gap. */
static void buckets_join(void **state) {
  (void)state;
  lw_quantile *q = lw_quantile_new();
  uint64_t last_upper = 0;
  for (int shift = 0; shift < 44; shift++) {
    for (int i = -2; i <= 2; i++) {
      uint64_t ns = (UINT64_C(1) << shift) + (uint64_t)i;
      if (ns > UINT64_C(1) << 50) continue;
      lw_quantile_clear(q);
      lw_quantile_note(q, ns);
      size_t cursor = 0;
      lw_quantile_range b;
      assert_true(lw_quantile_next(q, &cursor, &b));
      assert_in_range(ns, b.lower_ns, b.upper_ns - 1);
      if (ns >= 1000) assert_true((double)(b.upper_ns - b.lower_ns) <= 0.0079 * (double)b.lower_ns);
    }
  }
  lw_quantile_clear(q);
  for (size_t i = 0; i < LW_QUANTILE_BUCKETS; i++) q->counts[i] = 1;
  lw_quantile_range b;
  for (size_t cursor = 0; lw_quantile_next(q, &cursor, &b); last_upper = b.upper_ns) {
    assert_int_equal(b.lower_ns, last_upper);
    assert_int_equal(lw_quantile_index(b.lower_ns), cursor - 1);
    assert_int_equal(lw_quantile_index(b.upper_ns - 1), cursor - 1);
  }
  assert_int_equal(last_upper, UINT64_C(1) << 43);
  assert_true(last_upper > UINT64_C(7200000000000));
  lw_quantile_unref(q);
}

static void merged_they_are_as_if_one(void **state) {
  (void)state;
  lw_quantile *halves[2] = {lw_quantile_new(), lw_quantile_new()}, *whole = lw_quantile_new();
  for (size_t i = 0; i < 10000; i++) {
    uint64_t ns = (uint64_t)(1e6 * exp(2 * normal()));
    lw_quantile_note(whole, ns);
    lw_quantile_note(halves[i % 3 == 0], ns);
  }
  lw_quantile *empty = lw_quantile_new();
  lw_quantile_merge(halves[0], empty);
  lw_quantile_merge(halves[0], halves[1]);
  assert_int_equal(halves[0]->count, whole->count);
  assert_int_equal(halves[0]->min_ns, whole->min_ns);
  assert_int_equal(halves[0]->max_ns, whole->max_ns);
  assert_true(fabs(halves[0]->sum_ns - whole->sum_ns) < 1);
  for (int i = 0; i <= 100; i++) {
    assert_true(lw_quantile_at(halves[0], i / 100.0) == lw_quantile_at(whole, i / 100.0));
  }
  lw_quantile_merge(empty, whole);
  assert_true(lw_quantile_at(empty, 0.5) == lw_quantile_at(whole, 0.5));
  lw_quantile_unref(empty);
  lw_quantile_unref(whole);
  lw_quantile_unref(halves[0]);
  lw_quantile_unref(halves[1]);
}

static void many_at_once_and_references(void **state) {
  (void)state;
  lw_quantile *q = lw_quantile_new();
  lw_quantile_note_many(q, 1000000, 99);
  lw_quantile_note(lw_quantile_ref(q), 5000000);
  lw_quantile_unref(q);
  assert_int_equal(q->count, 100);
  assert_true(fabs(lw_quantile_at(q, 0.99) - 1e6) < 8e3);
  assert_true(lw_quantile_at(q, 0.991) > 4.9e6);
  assert_true(q->sum_ns == 104e6);
  lw_quantile_clear(q);
  assert_int_equal(q->count, 0);
  assert_int_equal(q->refs, 1);
  lw_quantile_unref(q);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(real_distributions_within_half_a_percent),
      cmocka_unit_test(two_humps_and_their_gap),
      cmocka_unit_test(few_values_stay_within_their_bucket),
      cmocka_unit_test(constant_and_single_values_are_exact),
      cmocka_unit_test(of_none_it_is_nothing),
      cmocka_unit_test(the_longest_still_count),
      cmocka_unit_test(buckets_join),
      cmocka_unit_test(merged_they_are_as_if_one),
      cmocka_unit_test(many_at_once_and_references),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

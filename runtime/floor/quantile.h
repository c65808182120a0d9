/* SPDX-License-Identifier: MIT
 * Durations counted finely enough for percentiles: from 1 us to 2.4 h each power of two is cut into
 * 128 buckets, so that one is less than 0.8 % wide. Count, sum, least and most are exact; what is
 * shorter or longer still counts, and the percentiles know least and most. Noting one is a handful
 * of instructions; nothing is allocated. Two of them can be added up, which percentiles can't.
 *
 * Counted references: whoever notes into one that others own holds it. */
#pragma once

#include "floor/base.h"

enum {
  LW_QUANTILE_STEP_BITS = 7,   /* 128 buckets for each power of two */
  LW_QUANTILE_LEAST_BITS = 10, /* below 2^10 ns they are 8 ns wide */
  LW_QUANTILE_MOST_BITS = 43,  /* from 2^43 ns on all is one bucket's */
  LW_QUANTILE_BUCKETS = (LW_QUANTILE_MOST_BITS - LW_QUANTILE_LEAST_BITS + 1)
                        << LW_QUANTILE_STEP_BITS,
};

typedef struct lw_quantile {
  uint64_t count, min_ns, max_ns; /* read-only; of none: min_ns = UINT64_MAX */
  double sum_ns;                  /* read-only */
  int refs;                       /* private */
  uint64_t counts[LW_QUANTILE_BUCKETS];
} lw_quantile;

typedef struct lw_quantile_range {
  uint64_t lower_ns, upper_ns; /* lower <= value < upper */
  uint64_t count;
} lw_quantile_range;

lw_quantile *lw_quantile_new(void); /* refs = 1 */
lw_quantile *lw_quantile_ref(lw_quantile *q);
void lw_quantile_unref(lw_quantile *q); /* NULL is fine */
void lw_quantile_clear(lw_quantile *q); /* forgets all that was noted */

/* Private: where a duration is counted. */
static inline size_t lw_quantile_index(uint64_t ns) {
  if (ns >> LW_QUANTILE_LEAST_BITS == 0) {
    return (size_t)(ns >> (LW_QUANTILE_LEAST_BITS - LW_QUANTILE_STEP_BITS));
  }
  unsigned top = 63 - (unsigned)__builtin_clzll(ns);
  if (top >= LW_QUANTILE_MOST_BITS) return LW_QUANTILE_BUCKETS - 1;
  size_t octave = top - LW_QUANTILE_LEAST_BITS + 1;
  size_t step = (size_t)(ns >> (top - LW_QUANTILE_STEP_BITS)) & ((1u << LW_QUANTILE_STEP_BITS) - 1);
  return (octave << LW_QUANTILE_STEP_BITS) + step;
}

static inline void lw_quantile_note_many(lw_quantile *q, uint64_t ns, uint64_t times) {
  if (times == 0) return;
  q->counts[lw_quantile_index(ns)] += times;
  q->count += times;
  q->sum_ns += (double)ns * (double)times;
  q->min_ns = LW_MIN(q->min_ns, ns);
  q->max_ns = LW_MAX(q->max_ns, ns);
}
static inline void lw_quantile_note(lw_quantile *q, uint64_t ns) {
  lw_quantile_note_many(q, ns, 1);
}

/* The duration that `fraction` (0 to 1) of all noted ones do not exceed, linear within its bucket:
 * never below the least nor above the most of them, and exactly those at 0 and 1. 0 of none. */
double lw_quantile_at(const lw_quantile *q, double fraction);
/* Adds all that `from` has noted. */
void lw_quantile_merge(lw_quantile *to, const lw_quantile *from);
/* The next bucket with something in it, at or after index *cursor (begin with 0); false at the end.
 * The last bucket's upper bound is beyond the most. */
bool lw_quantile_next(const lw_quantile *q, size_t *cursor, lw_quantile_range *out);

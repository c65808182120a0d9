/* SPDX-License-Identifier: MIT
 * Durations counted in fixed buckets, as /metrics shows them. Noting one is a few comparisons and
 * two additions; nothing is allocated. Used by every layer that has a duration worth showing. */
#pragma once

#include "floor/base.h"

enum {
  LW_HISTOGRAM_BUCKETS = 16 /* the last one has no bound */
};

/* Ascending upper bounds in nanoseconds, ended by UINT64_MAX. */
extern const uint64_t lw_histogram_short[]; /* 0.1 ms to 5 s: gaps, turns of the loop */
extern const uint64_t lw_histogram_long[];  /* 5 ms to 10 min: requests */

typedef struct lw_histogram {
  const uint64_t *bounds;                /* one of the above, set by whoever owns it */
  uint64_t counts[LW_HISTOGRAM_BUCKETS]; /* each bucket's own, not cumulated */
  double sum_s;
} lw_histogram;

static inline void lw_histogram_note(lw_histogram *h, uint64_t ns) {
  const uint64_t *bound = h->bounds;
  while (ns > *bound) bound++;
  h->counts[bound - h->bounds]++;
  h->sum_s += (double)ns * 1e-9;
}

uint64_t lw_histogram_count(const lw_histogram *h); /* of all that were noted */

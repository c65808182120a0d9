/* SPDX-License-Identifier: MIT
 * Reading what lw_quantile_note() has counted. */
#include "floor/quantile.h"

#include <math.h>
#include <stdlib.h>

lw_quantile *lw_quantile_new(void) {
  lw_quantile *q = lw_calloc(1, sizeof *q);
  q->refs = 1;
  q->min_ns = UINT64_MAX;
  return q;
}

lw_quantile *lw_quantile_ref(lw_quantile *q) {
  q->refs++;
  return q;
}

void lw_quantile_unref(lw_quantile *q) {
  if (q && --q->refs == 0) free(q);
}

void lw_quantile_clear(lw_quantile *q) {
  *q = (lw_quantile){.refs = q->refs, .min_ns = UINT64_MAX};
}

static uint64_t lower_bound(size_t index) {
  size_t octave = index >> LW_QUANTILE_STEP_BITS;
  uint64_t step = index & ((1u << LW_QUANTILE_STEP_BITS) - 1);
  if (octave == 0) return step << (LW_QUANTILE_LEAST_BITS - LW_QUANTILE_STEP_BITS);
  unsigned shift = (unsigned)octave - 1 + LW_QUANTILE_LEAST_BITS - LW_QUANTILE_STEP_BITS;
  return (step + (1u << LW_QUANTILE_STEP_BITS)) << shift;
}

bool lw_quantile_next(const lw_quantile *q, size_t *cursor, lw_quantile_range *out) {
  size_t i = *cursor;
  while (i < LW_QUANTILE_BUCKETS && q->counts[i] == 0) i++;
  *cursor = i + 1;
  if (i >= LW_QUANTILE_BUCKETS) return false;
  uint64_t upper = lower_bound(i + 1);
  if (i == LW_QUANTILE_BUCKETS - 1) upper = LW_MAX(upper, LW_MIN(q->max_ns, UINT64_MAX - 1) + 1);
  *out = (lw_quantile_range){lower_bound(i), upper, q->counts[i]};
  return true;
}

double lw_quantile_at(const lw_quantile *q, double fraction) {
  if (q->count == 0) return 0;
  if (!(fraction > 0)) return (double)q->min_ns;
  if (fraction >= 1) return (double)q->max_ns;
  double rank = fmax(1, ceil(fraction * (double)q->count)), before = 0;
  size_t cursor = 0;
  lw_quantile_range b;
  while (lw_quantile_next(q, &cursor, &b)) {
    if (before + (double)b.count < rank) {
      before += (double)b.count;
      continue;
    }
    /* Its values lie spread over the part of the bucket where any can be. */
    double low = (double)LW_MAX(b.lower_ns, q->min_ns);
    double high = (double)LW_MIN(b.upper_ns, q->max_ns);
    return low + (high - low) * ((rank - before - 0.5) / (double)b.count);
  }
  return (double)q->max_ns;
}

void lw_quantile_merge(lw_quantile *to, const lw_quantile *from) {
  for (size_t i = 0; i < LW_QUANTILE_BUCKETS; i++) to->counts[i] += from->counts[i];
  to->count += from->count;
  to->sum_ns += from->sum_ns;
  to->min_ns = LW_MIN(to->min_ns, from->min_ns);
  to->max_ns = LW_MAX(to->max_ns, from->max_ns);
}

/* SPDX-License-Identifier: MIT
 * The buckets. Fixed for all routes and releases, so that figures of several workers can be added
 * up. */
#include "floor/histogram.h"

#define MS 1000000u
#define S 1000000000u

const uint64_t lw_histogram_short[] = {
    MS / 10, MS / 4,   MS / 2,   1 * MS,   5 * MS / 2, 5 * MS,   10 * MS,    25 * MS,
    50 * MS, 100 * MS, 250 * MS, 500 * MS, 1ull * S,   5ull * S, UINT64_MAX,
};
const uint64_t lw_histogram_long[] = {
    5 * MS,       10 * MS,  25 * MS,   50 * MS,   100 * MS,  250 * MS,   500 * MS,   1ull * S,
    5ull * S / 2, 5ull * S, 10ull * S, 30ull * S, 60ull * S, 300ull * S, 600ull * S, UINT64_MAX,
};
_Static_assert(LW_ARRAY_SIZE(lw_histogram_short) <= LW_HISTOGRAM_BUCKETS, "too many buckets");
_Static_assert(LW_ARRAY_SIZE(lw_histogram_long) <= LW_HISTOGRAM_BUCKETS, "too many buckets");

uint64_t lw_histogram_count(const lw_histogram *h) {
  uint64_t count = 0;
  for (size_t i = 0; i < LW_HISTOGRAM_BUCKETS; i++) count += h->counts[i];
  return count;
}

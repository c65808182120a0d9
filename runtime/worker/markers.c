/* SPDX-License-Identifier: MIT */
#include "worker/markers.h"

#include <stdlib.h>

struct lw_markers {
  int unused;
};
lw_markers *lw_markers_new(const lw_marker *list, size_t n, const lw_markers_events *events,
                           void *owner) {
  (void)list, (void)n, (void)events, (void)owner;
  return lw_calloc(1, sizeof(lw_markers));
}
void lw_markers_feed(lw_markers *m, lw_span bytes) { (void)m, (void)bytes; }
void lw_markers_end_line(lw_markers *m) { (void)m; }
void lw_markers_free(lw_markers *m) { free(m); }

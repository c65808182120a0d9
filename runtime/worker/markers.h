/* SPDX-License-Identifier: MIT
 * Finds the markers of a worker script in the lines of the model's log (protocol §5): substrings,
 * case-sensitive, anywhere in a line however long, in bounded memory. Pure: bytes in, marks out;
 * how the bytes were cut into pieces makes no difference. */
#pragma once

#include "floor/base.h"

typedef enum lw_marker_kind {
  LW_MARKER_LOADED,
  LW_MARKER_ERROR,
  LW_MARKER_INFO,
  LW_MARKER_KINDS
} lw_marker_kind;

typedef struct lw_marker {
  lw_marker_kind kind;
  char *text; /* an empty one, and one with a line feed, are never found */
} lw_marker;

typedef struct lw_markers lw_markers;

/* Both may neither feed nor free it. */
typedef struct lw_markers_events {
  /* A LOADED or ERROR marker stands in the line: said as soon as its last byte came, at most once
   * for each marker and line. Several come in the order in which they end, those that end at the
   * same byte in the order of the list. */
  void (*on_marker)(void *owner, const lw_marker *marker);
  /* A line with an INFO marker has ended; after all on_marker of the line. `line`: its first bytes
   * (at most LW_MARKERS_LINE) without the line end, as they came; `size`: of the whole line. */
  void (*on_info)(void *owner, lw_span line, uint64_t size);
} lw_markers_events;

enum {
  LW_MARKERS_LINE = 2048
};

/* `list` is borrowed and must stay. Never NULL, also for an empty list. */
lw_markers *lw_markers_new(const lw_marker *list, size_t n, const lw_markers_events *events,
                           void *owner);
void lw_markers_feed(lw_markers *m, lw_span bytes); /* lines end with LF, CRLF counts as one */
void lw_markers_end_line(lw_markers *m);            /* the line ends here without one */
void lw_markers_free(lw_markers *m);                /* NULL is fine */

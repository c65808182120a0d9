/* SPDX-License-Identifier: MIT
 * Counts the events of a streamed answer as its bytes come, in whatever pieces: server-sent events
 * (the HTML standard's text/event-stream) or lines of JSON. Keeps nothing of them. Pure: no I/O. */
#pragma once

#include "floor/base.h"

typedef enum lw_events_kind {
  LW_EVENTS_NONE, /* not a stream of events */
  LW_EVENTS_SSE,  /* counted: those with data, except `[DONE]` */
  LW_EVENTS_LINES /* counted: lines that are not blank */
} lw_events_kind;

enum {
  LW_EVENTS_LINE_START = 24
};

typedef struct lw_events { /* private */
  lw_events_kind kind;
  bool after_cr;  /* an LF now belongs to the line end before */
  bool first;     /* no line has ended yet: a byte order mark may begin it */
  bool with_data; /* the event so far is one that counts */
  size_t line_n;  /* of the line so far */
  char start[LW_EVENTS_LINE_START];
} lw_events;

/* By the media type, whatever its parameters. */
lw_events_kind lw_events_kind_of(lw_span content_type);
void lw_events_init(lw_events *e, lw_events_kind kind);
/* How many events these bytes have completed. */
unsigned lw_events_feed(lw_events *e, lw_span bytes);
/* The stream has ended well: 1 when it did so behind an event whose last line end, or blank line,
 * is missing. The standard drops such an event; its data has come all the same. */
unsigned lw_events_end(lw_events *e);

/* SPDX-License-Identifier: MIT
 * One measured request, as load tests fire them by the thousand: over lw_upstream, its answer read
 * and dropped in C as it comes. Knows when each part of it came, counts the events of a stream and
 * the gaps between them, keeps the end of the body.
 *
 * All moments are taken in curl's callbacks, when the bytes have been read from the socket, not
 * when somebody looks: a client with much to do does not add its queues of tasks to what it
 * measures. What remains is how long bytes lay in the socket before the loop came to read them:
 * one turn of the loop. And `started` is when the shot was fired: the request leaves (`sent`) at
 * the end of that turn at the earliest. */
#pragma once

#include "exchange/upstream.h"
#include "floor/quantile.h"

/* cdef: begin */
typedef enum lw_shot_outcome {
  LW_SHOT_RUNNING,
  LW_SHOT_OK,        /* a whole answer, whatever its status */
  LW_SHOT_CONNECT,   /* no connection: name, refused, unreachable, too late, not a usable URL */
  LW_SHOT_TLS,       /* connected, but the handshake failed or was too late */
  LW_SHOT_TIMEOUT,   /* a deadline passed after the request was sent */
  LW_SHOT_BROKEN,    /* the connection ended before the answer did */
  LW_SHOT_PROTOCOL,  /* what came is not HTTP */
  LW_SHOT_CANCELLED, /* stopped by its owner */
} lw_shot_outcome;

typedef enum lw_shot_kind {
  LW_SHOT_WHOLE, /* no stream: the body is one event, when its first byte comes */
  LW_SHOT_SSE,   /* server-sent events with data, but `[DONE]`; each when its blank line has come */
  LW_SHOT_LINES, /* lines of JSON that are not blank */
  LW_SHOT_PIECES, /* a stream was expected and its media type is another one: each read from the
                     socket, and each chunk within, that brought some of it is an event */
} lw_shot_kind;

/* Moments are those of lw_api_now(); 0: it did not come to that. */
typedef struct lw_shot_result {
  double started, sent;           /* fired; the connection was there and the request went out */
  double head;                    /* the first line of the answer's final head */
  double first;                   /* the first event */
  double last;                    /* the last byte of the body so far; 0: there was none */
  double ended;                   /* whole, or failed */
  double dns_s, connect_s, tls_s; /* one after the other; 0 on a connection used before, and the
                                     last two when the request was never sent */
  double bytes;                   /* of the body, decoded */
  double events;
  double max_gap_s; /* the longest between two events */
  int gaps;         /* how many: events - 1 */
  int outcome, status, kind;
  int reused;  /* 1: the connection had served another call */
  int retried; /* 1: it broke before any byte of the answer came, and the request was sent once more
                  on a fresh one. The server may have seen it twice */
} lw_shot_result;
/* cdef: end */

/* What many shots have in common. Whoever made it frees it, at any time: shots keep what they need.
 */
typedef struct lw_shot_plan lw_shot_plan;
lw_shot_plan *lw_shot_plan_new(lw_span method);
/* LW_PROTOCOL: not a legal field. As with lw_upstream_header() some are dropped. */
lw_code lw_shot_plan_header(lw_shot_plan *p, lw_span name, lw_span value);
void lw_shot_plan_set_timeouts(lw_shot_plan *p, const lw_upstream_timeouts *t);
void lw_shot_plan_expect_stream(lw_shot_plan *p); /* see LW_SHOT_PIECES */
/* Gaps between events are noted in it as they pass; a reference is held. Of several events that one
 * read from the socket (of those in chunks: one chunk) completes, the first ends the gap since the
 * event before, and the others none: they are gaps of 0, since that is how they came. */
void lw_shot_plan_note_gaps(lw_shot_plan *p, lw_quantile *gaps);
void lw_shot_plan_free(lw_shot_plan *p);

typedef struct lw_shot lw_shot;

/* Fires. `wake` is woken when it is over; `owner` lists it until lw_shot_free(). Copies url; body
 * (NULL: none) is shared, a reference is held until it is sent, and it must not grow any more. */
lw_shot *lw_shot_fire(const lw_shot_plan *p, lw_list *owner, lw_wake *wake, lw_span url,
                      lw_body *body);

/* LW_AGAIN until it is over, then LW_OK. */
lw_code lw_shot_wait(lw_shot *s);
/* So far, or of all. Valid for the shot's life; brought up to date by this call. */
const lw_shot_result *lw_shot_look(lw_shot *s);
/* One sentence; "" when it went well. Valid for the shot's life. */
const char *lw_shot_error(const lw_shot *s);
/* The end of the body: all of it, or its last 16 KB. Valid until the next call for this shot. */
lw_span lw_shot_tail(lw_shot *s);
/* The answer's first field of that name (any case); *value is empty when there is none. Not after
 * lw_shot_cancel(). */
bool lw_shot_get_header(const lw_shot *s, lw_span name, lw_span *value);

/* Stops it now, if it still runs: its outcome is LW_SHOT_CANCELLED. The wake is not woken. */
void lw_shot_cancel(lw_shot *s);
void lw_shot_free(lw_shot *s); /* stops it, too */
/* Of all that an owner has. */
void lw_shot_cancel_all(lw_list *owner);
void lw_shot_free_all(lw_list *owner);

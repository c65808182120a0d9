/* SPDX-License-Identifier: MIT
 * One inbound exchange: a client's request and the answer to it. Its connection side is
 * exchange/server's; what the request means is the business of the layer above, which answers
 * through the lw_response_* functions and gives the request back with lw_request_release().
 *
 *   IDLE → HEAD → WAITING → ANSWERING → ENDED       the answer is complete
 *                    └──────────┴────→ CUT          we broke it off: the client must notice
 *             └──────┴──────────┴────→ GONE         the client left
 *
 * One connection serves one request at a time, in the order they came, so the request is part of
 * the connection's memory and is used again for the next one. */
#pragma once

#include "floor/buf.h"
#include "loop/loop.h"
#include "wire/body.h"
#include "wire/h1_parse.h"
#include "wire/h1_write.h"

typedef enum lw_request_state {
  LW_REQUEST_IDLE,      /* no request yet */
  LW_REQUEST_HEAD,      /* the head was read, the body comes in */
  LW_REQUEST_WAITING,   /* complete; no answer begun */
  LW_REQUEST_ANSWERING, /* the answer's head was written */
  LW_REQUEST_ENDED,
  LW_REQUEST_CUT,
  LW_REQUEST_GONE,
} lw_request_state;

enum {
  LW_REQUEST_ID_MAX = 128,
  LW_REQUEST_SAID_MAX = 160
};

typedef struct lw_request {
  const lw_h1_head *head; /* valid until release */
  lw_body *body;          /* owned reference; NULL before HEAD and after lw_request_drop_body() */
  void *work;             /* the upper layer's */
  lw_request_state state; /* read-only: see request.c */
  char id[LW_REQUEST_ID_MAX + 1];
  const char *remote;

  /* The answer. */
  int status;
  lw_headers answer; /* fields to send; add before lw_response_head() */
  lw_h1_framing framing;
  bool keep_alive; /* may the connection go on after this answer */
  lw_wake *writer; /* borrowed: woken when the client takes bytes again, or the state changes */

  char said[LW_REQUEST_SAID_MAX + 1]; /* our own answer's reason, for the log line; may be "" */
  uint64_t begun_ns, complete_ns, first_byte_ns; /* monotonic; 0: not yet */
  uint64_t wrote_ns;            /* the turn in which body bytes were last written */
  uint64_t bytes_in, bytes_out; /* body bytes, before framing */
  struct lw_client *client;     /* the server's side of it */
} lw_request;

static inline bool lw_request_is_over(const lw_request *r) { return r->state >= LW_REQUEST_ENDED; }
static inline bool lw_request_is_head(const lw_request *r) {
  return r->head && r->head->method == LW_H1_HEAD_METHOD;
}
void lw_request_drop_body(lw_request *r); /* gives its memory back early */

/* -- answering; each does nothing when the request is over -- */

/* Writes the head with r->answer. length: the body's size, or LW_LENGTH_UNKNOWN to stream. */
#define LW_LENGTH_UNKNOWN UINT64_MAX
void lw_response_head(lw_request *r, int status, uint64_t length);
/* Body bytes. More may always be given, but whoever streams asks lw_response_is_full() first and
 * waits for r->writer to be woken. */
void lw_response_body(lw_request *r, const void *p, size_t n);
void lw_response_body_from(lw_request *r, lw_buf *from, size_t n);
bool lw_response_is_full(const lw_request *r);
void lw_response_end(lw_request *r); /* the clean end */
void lw_response_cut(lw_request *r); /* the abnormal end: never looks complete to the client */
/* A whole answer at once. */
void lw_response_send(lw_request *r, int status, const char *content_type, lw_span body);
/* A whole JSON answer of our own, with the reason for the log line. */
void lw_response_say(lw_request *r, int status, lw_span json, lw_span reason);
/* {"error": text} or, with a source, {"error": text, "source": source}; cuts when already begun. */
void lw_response_error(lw_request *r, int status, const char *source, const char *text);
/* As above, and the connection closes afterwards: its framing is in doubt, or a body is unread. */
void lw_response_refuse(lw_request *r, int status, const char *text);

/* What the log line of a request says beyond the request itself. */
typedef struct lw_request_note {
  const char *route;          /* NULL: the path */
  const char *outcome;        /* NULL: "none" */
  double workload;            /* < 0: none */
  double queue_ms;            /* < 0: none */
  const char *source, *error; /* who failed and how; NULL: nobody */
  bool quiet;                 /* asked for often and by machines: told at level debug only */
} lw_request_note;
/* The one line per request. A client that left is shown as status 499. */
void lw_request_log(const lw_request *r, const lw_request_note *note);
/* Between two pieces of a streamed answer (one without a length): what left in one turn is one. */
const lw_histogram *lw_response_gaps(void);

/* -- for exchange/server only -- */
void lw_request_init(lw_request *r, struct lw_client *client);
void lw_request_move(lw_request *r, lw_request_state to); /* asserts that the move is allowed */
void lw_request_take_id(lw_request *r); /* the client's X-Request-Id if sane, else a new one */
void lw_request_reset(lw_request *r);   /* → IDLE */
/* Implemented by the server, called by request.c. */
lw_buf *lw_client_out(struct lw_client *client);
void lw_client_flush(struct lw_client *client);

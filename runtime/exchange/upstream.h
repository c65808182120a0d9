/* SPDX-License-Identifier: MIT
 * One HTTP request to a server (the model, an autoscaler, any other), and its answer. The transport
 * (libcurl) does not show here, so it can be replaced. Connections are pooled per server and kept
 * alive without a cap of our own; a request is sent once more only when a reused connection broke
 * before any byte of the answer came.
 *
 * The owner opens, sets, starts; then it is woken (drain) whenever something changed, and asks. The
 * received body waits in a bounded buffer: beyond the high water mark the transfer pauses until the
 * owner has consumed and called lw_upstream_consumed(). lw_upstream_close() at any time, from the
 * drain or from task code (not from within uv or curl callbacks): the call is stopped in this turn,
 * its connection dropped if the answer was not complete; the pointer is dead. Nothing here calls
 * the owner back, except through the wake, and a sink's pour(). */
#pragma once

#include "floor/buf.h"
#include "loop/loop.h"
#include "wire/body.h"
#include "wire/headers.h"

typedef struct lw_upstream lw_upstream;

typedef struct lw_upstream_timeouts { /* milliseconds; 0: none */
  uint64_t connect_ms;                /* until connected */
  uint64_t first_byte_ms;             /* from the start until the first byte of the answer's head */
  uint64_t idle_ms;                   /* between two pieces of the answer, while not paused by us */
  uint64_t total_ms;
} lw_upstream_timeouts;

/* When things happened and how long connecting took; 0: it has not, or the connection was there
 * already. */
typedef struct lw_upstream_times {
  /* Monotonic. Sent: the connection was there, the request's first bytes go out. */
  uint64_t started_ns, sent_ns, first_byte_ns, ended_ns;
  double dns_s, connect_s, tls_s; /* one after the other; the last two once all is done */
  bool connected;                 /* so far that TLS, or the request, could begin */
  bool reused;                    /* the connection had served another call */
  bool retried;                   /* a reused one broke, and the request was sent once more */
} lw_upstream_times;

/* `wake` is borrowed and must outlive the call (cancel it yourself at close). Copies method and
 * url, which may be any address of exchange/address.h. */
lw_upstream *lw_upstream_open(lw_span method, lw_span url, lw_wake *wake);
/* Somebody else takes the call over: `wake` is woken from now on. */
void lw_upstream_set_wake(lw_upstream *u, lw_wake *wake);
/* Before the start, for who only looks at the body: it is not kept, but given to pour() as it comes
 * out of the socket, from within curl's callbacks (note only), with the present time. Never pauses;
 * the wake tells of the end alone. */
typedef struct lw_upstream_sink {
  void (*pour)(struct lw_upstream_sink *s, lw_span bytes, uint64_t now_ns);
} lw_upstream_sink;
void lw_upstream_set_sink(lw_upstream *u, lw_upstream_sink *sink);
/* Adds a field; returns LW_PROTOCOL (and adds nothing) when name or value are illegal. Hop-by-hop
 * fields, Host, Content-Length and Expect are not the caller's to set: dropped silently, LW_OK. */
lw_code lw_upstream_header(lw_upstream *u, lw_span name, lw_span value);
/* All fields at once, in place of those added before. Copies. */
struct lw_fields;
void lw_upstream_set_fields(lw_upstream *u, const struct lw_fields *fields);
/* The request body: `bytes` within `owner`, of which a reference is held until they were sent and
 * can't be needed for another try. Content-Length is set from it. */
void lw_upstream_body(lw_upstream *u, lw_body *owner, lw_span bytes);
void lw_upstream_set_timeouts(lw_upstream *u, const lw_upstream_timeouts *t);
/* Begins. Errors (bad URL, refused connection...) come out of lw_upstream_head(). */
void lw_upstream_start(lw_upstream *u);

/* LW_AGAIN until the final (not 1xx) head is complete; LW_OK; or why it failed: LW_IO (can't
 * connect, bad URL), LW_CLOSED (connection lost), LW_TIMEOUT, LW_PROTOCOL (not HTTP). */
lw_code lw_upstream_head(const lw_upstream *u);
int lw_upstream_status(const lw_upstream *u);
const lw_headers *lw_upstream_headers(const lw_upstream *u); /* as received, all of them */
/* Whether the answer announced its length (and it is not overridden by chunking). */
bool lw_upstream_length(const lw_upstream *u, uint64_t *length);

/* The received, decoded body bytes not yet consumed. Consume or move bytes out, then call
 * lw_upstream_consumed(). */
lw_buf *lw_upstream_buf(lw_upstream *u);
void lw_upstream_consumed(lw_upstream *u);
/* LW_AGAIN while more may come; LW_EOF when the answer is complete (the buf may still hold bytes);
 * else why it broke off: LW_CLOSED (connection lost, or fewer bytes than announced), LW_TIMEOUT,
 * LW_PROTOCOL. */
lw_code lw_upstream_ending(const lw_upstream *u);
/* For callers to whom the status is enough: drops what has come of the body, so that the connection
 * can be kept. LW_AGAIN while more may come; LW_EOF; or why it ended (status 0: before its head).
 */
static inline lw_code lw_upstream_skip_body(lw_upstream *u) {
  lw_code code = lw_upstream_head(u);
  if (code != LW_OK) return code;
  lw_buf *in = lw_upstream_buf(u);
  lw_buf_consume(in, in->size);
  lw_upstream_consumed(u);
  return lw_upstream_ending(u);
}
/* One sentence that names the server, for operators: "model http://127.0.0.1:5001 refused the
 * connection"; "" when nothing is wrong. The role is the word before the URL. */
const char *lw_upstream_error(const lw_upstream *u);
/* Static text; default "server". The roles "model" and "health check" are trusted by --model-ca;
 * what "model" receives is counted below. */
void lw_upstream_set_role(lw_upstream *u, const char *role);
/* Monotonic ns when the first byte of the answer's head came; 0: not yet. */
uint64_t lw_upstream_first_byte_ns(const lw_upstream *u);
void lw_upstream_get_times(lw_upstream *u, lw_upstream_times *out);

void lw_upstream_close(lw_upstream *u);

unsigned lw_upstream_open_count(void);
/* Bytes of answers (heads and bodies) that calls of the role "model" have received, ever: whether
 * the model makes progress. */
uint64_t lw_upstream_model_bytes(void);

/* For all calls begun afterwards. ca_file: PEM certificates that https servers are checked with
 * instead of the system's, in calls with the roles "model" and "health check"; NULL: the system's.
 * Copies. NULL, or why the file can't be used (nothing has changed then), to be freed. */
LW_MUST_CHECK char *lw_upstream_set_trust(const char *ca_file);
/* The same for calls with the role "server", the default; insecure: whatever their certificate. */
LW_MUST_CHECK char *lw_upstream_set_server_trust(const char *ca_file, bool insecure);
/* How long an idle connection is kept for another call, seconds > 0: less than the servers keep
 * theirs, or a request crosses their close on the wire. A server that says a shorter time itself
 * (Keep-Alive: timeout=N) gets four fifths of that. Default: 4. */
void lw_upstream_set_keepalive(double seconds);
/* At exit, after every call was closed: drops idle connections and the transport. */
void lw_upstream_shutdown(void);

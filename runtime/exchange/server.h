/* SPDX-License-Identifier: MIT
 * The HTTP/1.1 server: accepts connections, reads requests (wire/h1_parse), keeps them apart on
 * keep-alive and pipelined connections, enforces sizes and deadlines, and hands each complete
 * request to the layer above, which answers and gives it back. Does not know what a request means.
 */
#pragma once

#include "exchange/request.h"
#include "loop/tls.h"

typedef struct lw_server lw_server;

typedef struct lw_server_events {
  /* The head is there. Look at r->head; either answer at once (lw_response_refuse or any whole
   * answer: the body is then not read, the connection closes if one was announced) or return how
   * many body bytes are allowed. From a uv callback: no Lua, no waiting. */
  uint64_t (*on_head)(void *owner, lw_request *r);
  /* The body is there too. In the drain. Ends with lw_request_release(). */
  void (*on_complete)(void *owner, lw_request *r);
  /* The client left after on_complete, before the answer's end: r is GONE. In the drain. The upper
   * layer stops what it does for r and releases it. */
  void (*on_gone)(void *owner, lw_request *r);
  /* lw_server_cut(), and r is over but not released: what still goes on for it ends now. In the
   * drain. NULL: nothing ever does. */
  void (*on_cut)(void *owner, lw_request *r);
} lw_server_events;

typedef struct lw_server_limits {
  lw_h1_limits h1;
  unsigned max_connections; /* more are answered 503 and closed */
  uint64_t header_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms;
} lw_server_limits;

/* NULL with *why when it can't listen. events are copied. */
lw_server *lw_server_open(const char *host, int port, const lw_server_limits *limits,
                          const lw_server_events *events, void *owner, const char **why);
/* Connections accepted from now on speak TLS with these keys (takes a reference; NULL: plain).
 * Those that are open keep theirs. */
void lw_server_set_tls(lw_server *s, lw_tls_keys *keys);
int lw_server_port(const lw_server *s);
/* Stops accepting; idle connections close, busy ones after their answer. on_idle (may be NULL) is
 * called in the drain once no connection is left. */
void lw_server_stop(lw_server *s, void (*on_idle)(void *owner));
/* Breaks off every connection: clients of running requests are gone, and see on_cut. */
void lw_server_cut(lw_server *s);
void lw_server_free(lw_server *s); /* after on_idle */
unsigned lw_server_connections(const lw_server *s);
bool lw_server_is_idle(const lw_server *s); /* stopped and without connections */

/* The upper layer is done with r, which must be over. The connection goes on with its next request.
 */
void lw_request_release(lw_request *r);
/* Requests handed up by on_complete and not yet released, in the process. */
unsigned lw_request_count(void);

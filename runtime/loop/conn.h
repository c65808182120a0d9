/* SPDX-License-Identifier: MIT
 * An accepted TCP connection: reading that can be paused, writing that is queued and gathered (all
 * that one turn wrote leaves in one writev), deadlines for both, and one close. Knows no HTTP.
 *
 *   socket → on_data (uv callback: parse and mark, never Lua) → ...
 *   ... → lw_conn_out() buffer → flushed in the late part of the drain → socket
 *
 * With keys, TLS stands between the socket and both, and nothing above notices: on_data and the out
 * buffer have plain bytes. Encrypted ahead of the socket are 48 KB at most.
 *
 * The conn belongs to its owner from accept until on_closed, which comes exactly once, in the
 * drain, after lw_conn_close(): then its memory is gone. */
#pragma once

#include "floor/buf.h"
#include "loop/loop.h"
#include "loop/tls.h"

typedef struct lw_conn lw_conn;

typedef struct lw_conn_events {
  /* Bytes came; borrowed during the call. From a uv callback. */
  void (*on_data)(void *owner, const char *p, size_t n);
  /* The peer will send no more (FIN, close_notify), or the connection broke (RST, write error,
   * write deadline; under TLS also FIN without close_notify, a failed handshake, a bad record);
   * once. From a uv callback or the drain: only mark. */
  void (*on_gone)(void *owner, bool broken);
  /* Bytes left and the out buffer is at its low mark or below. In the drain. */
  void (*on_writable)(void *owner);
  void (*on_read_deadline)(
      void *owner); /* see lw_conn_read_deadline; in the timers phase: only mark */
  void (*on_closed)(void *owner);
} lw_conn_events;

/* Who listens. on_accept (uv callback) gets a fresh conn: call lw_conn_start() or lw_conn_close().
 */
typedef struct lw_listener lw_listener;
/* host: an address or a name like "localhost"; port 0 takes any. NULL with *why filled (static
 * buffer) when it can't. `backlog` connections wait at most. */
lw_listener *lw_listener_open(const char *host, int port,
                              void (*on_accept)(void *owner, lw_conn *c), void *owner,
                              const char **why);
int lw_listener_port(const lw_listener *l);
void lw_listener_close(lw_listener *l);

/* TLS with these keys; before the start. The handshake counts against the read deadline, and what
 * is written before its end waits for it. */
void lw_conn_use_tls(lw_conn *c, lw_tls_keys *keys);
/* Called from then on for each connection whose TLS fails; NULL: nobody is. Both texts are good
 * during the call. From a uv callback or the drain. */
void lw_conn_tell_tls_failures(void (*tell)(const char *remote, const char *error));
void lw_conn_start(lw_conn *c, const lw_conn_events *events, void *owner); /* begins reading */
void lw_conn_pause(lw_conn *c, bool paused); /* reading; a paused conn still notices that its peer
                                                left, even behind unread bytes */
/* 0 ms: none. Fires once; set again to move. */
void lw_conn_read_deadline(lw_conn *c, uint64_t ms);
/* How long the peer may take none of what waits to be written, before on_gone(broken). 0: for ever.
 */
void lw_conn_write_timeout(lw_conn *c, uint64_t ms);

/* Append here, then lw_conn_flush(). Obey its high water mark for bodies. */
lw_buf *lw_conn_out(lw_conn *c);
void lw_conn_flush(lw_conn *c); /* in the late part of this drain */
/* Bytes not yet taken by the kernel, encrypted ones included. */
size_t lw_conn_pending(const lw_conn *c);

typedef enum lw_close_how {
  LW_CLOSE_NOW,    /* drop what is unsent, FIN (nothing unsent: close_notify before it) */
  LW_CLOSE_RESET,  /* drop what is unsent, RST: the peer must not take what it got for complete */
  LW_CLOSE_LINGER, /* send what waits, close_notify, FIN, then read and drop for a while, so that an
                      answer sent while the peer was still sending reaches it */
} lw_close_how;
/* May be called at any time and again (a stronger one wins); on_closed follows. */
void lw_conn_close(lw_conn *c, lw_close_how how);

const char *lw_conn_remote(const lw_conn *c); /* "127.0.0.1:54321" */
unsigned lw_conn_count(void);

/* SPDX-License-Identifier: MIT
 * An outgoing TCP connection to an address that is known: no names, no TLS, no HTTP. What was read
 * is handed on at once and not kept, so whoever takes the time in on_data has that of the read. For
 * exchange/lane, where each system call counts: one to write, one to read. */
#pragma once

#include <sys/socket.h>

#include "floor/base.h"

typedef struct lw_dial lw_dial;

/* From uv callbacks: only mark. lw_dial_close() may be called in all of them. */
typedef struct lw_dial_events {
  /* Once; os_errno 0: it is connected. */
  void (*on_connected)(void *owner, int os_errno);
  void (*on_data)(void *owner, const char *p, size_t n); /* borrowed during the call */
  /* The peer sends no more; or the connection broke (RST). Once. */
  void (*on_gone)(void *owner, bool broken);
} lw_dial_events;

/* Begins to connect. NULL: the system refused at once, *os_errno says why. */
lw_dial *lw_dial_open(const struct sockaddr *to, socklen_t n, const lw_dial_events *events,
                      void *owner, int *os_errno);
/* Once connected, and the last sending is done: sends both spans, one behind the other, now and as
 * the peer takes them. They are borrowed until then. What fails is told by on_gone. */
void lw_dial_send(lw_dial *d, lw_span first, lw_span second);
bool lw_dial_is_sending(const lw_dial *d);
/* Connected, and the peer has sent neither bytes nor an end that nobody has read yet. */
bool lw_dial_is_quiet(const lw_dial *d);
void lw_dial_close(lw_dial *d); /* the pointer is dead */
unsigned lw_dial_count(void);

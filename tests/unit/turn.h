/* SPDX-License-Identifier: MIT
 * For tests on the loop: turning it until something holds, and peers: plain non-blocking sockets
 * of this same thread, so that a test is one sequence of steps. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"

enum {
  PATIENCE_MS = 60000
}; /* for what must happen: only a failing test waits so long */

static inline void turn_stop(lw_timer *t) {
  (void)t;
  lw_loop_stop();
}

/* Lets the loop run for so long. */
static inline void turn_for(uint64_t ms) {
  lw_timer timer;
  lw_timer_init(&timer, turn_stop);
  lw_timer_start(&timer, ms);
  lw_loop_run();
  lw_timer_fini(&timer);
}

/* Turns the loop until `condition` holds; fails the test when it never does. */
#define TURN_UNTIL(condition)                                             \
  do {                                                                    \
    uint64_t turn_end = lw_now_ms() + PATIENCE_MS;                        \
    while (!(condition)) {                                                \
      if (lw_now_ms() > turn_end) fail_msg("in vain: %s", "" #condition); \
      turn_for(1);                                                        \
    }                                                                     \
  } while (0)

/* What a peer has received so far, and how the connection ended. */
typedef struct peer {
  int fd;
  char *text; /* NUL-terminated */
  size_t n;
  bool ended, reset;
} peer;

static inline void peer_open(peer *p, int port) {
  *p = (peer){.fd = socket(AF_INET, SOCK_STREAM, 0), .text = lw_calloc(1, 1)};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(p->fd, (struct sockaddr *)&to, sizeof to) != 0) abort();
  int on = 1;
  setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(p->fd, F_SETFL, O_NONBLOCK);
}

/* All of it: tests send less than the kernel takes. */
static inline void peer_send_bytes(peer *p, const void *bytes, size_t n) {
  if (send(p->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n) abort();
}
static inline void peer_send(peer *p, const char *text) { peer_send_bytes(p, text, strlen(text)); }

/* Takes what is there, at most `max` bytes; true when something is new. */
static inline bool peer_read(peer *p, size_t max) {
  char piece[65536];
  size_t before = p->n;
  while (!p->ended && p->n - before < max) {
    ssize_t n = recv(p->fd, piece, LW_MIN(sizeof piece, max - (p->n - before)), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (n <= 0) {
      p->ended = true;
      p->reset = n < 0;
      break;
    }
    p->text = lw_realloc(p->text, p->n + (size_t)n + 1);
    memcpy(p->text + p->n, piece, (size_t)n);
    p->n += (size_t)n;
    p->text[p->n] = 0;
  }
  return p->n > before || p->ended;
}

static inline bool peer_has(peer *p, const char *text) {
  peer_read(p, SIZE_MAX);
  return strstr(p->text, text) != NULL;
}
static inline bool peer_ended(peer *p) {
  peer_read(p, SIZE_MAX);
  return p->ended;
}

/* Forgets what was received. */
static inline void peer_clear(peer *p) {
  p->n = 0;
  p->text[0] = 0;
}

/* Closes; with `reset` the other side sees RST. */
static inline void peer_close(peer *p, bool reset) {
  struct linger none = {.l_onoff = 1, .l_linger = 0};
  if (reset) setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  if (p->fd >= 0) close(p->fd);
  free(p->text);
  *p = (peer){.fd = -1};
}

/* SPDX-License-Identifier: MIT
 * Outgoing TCP connections over sockets and uv_poll_t. All read into one buffer of the process. A
 * connection that is used again costs no epoll_ctl: it stays armed for reading. Owns the socket and
 * the handle. */
#include "loop/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "loop/loop.h"

enum {
  READ_SIZE = 65536,
  PROBE_S = 30, /* an idle connection asks its peer so often whether it is still there */
};

struct lw_dial {
  uv_poll_t poll;
  int fd; /* -1: closed */
  const lw_dial_events *events;
  void *owner;
  bool connecting, gone;
  bool failed;     /* in sending: what comes next is no clean end, even if it looks like one */
  lw_span rest[2]; /* to be sent */
};

static char read_buffer[READ_SIZE];
static unsigned open_count;

static void on_event(uv_poll_t *poll, int status, int events);

bool lw_dial_is_sending(const lw_dial *d) { return d->rest[0].n + d->rest[1].n > 0; }

static void arm(lw_dial *d) {
  int events = d->connecting           ? UV_WRITABLE
               : lw_dial_is_sending(d) ? UV_READABLE | UV_WRITABLE
                                       : UV_READABLE;
  if (d->gone && !lw_dial_is_sending(d)) {
    uv_poll_stop(&d->poll); /* an end is readable for ever */
  } else {
    uv_poll_start(&d->poll, d->gone ? UV_WRITABLE : events, on_event);
  }
}

/* -- sending -- */

static void drop_rest(lw_dial *d) { d->rest[0].n = d->rest[1].n = 0; }

static void skip_sent(lw_dial *d, size_t sent) {
  for (int i = 0; i < 2; i++) {
    size_t n = LW_MIN(sent, d->rest[i].n);
    d->rest[i].p += n;
    d->rest[i].n -= n;
    sent -= n;
  }
}

/* An error shows in reading, behind what the peer has sent before. */
static void send_rest(lw_dial *d) {
  struct iovec parts[2];
  size_t count = 0;
  for (int i = 0; i < 2; i++) {
    if (d->rest[i].n) parts[count++] = (struct iovec){(void *)d->rest[i].p, d->rest[i].n};
  }
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
  ssize_t n = sendmsg(d->fd, &message, MSG_NOSIGNAL);
  if (n >= 0) {
    skip_sent(d, (size_t)n);
  } else if (errno != EAGAIN && errno != EINTR) {
    d->failed = true;
    drop_rest(d);
  }
}

void lw_dial_send(lw_dial *d, lw_span first, lw_span second) {
  assert(!d->connecting && !lw_dial_is_sending(d));
  d->rest[0] = first;
  d->rest[1] = second;
  send_rest(d);
  if (lw_dial_is_sending(d)) arm(d);
}

/* -- events -- */

static void tell_gone(lw_dial *d, bool broken) {
  if (d->gone) return;
  d->gone = true;
  if (broken) drop_rest(d);
  d->events->on_gone(d->owner, broken);
}

/* True: there may be more. */
static bool read_some(lw_dial *d) {
  ssize_t n = recv(d->fd, read_buffer, sizeof read_buffer, 0);
  if (n > 0) {
    d->events->on_data(d->owner, read_buffer, (size_t)n);
    return true;
  }
  if (n == 0 || (errno != EAGAIN && errno != EINTR)) tell_gone(d, n < 0 || d->failed);
  return false;
}

static void end_connecting(lw_dial *d) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  d->connecting = false;
  d->events->on_connected(d->owner, error);
}

static void on_event(uv_poll_t *poll, int status, int events) {
  lw_dial *d = LW_CONTAINER_OF(poll, lw_dial, poll);
  bool sending = lw_dial_is_sending(d);
  if (d->connecting) {
    end_connecting(d);
  } else {
    if (sending && events & UV_WRITABLE) send_rest(d);
    if (status < 0) { /* libuv has stopped it: all that is left has to be read now */
      while (d->fd >= 0 && !d->gone && read_some(d)) continue;
    } else if (events & UV_READABLE && !d->gone) {
      read_some(d);
    }
  }
  if (d->fd >= 0 && (status < 0 || d->gone || sending || events & UV_WRITABLE)) arm(d);
  lw_loop_settle();
}

/* -- the beginning and the end -- */

static int open_socket(const struct sockaddr *to, socklen_t n) {
  int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1, probe_s = PROBE_S, again_s = PROBE_S / 2;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe_s, sizeof probe_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &again_s, sizeof again_s);
  if (connect(fd, to, n) == 0 || errno == EINPROGRESS) return fd;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

lw_dial *lw_dial_open(const struct sockaddr *to, socklen_t n, const lw_dial_events *events,
                      void *owner, int *os_errno) {
  int fd = open_socket(to, n);
  if (fd < 0) {
    *os_errno = errno;
    return NULL;
  }
  lw_dial *d = lw_calloc(1, sizeof *d);
  *d = (lw_dial){.fd = fd, .events = events, .owner = owner, .connecting = true};
  int rc = uv_poll_init(lw_loop_uv(), &d->poll, fd);
  if (rc != 0) lw_die("socket %d can't be watched: %s", fd, uv_strerror(rc));
  arm(d);
  open_count++;
  return d;
}

bool lw_dial_is_quiet(const lw_dial *d) {
  char byte;
  if (d->connecting || d->gone) return false;
  return recv(d->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void on_poll_closed(uv_handle_t *handle) { free(LW_CONTAINER_OF(handle, lw_dial, poll)); }

/* uv_close() takes the descriptor out of epoll at once, so it can be closed. */
void lw_dial_close(lw_dial *d) {
  uv_close((uv_handle_t *)&d->poll, on_poll_closed);
  close(d->fd);
  d->fd = -1;
  open_count--;
}

unsigned lw_dial_count(void) { return open_count; }

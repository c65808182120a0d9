/* SPDX-License-Identifier: MIT
 * Accepted TCP connections and their listeners, over uv_tcp_t. Called by exchange/server, which
 * owns each conn. Reads go through one buffer shared by all connections; only what is waiting to be
 * written is held per connection. Each conn owns its handle, its out buffer and its TLS session. */
#include "loop/conn.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "floor/log.h"

enum {
  READ_SIZE = 65536,
  OUT_LOW = 16 * 1024,
  OUT_HIGH = 64 * 1024,
  WRITE_SPANS = 64,
  LINGER_MS = 2000,
  LINGER_BYTES = 1 << 20, /* read and dropped at most while lingering */
  BACKLOG = 1024,
  KEEPALIVE_S = 60, /* silence after which the kernel asks whether the peer is still there */
  TLS_OUT_MAX = 128 * 1024, /* a peer that asks for more without reading it is no client */
  LOG_MS = 1000,           /* one line of a kind in so long: whoever scans the port writes no log */
  DESCRIPTORS_LEFT = 8,    /* when there are fewer, it is said */
  READS_PER_TURN = 4,      /* of one connection; libuv alone would take 32 */
  HANDSHAKES_PER_TURN = 4, /* reads in handshakes; each may cost a signature, up to some ms */
};

struct lw_conn {
  uv_tcp_t tcp;
  uv_write_t write;
  uv_shutdown_t shutdown;
  uv_poll_t *hangup; /* while paused: tells that the peer left behind unread bytes */
  const lw_conn_events *events;
  void *owner;
  lw_tls *tls; /* NULL: plain */
  lw_buf out;
  size_t writing; /* bytes of the wire buffer handed to uv_write and not confirmed */
  lw_wake flush, closed;
  lw_grave grave;
  lw_timer read_timer, write_timer;
  uint64_t write_timeout_ms;
  uint64_t confirmed, taken_mark;
  size_t lingered;
  bool started, reading, gone, closing, lingering, shut;
  bool failed; /* the TLS session is broken; the peer may not have its alert yet */
  char remote[56];
};

struct lw_listener {
  uv_tcp_t tcp;
  void (*on_accept)(void *owner, lw_conn *c);
  void *owner;
  int port;
};

static char read_buffer[READ_SIZE];
static char plain_buffer[READ_SIZE + LW_TLS_SLACK]; /* touched by TLS only */
static unsigned open_conns;

static void flush_now(lw_conn *c);
static void fail_tls(lw_conn *c);

static bool may_log(uint64_t *last_ms) {
  uint64_t now = lw_now_ms();
  if (*last_ms && now - *last_ms < LOG_MS) return false;
  *last_ms = now;
  return true;
}

/* What goes to the socket as it is. */
static inline lw_buf *wire_of(lw_conn *c) { return c->tls ? lw_tls_out(c->tls) : &c->out; }
size_t lw_conn_pending(const lw_conn *c) {
  return c->out.size + (c->tls ? lw_tls_out(c->tls)->size : 0);
}

/* -- the end of a connection -- */

static void bury_conn(lw_grave *g) { free(LW_CONTAINER_OF(g, lw_conn, grave)); }

static void run_closed(lw_wake *w) {
  lw_conn *c = LW_CONTAINER_OF(w, lw_conn, closed);
  open_conns--;
  if (c->started) c->events->on_closed(c->owner);
  lw_loop_bury(&c->grave, bury_conn);
}

static void on_tcp_closed(uv_handle_t *handle) {
  lw_conn *c = handle->data;
  lw_buf_fini(&c->out);
  lw_tls_free(c->tls);
  c->tls = NULL;
  lw_loop_wake(&c->closed);
}

static void on_hangup_closed(uv_handle_t *handle) { free(handle); }

static void drop_hangup(lw_conn *c) {
  if (!c->hangup) return;
  uv_os_fd_t fd;
  int rc = uv_fileno((uv_handle_t *)c->hangup, &fd);
  uv_poll_stop(c->hangup);
  uv_close((uv_handle_t *)c->hangup, on_hangup_closed);
  if (rc == 0) close(fd);
  c->hangup = NULL;
}

/* For a peer that got all there was: its end is no truncation. */
static void say_end(lw_conn *c) {
  if (c->failed || lw_conn_pending(c)) return;
  lw_tls_shutdown(c->tls);
  lw_span s = lw_buf_peek(lw_tls_out(c->tls));
  uv_buf_t buf = uv_buf_init((char *)s.p, (unsigned)s.n);
  if (s.n) uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
}

static void close_now(lw_conn *c, bool reset) {
  if (c->closing) return;
  c->closing = true;
  if (c->tls && !reset) say_end(c);
  lw_wake_cancel(&c->flush);
  lw_timer_fini(&c->read_timer);
  lw_timer_fini(&c->write_timer);
  drop_hangup(c);
  if (!reset || uv_tcp_close_reset(&c->tcp, on_tcp_closed) != 0) {
    uv_close((uv_handle_t *)&c->tcp, on_tcp_closed);
  }
}

static void tell_gone(lw_conn *c, bool broken) {
  if (c->lingering && (broken || c->shut || lw_conn_pending(c) == 0)) {
    close_now(c, false);
    return;
  }
  if (c->gone || c->closing) return;
  c->gone = true;
  if (!c->lingering && !c->failed) c->events->on_gone(c->owner, broken);
}

static void on_shutdown(uv_shutdown_t *req, int status) {
  lw_conn *c = req->handle->data;
  if (c->closing) return;
  if (status < 0 || c->gone) close_now(c, false);
}

static void shut_when_flushed(lw_conn *c) {
  if (!c->lingering || c->shut || c->closing || lw_conn_pending(c)) return;
  c->shut = true;
  lw_conn_read_deadline(c, LINGER_MS); /* until now the write timeout stood guard */
  if (uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0) close_now(c, false);
}

void lw_conn_close(lw_conn *c, lw_close_how how) {
  if (c->closing) return;
  bool alert = c->failed && lw_tls_error(c->tls); /* may wait to be sent */
  if (alert && how == LW_CLOSE_NOW && !c->lingering) how = LW_CLOSE_LINGER;
  if (how != LW_CLOSE_LINGER || !c->started) {
    close_now(c, how == LW_CLOSE_RESET);
    return;
  }
  if (c->lingering) return;
  c->lingering = true;
  lw_conn_pause(c, false);
  lw_timer_stop(&c->read_timer);
  if (c->tls && !lw_tls_is_open(c->tls)) lw_conn_read_deadline(c, LINGER_MS);
  flush_now(c);
  shut_when_flushed(c);
}

/* -- writing -- */

/* Bytes that the peer has taken so far: of those that the kernel took, it still holds some. It
 * takes more only when a third of its buffer, often a megabyte, is free. */
static uint64_t taken(lw_conn *c) {
  uv_stream_t *stream = (uv_stream_t *)&c->tcp;
  uv_os_fd_t fd = -1;
  int held = 0;
  if (uv_fileno((uv_handle_t *)stream, &fd) == 0) ioctl(fd, SIOCOUTQ, &held);
  return c->confirmed + c->writing - uv_stream_get_write_queue_size(stream) - (uint64_t)held;
}

static void confirm(lw_conn *c, size_t n) {
  lw_buf_consume(wire_of(c), n);
  c->confirmed += n;
}

static void on_written(uv_write_t *req, int status) {
  lw_conn *c = req->handle->data;
  if (c->closing) return;
  size_t n = c->writing;
  c->writing = 0;
  if (status < 0) {
    tell_gone(c, true);
    return;
  }
  confirm(c, n);
  lw_conn_flush(c);
}

static size_t gather(lw_conn *c, uv_buf_t *bufs) {
  lw_span spans[WRITE_SPANS];
  size_t n = lw_buf_peek_many(wire_of(c), spans, WRITE_SPANS);
  for (size_t i = 0; i < n; i++) bufs[i] = uv_buf_init((char *)spans[i].p, (unsigned)spans[i].n);
  return n;
}

/* Fills the wire buffer; whether something is in it. */
static bool has_bytes(lw_conn *c) {
  if (c->tls) {
    lw_tls_write(c->tls, &c->out);
    if (c->lingering && c->out.size == 0) lw_tls_shutdown(c->tls);
  }
  return wire_of(c)->size > 0;
}

/* What the kernel does not take at once is left to uv_write, one at a time. */
static bool write_some(lw_conn *c) {
  uv_buf_t bufs[WRITE_SPANS];
  while (!c->writing && has_bytes(c)) {
    size_t n = gather(c, bufs), total = 0;
    for (size_t i = 0; i < n; i++) total += bufs[i].len;
    int taken = uv_try_write((uv_stream_t *)&c->tcp, bufs, (unsigned)n);
    if (taken == UV_EAGAIN) taken = 0;
    if (taken < 0) return false;
    confirm(c, (size_t)taken);
    if ((size_t)taken == total) continue;
    n = gather(c, bufs);
    c->writing = 0;
    for (size_t i = 0; i < n; i++) c->writing += bufs[i].len;
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, bufs, (unsigned)n, on_written) != 0)
      return false;
  }
  return true;
}

static void flush_now(lw_conn *c) {
  if (c->closing || c->writing || (c->gone && !c->lingering)) return;
  if (!write_some(c)) {
    tell_gone(c, true);
    return;
  }
  if (c->tls && lw_tls_error(c->tls) && !c->failed) {
    fail_tls(c);
    return;
  }
  if (lw_conn_pending(c) == 0) {
    lw_timer_stop(&c->write_timer);
  } else if (c->write_timeout_ms && !lw_timer_active(&c->write_timer)) {
    c->taken_mark = taken(c);
    lw_timer_start(&c->write_timer, c->write_timeout_ms);
  }
  shut_when_flushed(c);
  if (c->closing || c->lingering) return;
  if (lw_buf_is_low(&c->out)) c->events->on_writable(c->owner);
}

static void run_flush(lw_wake *w) { flush_now(LW_CONTAINER_OF(w, lw_conn, flush)); }
void lw_conn_flush(lw_conn *c) {
  if (!c->closing) lw_loop_wake_late(&c->flush);
}
lw_buf *lw_conn_out(lw_conn *c) { return &c->out; }

static void on_write_deadline(lw_timer *t) {
  lw_conn *c = LW_CONTAINER_OF(t, lw_conn, write_timer);
  uint64_t now_taken = taken(c);
  if (now_taken > c->taken_mark) {
    c->taken_mark = now_taken;
    lw_timer_start(t, c->write_timeout_ms);
  } else if (c->lingering) {
    close_now(c, true);
  } else {
    tell_gone(c, true);
  }
}

/* -- TLS -- */

static void (*tell_tls_failure)(const char *remote, const char *error);

void lw_conn_tell_tls_failures(void (*tell)(const char *remote, const char *error)) {
  tell_tls_failure = tell;
}

static void fail_tls(lw_conn *c) {
  const char *error = lw_tls_error(c->tls);
  if (tell_tls_failure) tell_tls_failure(c->remote, error ? error : "it asks and does not read");
  c->failed = true;
  lw_buf_fini(&c->out);
  lw_conn_flush(c);
  if (!c->lingering) c->events->on_gone(c->owner, true);
}

static void take_sealed(lw_conn *c, const char *p, size_t n) {
  size_t got = 0;
  lw_code code = lw_tls_feed(c->tls, p, n, plain_buffer, &got);
  if (lw_conn_pending(c)) lw_conn_flush(c);
  if (code != LW_OK || lw_tls_out(c->tls)->size > TLS_OUT_MAX) {
    fail_tls(c);
    return;
  }
  if (got && !c->lingering) c->events->on_data(c->owner, plain_buffer, got);
  if (!lw_tls_is_closed(c->tls) || c->closing) return;
  uv_read_stop((uv_stream_t *)&c->tcp);
  c->reading = false;
  tell_gone(c, false);
}

/* -- reading -- */

static struct {
  lw_wake end;
  unsigned handshakes, reads; /* the latter in a row, by: */
  const lw_conn *reader;
} turn;

static void run_turn_end(lw_wake *w) {
  (void)w;
  turn.handshakes = turn.reads = 0;
}

static bool shakes_hands(const lw_conn *c) {
  return c->tls && !c->failed && !lw_tls_is_open(c->tls);
}

/* The others' turn comes after this one's. */
static bool may_read(const lw_conn *c) {
  if (!turn.end.run) lw_wake_init(&turn.end, run_turn_end);
  lw_loop_wake(&turn.end);
  if (shakes_hands(c)) return turn.handshakes++ < HANDSHAKES_PER_TURN;
  if (turn.reader != c) turn.reads = 0;
  turn.reader = c;
  return turn.reads++ < READS_PER_TURN;
}

/* Without a buffer the bytes stay with the kernel, which tells of them again in the next turn. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  bool now = may_read(handle->data);
  *buf = uv_buf_init(now ? read_buffer : NULL, now ? READ_SIZE : 0);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
  lw_conn *c = stream->data;
  if (nread == 0 || nread == UV_ENOBUFS || c->closing) return;
  if (nread < 0) {
    uv_read_stop(stream);
    c->reading = false;
    bool cut = c->tls && !c->lingering && !lw_tls_is_closed(c->tls);
    tell_gone(c, nread != UV_EOF || cut);
    return;
  }
  if (c->lingering && !shakes_hands(c)) {
    c->lingered += (size_t)nread;
    if (c->lingered > LINGER_BYTES) close_now(c, false);
    return;
  }
  if (!c->tls) {
    c->events->on_data(c->owner, buf->base, (size_t)nread);
  } else if (!c->failed && !c->gone) {
    take_sealed(c, buf->base, (size_t)nread);
  }
}

static void on_hangup(uv_poll_t *handle, int status, int events) {
  lw_conn *c = handle->data;
  if (status >= 0 && !(events & UV_DISCONNECT)) return;
  drop_hangup(c);
  tell_gone(c, status < 0);
}

/* A duplicate descriptor, since uv polls each one only once. */
static void watch_hangup(lw_conn *c) {
  uv_os_fd_t fd;
  if (c->hangup || uv_fileno((uv_handle_t *)&c->tcp, &fd) != 0) return;
  int copy = dup(fd);
  if (copy < 0) return;
  c->hangup = lw_calloc(1, sizeof *c->hangup);
  if (uv_poll_init(lw_loop_uv(), c->hangup, copy) != 0) {
    free(c->hangup);
    close(copy);
    c->hangup = NULL;
    return;
  }
  c->hangup->data = c;
  uv_poll_start(c->hangup, UV_DISCONNECT, on_hangup);
}

void lw_conn_pause(lw_conn *c, bool paused) {
  if (c->closing || c->reading == !paused) return;
  if (paused) {
    uv_read_stop((uv_stream_t *)&c->tcp);
    watch_hangup(c);
  } else {
    drop_hangup(c);
    if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0) return;
  }
  c->reading = !paused;
}

static void on_read_deadline(lw_timer *t) {
  lw_conn *c = LW_CONTAINER_OF(t, lw_conn, read_timer);
  if (c->lingering) {
    close_now(c, false);
  } else {
    c->events->on_read_deadline(c->owner);
  }
}

void lw_conn_read_deadline(lw_conn *c, uint64_t ms) {
  if (c->closing) return;
  if (ms) {
    lw_timer_start(&c->read_timer, ms);
  } else {
    lw_timer_stop(&c->read_timer);
  }
}

void lw_conn_write_timeout(lw_conn *c, uint64_t ms) { c->write_timeout_ms = ms; }

/* -- the beginning -- */

static void note_remote(lw_conn *c) {
  struct sockaddr_storage ss;
  int n = sizeof ss;
  char host[46] = "?";
  int port = 0;
  if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&ss, &n) == 0) {
    if (ss.ss_family == AF_INET) {
      struct sockaddr_in *in = (struct sockaddr_in *)&ss;
      uv_ip4_name(in, host, sizeof host);
      port = ntohs(in->sin_port);
    } else if (ss.ss_family == AF_INET6) {
      struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
      uv_ip6_name(in6, host, sizeof host);
      port = ntohs(in6->sin6_port);
    }
  }
  snprintf(c->remote, sizeof c->remote, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

static lw_conn *conn_new(void) {
  lw_conn *c = lw_calloc(1, sizeof *c);
  uv_tcp_init(lw_loop_uv(), &c->tcp);
  c->tcp.data = c;
  lw_buf_init(&c->out, OUT_LOW, OUT_HIGH, 0);
  lw_wake_init(&c->flush, run_flush);
  lw_wake_init(&c->closed, run_closed);
  lw_timer_init(&c->read_timer, on_read_deadline);
  lw_timer_init(&c->write_timer, on_write_deadline);
  open_conns++;
  return c;
}

void lw_conn_use_tls(lw_conn *c, lw_tls_keys *keys) {
  assert(!c->started && !c->tls);
  c->tls = lw_tls_new(keys);
}

void lw_conn_start(lw_conn *c, const lw_conn_events *events, void *owner) {
  c->events = events;
  c->owner = owner;
  c->started = true;
  note_remote(c);
  lw_conn_pause(c, false);
}

const char *lw_conn_remote(const lw_conn *c) { return c->remote; }
unsigned lw_conn_count(void) { return open_conns; }

/* -- listening -- */

/* libuv closes connections for which no descriptor is left, and tells nobody. */
static void watch_descriptors(const lw_conn *c) {
  static uint64_t last_ms;
  struct rlimit most;
  uv_os_fd_t fd;
  if (uv_fileno((const uv_handle_t *)&c->tcp, &fd) || getrlimit(RLIMIT_NOFILE, &most)) return;
  if ((rlim_t)fd + DESCRIPTORS_LEFT < most.rlim_cur || !may_log(&last_ms)) return;
  lw_warn("the limit of %llu open files is nearly reached; connections beyond it are turned away",
          (unsigned long long)most.rlim_cur);
}

static void on_connection(uv_stream_t *server, int status) {
  lw_listener *l = server->data;
  if (status < 0) return;
  lw_conn *c = conn_new();
  if (uv_accept(server, (uv_stream_t *)&c->tcp) != 0) {
    close_now(c, false);
    return;
  }
  watch_descriptors(c);
  l->on_accept(l->owner, c);
}

static void on_listener_closed(uv_handle_t *handle) { free(handle->data); }

static int resolve(const char *host, int port, struct sockaddr_storage *out) {
  if (uv_ip4_addr(host, port, (struct sockaddr_in *)out) == 0) return 0;
  if (uv_ip6_addr(host, port, (struct sockaddr_in6 *)out) == 0) return 0;
  if (strcmp(host, "localhost") == 0)
    return uv_ip4_addr("127.0.0.1", port, (struct sockaddr_in *)out);
  return UV_EINVAL;
}

static int bound_port(uv_tcp_t *tcp) {
  struct sockaddr_storage ss;
  int n = sizeof ss;
  if (uv_tcp_getsockname(tcp, (struct sockaddr *)&ss, &n) != 0) return 0;
  if (ss.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
  return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

lw_listener *lw_listener_open(const char *host, int port,
                              void (*on_accept)(void *owner, lw_conn *c), void *owner,
                              const char **why) {
  static char text[160];
  struct sockaddr_storage address;
  lw_listener *l = lw_calloc(1, sizeof *l);
  l->on_accept = on_accept;
  l->owner = owner;
  uv_tcp_init(lw_loop_uv(), &l->tcp);
  l->tcp.data = l;
  int rc = resolve(host, port, &address);
  if (rc == 0) rc = uv_tcp_bind(&l->tcp, (struct sockaddr *)&address, 0);
  if (rc == 0) rc = uv_tcp_nodelay(&l->tcp, 1); /* Linux gives both to what is accepted */
  if (rc == 0) rc = uv_tcp_keepalive(&l->tcp, 1, KEEPALIVE_S);
  if (rc == 0) rc = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, on_connection);
  if (rc != 0) {
    snprintf(text, sizeof text, "can't listen on %s port %d: %s", host, port,
             rc == UV_EINVAL ? "not an address of this machine" : uv_strerror(rc));
    *why = text;
    lw_listener_close(l);
    return NULL;
  }
  l->port = bound_port(&l->tcp);
  return l;
}

int lw_listener_port(const lw_listener *l) { return l->port; }
void lw_listener_close(lw_listener *l) { uv_close((uv_handle_t *)&l->tcp, on_listener_closed); }

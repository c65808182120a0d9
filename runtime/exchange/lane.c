/* SPDX-License-Identifier: MIT
 * Requests and answers on plain connections, and the connections' idle time. Called by upstream,
 * which knows what a call is; this room knows when its bytes are complete. Owns the connections,
 * in a berth for each server, and of an answer the part of a line that has come. */
#include "exchange/lane.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "loop/dial.h"
#include "wire/h1_frames.h"

typedef struct berth { /* a server's connections that wait for a call */
  lw_list node, idle;
  struct sockaddr_in6 to; /* or a sockaddr_in */
  socklen_t size;
} berth;

typedef struct lane {
  lw_list node; /* in its berth, while idle */
  lw_dial *dial;
  berth *berth;
  lw_lane_call *call; /* NULL: idle */
  lw_timer aging;
  bool begun; /* of the answer some bytes have come */
  bool framed, last;
  lw_h1_frames frames;
  char *held; /* the beginning of a line */
  size_t held_n, held_capacity;
} lane;

static lw_list berths = {&berths, &berths};

/* -- addresses -- */

static bool read_port(lw_span text, uint16_t *port) {
  unsigned value = 0;
  if (text.n == 0 || text.n > 5) return false;
  for (size_t i = 0; i < text.n; i++) {
    if (text.p[i] < '0' || text.p[i] > '9') return false;
    value = value * 10 + (unsigned)(text.p[i] - '0');
  }
  *port = htons((uint16_t)value);
  return value > 0 && value < 65536;
}

static bool read_host(lw_span host, lw_lane_address *out) {
  char name[INET6_ADDRSTRLEN + 1];
  uint16_t port = htons(80);
  bool v6 = host.n > 0 && host.p[0] == '[';
  const char *end = memchr(host.p, v6 ? ']' : ':', host.n);
  if (v6 && !end) return false;
  size_t n = end ? (size_t)(end - host.p) : host.n;
  lw_span rest = end ? (lw_span){end + v6, host.n - n - v6} : (lw_span){"", 0};
  if (rest.n && (rest.p[0] != ':' || !read_port((lw_span){rest.p + 1, rest.n - 1}, &port))) {
    return false;
  }
  lw_span number = {host.p + v6, n - v6};
  if (number.n >= sizeof name) return false;
  memcpy(name, number.p, number.n);
  name[number.n] = 0;
  memset(&out->to, 0, sizeof out->to);
  if (v6) {
    out->to.v6.sin6_family = AF_INET6;
    out->to.v6.sin6_port = port;
    return inet_pton(AF_INET6, name, &out->to.v6.sin6_addr) == 1;
  }
  out->to.v4.sin_family = AF_INET;
  out->to.v4.sin_port = port;
  return inet_pton(AF_INET, name, &out->to.v4.sin_addr) == 1;
}

bool lw_lane_address_of(lw_span url, lw_lane_address *out) {
  const lw_span scheme = LW_SPAN("http://");
  if (url.n <= scheme.n || !lw_span_ieq((lw_span){url.p, scheme.n}, scheme)) return false;
  lw_span host = {url.p + scheme.n, url.n - scheme.n};
  const char *slash = memchr(host.p, '/', host.n);
  out->path = LW_SPAN("/");
  if (slash) {
    out->path = (lw_span){slash, (size_t)(host.p + host.n - slash)};
    host.n = (size_t)(slash - host.p);
  }
  for (size_t i = 0; i < out->path.n; i++) {
    unsigned char c = (unsigned char)out->path.p[i];
    if (c <= ' ' || c >= 127 || c == '#') return false;
  }
  out->host = host;
  return read_host(host, out);
}

static berth *find_berth(const lw_lane_address *a) {
  socklen_t size = a->to.any.sa_family == AF_INET ? sizeof a->to.v4 : sizeof a->to.v6;
  for (lw_list *node = berths.next; node != &berths; node = node->next) {
    berth *b = LW_CONTAINER_OF(node, berth, node);
    if (b->size == size && memcmp(&b->to, &a->to, size) == 0) return b;
  }
  berth *b = lw_calloc(1, sizeof *b);
  memcpy(&b->to, &a->to, size);
  b->size = size;
  lw_list_init(&b->idle);
  lw_list_append(&berths, &b->node);
  return b;
}

/* -- a lane's end -- */

static void drop(lane *l) {
  lw_dial_close(l->dial);
  lw_timer_fini(&l->aging);
  lw_list_remove(&l->node);
  free(l->held);
  free(l);
}

static lw_lane_call *detach(lane *l) {
  lw_lane_call *c = l->call;
  l->call = NULL;
  c->lane = NULL;
  return c;
}

/* Of the call, with its connection. */
static void end_call(lane *l, lw_code code, int os_errno, const char *why) {
  lw_lane_call *c = detach(l);
  drop(l);
  c->ops->done(c, code, os_errno, why);
}

static void on_aged(lw_timer *timer) { drop(LW_CONTAINER_OF(timer, lane, aging)); }

/* Some servers of HTTP/1.0 keep connections, too; whoever wants that speaks HTTP/1.1. */
static bool may_serve_again(const lane *l, const lw_lane_call *c) {
  return !l->last && !lw_dial_is_sending(l->dial) && c->keep_ms > 0 &&
         !lw_headers_has_token(&c->answer->headers, LW_SPAN("Connection"), LW_SPAN("close"));
}

static void finish(lane *l, bool clean) {
  lw_lane_call *c = l->call;
  if (!clean || !may_serve_again(l, c)) {
    end_call(l, LW_EOF, 0, NULL);
    return;
  }
  detach(l);
  l->begun = l->framed = false;
  lw_list_append(&l->berth->idle, &l->node);
  lw_timer_start(&l->aging, c->keep_ms);
  c->ops->done(c, LW_EOF, 0, NULL);
}

/* -- the answer -- */

/* A line that came in pieces is put together. */
static lw_span gather(lane *l, lw_span piece) {
  if (l->held_n + piece.n > l->held_capacity) {
    l->held_capacity = LW_MAX(l->held_capacity * 2, l->held_n + piece.n + 128);
    l->held = lw_realloc(l->held, l->held_capacity);
  }
  memcpy(l->held + l->held_n, piece.p, piece.n);
  l->held_n += piece.n;
  return (lw_span){l->held, l->held_n};
}

/* Who speaks something else may never end a line, or close without one. */
static bool may_be_status(lw_span line) {
  const lw_span begin = LW_SPAN("HTTP/1.");
  return memcmp(line.p, begin.p, LW_MIN(line.n, begin.n)) == 0;
}

/* Takes what there is of a line off *in. False: the call has ended. */
static bool take_line(lane *l, lw_span *in) {
  lw_lane_call *c = l->call;
  const char *end = memchr(in->p, '\n', in->n);
  lw_span line = {in->p, end ? (size_t)(end - in->p) + 1 : in->n};
  *in = (lw_span){in->p + line.n, in->n - line.n};
  if (l->held_n || !end) line = gather(l, line);
  if (line.n > LW_H1_ANSWER_MAX_BYTES) {
    end_call(l, LW_PROTOCOL, 0, "a line of more than 64 KB");
    return false;
  }
  if (!end && !c->answer->inside && !may_be_status(line)) {
    end_call(l, LW_PROTOCOL, 0, "a status line that makes no sense");
    return false;
  }
  if (!end) return true;
  l->held_n = 0;
  if (!c->answer->inside) l->last = line.n > 8 && memcmp(line.p, "HTTP/1.0", 8) == 0;
  if (!c->ops->line(c, line)) {
    end_call(l, LW_PROTOCOL, 0, NULL);
    return false;
  }
  return true;
}

static void take_body(lane *l, lw_span in) {
  lw_lane_call *c = l->call;
  lw_span body;
  const char *why;
  if (!l->framed) lw_h1_frames_init(&l->frames, c->answer, c->to_head);
  l->framed = true;
  for (;;) {
    switch (lw_h1_frames_next(&l->frames, &in, &body, &why)) {
      case LW_OK:
        c->ops->body(c, body);
        break;
      case LW_EOF:
        finish(l, in.n == 0);
        return;
      case LW_AGAIN:
        return;
      default:
        end_call(l, LW_PROTOCOL, 0, why);
        return;
    }
  }
}

static void on_data(void *owner, const char *p, size_t n) {
  lane *l = owner;
  lw_span in = {p, n};
  if (!l->call) { /* it spoke out of turn: nobody must take that for an answer */
    drop(l);
    return;
  }
  l->begun = true;
  while (in.n > 0 && !l->call->answer->complete) {
    if (!take_line(l, &in)) return;
  }
  if (l->call->answer->complete) take_body(l, in);
}

/* -- the request -- */

static void begin_on(berth *b, lw_lane_call *c);

static void on_gone(void *owner, bool broken) {
  lane *l = owner;
  lw_lane_call *c = l->call;
  if (!c) {
    drop(l);
  } else if (!l->begun && c->reused) {
    detach(l);
    drop(l);
    c->reused = false;
    c->retried = true;
    begin_on(c->berth, c);
  } else if (!broken && l->framed && lw_h1_frames_may_end(&l->frames)) {
    finish(l, false);
  } else {
    end_call(l, LW_CLOSED, 0, NULL);
  }
}

static void send_request(lane *l) {
  lw_lane_call *c = l->call;
  c->ops->sending(c);
  lw_dial_send(l->dial, c->head, c->body);
}

static void on_connected(void *owner, int os_errno) {
  lane *l = owner;
  if (os_errno) {
    end_call(l, LW_IO, os_errno, NULL);
    return;
  }
  l->call->connected_ns = lw_now_ns();
  send_request(l);
}

static const lw_dial_events events = {on_connected, on_data, on_gone};

static void begin_on(berth *b, lw_lane_call *c) {
  int os_errno = 0;
  lane *l = lw_calloc(1, sizeof *l);
  c->dialled_ns = lw_now_ns();
  l->dial = lw_dial_open((const struct sockaddr *)&b->to, b->size, &events, l, &os_errno);
  if (!l->dial) {
    free(l);
    c->ops->done(c, LW_IO, os_errno, NULL);
    return;
  }
  l->berth = b;
  l->call = c;
  c->lane = l;
  lw_list_init(&l->node);
  lw_timer_init(&l->aging, on_aged);
}

static lane *take_idle(berth *b) {
  while (!lw_list_empty(&b->idle)) {
    lane *l = LW_CONTAINER_OF(b->idle.prev, lane, node);
    if (lw_dial_is_quiet(l->dial)) {
      lw_list_remove(&l->node);
      lw_timer_stop(&l->aging);
      return l;
    }
    drop(l);
  }
  return NULL;
}

void lw_lane_start(lw_lane_call *c, const lw_lane_address *to) {
  c->berth = find_berth(to);
  lane *l = take_idle(c->berth);
  c->reused = l != NULL;
  c->retried = false;
  c->dialled_ns = c->connected_ns = 0;
  if (!l) {
    begin_on(c->berth, c);
    return;
  }
  l->call = c;
  c->lane = l;
  send_request(l);
}

bool lw_lane_is_sent(const lw_lane_call *c) {
  return c->lane && !lw_dial_is_sending(c->lane->dial);
}

void lw_lane_cancel(lw_lane_call *c) {
  lane *l = c->lane;
  if (!l) return;
  detach(l);
  drop(l);
}

void lw_lane_shutdown(void) {
  lw_list *node;
  while ((node = lw_list_pop(&berths))) {
    berth *b = LW_CONTAINER_OF(node, berth, node);
    while (!lw_list_empty(&b->idle)) drop(LW_CONTAINER_OF(b->idle.next, lane, node));
    free(b);
  }
}

/* SPDX-License-Identifier: MIT
 * Connections of clients and the requests on them. loop/conn calls it with bytes; it feeds the
 * parser, asks the layer above about each head, and hands complete requests up in the drain. Owns
 * each client: its conn, parser, request, and the bytes that came ahead of their turn. */
#include "exchange/server.h"

#include <stdlib.h>

#include "floor/log.h"
#include "loop/conn.h"

enum {
  STASH_MAX = 65536
}; /* pipelined bytes kept while a request is being answered */

struct lw_server {
  lw_listener *listener;
  lw_tls_keys *keys; /* NULL: plain */
  lw_server_limits limits;
  lw_server_events events;
  void *owner;
  lw_list clients;
  unsigned count;
  int port;
  bool stopping;
  void (*on_idle)(void *owner);
};

typedef struct lw_client {
  lw_list node;
  lw_server *server;
  lw_conn *conn; /* NULL once closed */
  lw_h1_parser *parser;
  lw_request request;
  lw_wake wake;
  lw_grave grave;
  char *stash;
  size_t stash_n;
  uint64_t body_begun_ms;
  bool handed_up;     /* on_complete was called, release not yet */
  bool gone, refused; /* the client left; the connection ends after this answer */
  bool cut;           /* lw_server_cut() came */
} lw_client;

static unsigned handed_up_count;

static void take_bytes(lw_client *cl, const char *p, size_t n);

lw_buf *lw_client_out(lw_client *cl) { return lw_conn_out(cl->conn); }
void lw_client_flush(lw_client *cl) {
  if (cl->conn) lw_conn_flush(cl->conn);
}
unsigned lw_request_count(void) { return handed_up_count; }

/* -- the end of a client -- */

static void bury_client(lw_grave *g) {
  lw_client *cl = LW_CONTAINER_OF(g, lw_client, grave);
  lw_h1_free(cl->parser);
  lw_request_drop_body(&cl->request);
  lw_headers_fini(&cl->request.answer);
  free(cl->stash);
  free(cl);
}

static void tell_idle(lw_server *s) {
  if (!s->stopping || s->count || !s->on_idle) return;
  void (*on_idle)(void *) = s->on_idle;
  s->on_idle = NULL;
  on_idle(s->owner);
}

/* Once the connection is closed and the upper layer has given the request back. */
static void free_when_unused(lw_client *cl) {
  if (cl->conn || cl->handed_up) return;
  lw_server *s = cl->server;
  lw_wake_cancel(&cl->wake);
  lw_list_remove(&cl->node);
  s->count--;
  lw_loop_bury(&cl->grave, bury_client);
  tell_idle(s);
}

static void on_closed(void *owner) {
  lw_client *cl = owner;
  cl->conn = NULL;
  free_when_unused(cl);
}

/* -- between requests -- */

static void set_deadline(lw_client *cl, uint64_t ms) {
  if (cl->conn) lw_conn_read_deadline(cl->conn, ms);
}

/* An answer was written in full (or cut): what becomes of the connection? */
static void finish_answer(lw_client *cl) {
  lw_request *r = &cl->request;
  bool cut = r->state == LW_REQUEST_CUT;
  bool go_on = r->state == LW_REQUEST_ENDED && r->keep_alive && !cl->refused && !cl->gone &&
               !cl->server->stopping;
  bool unframed = r->framing == LW_H1_UNTIL_CLOSE;
  if (r->state != LW_REQUEST_IDLE) lw_request_reset(r);
  if (!cl->conn) {
    free_when_unused(cl);
  } else if (!go_on) {
    lw_conn_close(cl->conn, cl->gone          ? LW_CLOSE_NOW
                            : cut && unframed ? LW_CLOSE_RESET
                                              : LW_CLOSE_LINGER);
    cl->refused = true;
  } else {
    lw_h1_next(cl->parser);
    set_deadline(cl, cl->server->limits.idle_timeout_ms);
    if (cl->stash_n) lw_loop_wake(&cl->wake);
    lw_conn_pause(cl->conn, false);
  }
}

void lw_request_release(lw_request *r) {
  lw_client *cl = r->client;
  assert(cl->handed_up && lw_request_is_over(r));
  cl->handed_up = false;
  handed_up_count--;
  finish_answer(cl);
}

/* The server itself has answered: nobody above knows of this request. */
static void finish_own_answer(lw_client *cl) {
  lw_request_note note = {.workload = -1, .queue_ms = -1};
  lw_request_log(&cl->request, &note);
  finish_answer(cl);
}

/* -- reading requests -- */

static void refuse_parse(lw_client *cl) {
  lw_request *r = &cl->request;
  cl->refused = true;
  if (r->state == LW_REQUEST_IDLE) {
    r->begun_ns = lw_now_ns();
    lw_request_move(r, LW_REQUEST_WAITING);
  }
  lw_response_refuse(r, lw_h1_error_status(cl->parser), lw_h1_error_text(cl->parser));
  finish_own_answer(cl);
}

static bool wants_to_go_on(const lw_client *cl) {
  return cl->request.head->keep_alive && !cl->server->stopping;
}

static void begin_request(lw_client *cl) {
  lw_request *r = &cl->request;
  r->head = lw_h1_head_of(cl->parser);
  r->begun_ns = lw_now_ns();
  r->remote = lw_conn_remote(cl->conn);
  bool more = r->head->chunked || (r->head->has_length && r->head->length);
  r->keep_alive = false; /* an answer to the head alone leaves the body unread */
  if (!more) r->keep_alive = wants_to_go_on(cl);
  lw_request_take_id(r);
  lw_request_move(r, LW_REQUEST_HEAD);
  uint64_t allowed = cl->server->events.on_head(cl->server->owner, r);
  if (lw_request_is_over(r)) {
    cl->refused = more;
    if (!more) lw_h1_begin_body(cl->parser, NULL, 0);
    finish_own_answer(cl);
    return;
  }
  r->keep_alive = wants_to_go_on(cl);
  r->body = lw_body_new();
  if (more && r->head->expect_continue && r->head->length <= allowed) {
    lw_h1_write_continue(lw_client_out(cl));
    lw_client_flush(cl);
  }
  lw_h1_begin_body(cl->parser, r->body, allowed);
  cl->body_begun_ms = lw_now_ms();
  set_deadline(cl, more ? cl->server->limits.body_timeout_ms : 0);
}

static void complete_request(lw_client *cl) {
  lw_request *r = &cl->request;
  r->complete_ns = lw_now_ns();
  r->bytes_in = r->body->n;
  set_deadline(cl, 0);
  lw_request_move(r, LW_REQUEST_WAITING);
  lw_loop_wake(&cl->wake);
}

/* Progress moves the deadline of a body, but a drip does not keep a connection for ever: all in all
 * a body has body_timeout plus a second for each 1,000 bytes. */
static void extend_body_deadline(lw_client *cl) {
  uint64_t allowed = cl->server->limits.body_timeout_ms + cl->request.body->n;
  uint64_t spent = lw_now_ms() - cl->body_begun_ms;
  uint64_t left = spent < allowed ? allowed - spent : 1;
  set_deadline(cl, LW_MIN(left, cl->server->limits.body_timeout_ms));
}

static void stash_bytes(lw_client *cl, const char *p, size_t n) {
  if (n == 0) return;
  cl->stash = lw_realloc(cl->stash, cl->stash_n + n);
  memcpy(cl->stash + cl->stash_n, p, n);
  cl->stash_n += n;
  if (cl->stash_n > STASH_MAX) lw_conn_pause(cl->conn, true);
}

static bool is_between_requests(const lw_client *cl) {
  return cl->request.state <= LW_REQUEST_HEAD && !cl->refused && cl->conn;
}

static void take_bytes(lw_client *cl, const char *p, size_t n) {
  while (n && is_between_requests(cl)) {
    if (cl->request.state == LW_REQUEST_IDLE && !lw_h1_started(cl->parser)) {
      set_deadline(cl, cl->server->limits.header_timeout_ms);
    }
    size_t used = lw_h1_feed(cl->parser, p, n);
    p += used;
    n -= used;
    if (lw_h1_state_of(cl->parser) == LW_H1_READY) begin_request(cl);
    if (!is_between_requests(cl)) break;
    switch (lw_h1_state_of(cl->parser)) {
      case LW_H1_ERROR:
        refuse_parse(cl);
        return;
      case LW_H1_DONE:
        complete_request(cl);
        break;
      case LW_H1_BODY:
        extend_body_deadline(cl);
        break;
      default:
        break;
    }
  }
  if (cl->conn && !cl->refused) stash_bytes(cl, p, n);
}

static void take_stash(lw_client *cl) {
  if (!cl->stash_n || !is_between_requests(cl)) return;
  char *p = cl->stash;
  size_t n = cl->stash_n;
  cl->stash = NULL;
  cl->stash_n = 0;
  take_bytes(cl, p, n);
  free(p);
}

/* -- what the connection tells -- */

static void on_data(void *owner, const char *p, size_t n) {
  lw_client *cl = owner;
  if (cl->stash_n || lw_conn_pending(cl->conn) > STASH_MAX) {
    stash_bytes(cl, p, n);
  } else {
    take_bytes(cl, p, n);
  }
}

static void on_gone(void *owner, bool broken) {
  (void)broken;
  lw_client *cl = owner;
  cl->gone = true;
  lw_loop_wake(&cl->wake);
}

static void on_writable(void *owner) {
  lw_client *cl = owner;
  lw_wake *writer = cl->request.writer;
  cl->request.writer = NULL;
  if (writer) lw_loop_wake(writer);
  if (cl->stash_n) lw_loop_wake(&cl->wake);
}

static void on_read_deadline(void *owner) {
  lw_client *cl = owner;
  lw_request *r = &cl->request;
  if (cl->gone || cl->refused) return;
  if (r->state == LW_REQUEST_IDLE && !lw_h1_started(cl->parser)) {
    if (lw_conn_pending(cl->conn)) { /* the last answer is still on its way */
      set_deadline(cl, cl->server->limits.idle_timeout_ms);
      return;
    }
    cl->refused = true;
    lw_conn_close(cl->conn, LW_CLOSE_NOW);
    return;
  }
  if (r->state > LW_REQUEST_HEAD) return;
  bool in_head = r->state == LW_REQUEST_IDLE;
  cl->refused = true;
  if (in_head) {
    r->begun_ns = lw_now_ns();
    lw_request_move(r, LW_REQUEST_WAITING);
  }
  lw_response_refuse(r, 408,
                     in_head ? "the request's head did not arrive in time"
                             : "the request's body did not arrive in time");
  finish_own_answer(cl);
}

static const lw_conn_events conn_events = {on_data, on_gone, on_writable, on_read_deadline,
                                           on_closed};

static void run_gone(lw_client *cl) {
  lw_request *r = &cl->request;
  if (cl->handed_up) {
    if (lw_request_is_over(r)) return;
    lw_request_move(r, LW_REQUEST_GONE);
    cl->server->events.on_gone(cl->server->owner, r);
    return;
  }
  if (r->state == LW_REQUEST_HEAD || r->state == LW_REQUEST_WAITING) {
    lw_request_move(r, LW_REQUEST_GONE);
    finish_own_answer(cl);
    return;
  }
  lw_conn_close(cl->conn, LW_CLOSE_NOW);
}

static void run_cut(lw_client *cl) {
  const lw_server_events *events = &cl->server->events;
  bool unreleased = cl->handed_up && lw_request_is_over(&cl->request);
  if (unreleased && events->on_cut) events->on_cut(cl->server->owner, &cl->request);
}

static void run_client(lw_wake *w) {
  lw_client *cl = LW_CONTAINER_OF(w, lw_client, wake);
  if (cl->gone && cl->conn) run_gone(cl);
  if (cl->cut) run_cut(cl);
  if (cl->gone || cl->cut) return;
  if (cl->request.state == LW_REQUEST_WAITING && !cl->handed_up && !cl->refused) {
    cl->handed_up = true;
    handed_up_count++;
    cl->server->events.on_complete(cl->server->owner, &cl->request);
  } else if (cl->conn && lw_conn_pending(cl->conn) <= STASH_MAX) {
    take_stash(cl);
  }
}

/* -- the server -- */

static void on_accept(void *owner, lw_conn *conn) {
  lw_server *s = owner;
  lw_client *cl = lw_calloc(1, sizeof *cl);
  cl->server = s;
  cl->conn = conn;
  cl->parser = lw_h1_new(&s->limits.h1);
  lw_request_init(&cl->request, cl);
  lw_wake_init(&cl->wake, run_client);
  lw_list_append(&s->clients, &cl->node);
  s->count++;
  if (s->keys) lw_conn_use_tls(conn, s->keys);
  lw_conn_start(conn, &conn_events, cl);
  lw_conn_write_timeout(conn, s->limits.write_timeout_ms);
  set_deadline(cl, s->limits.header_timeout_ms);
  if (s->count <= s->limits.max_connections) return;
  lw_request *r = &cl->request;
  cl->refused = true;
  r->begun_ns = lw_now_ns();
  r->remote = lw_conn_remote(conn);
  lw_request_move(r, LW_REQUEST_WAITING);
  lw_headers_add_borrowed(&r->answer, LW_SPAN("Retry-After"), LW_SPAN("1"));
  lw_response_refuse(r, 503, "too many connections");
  finish_own_answer(cl);
}

lw_server *lw_server_open(const char *host, int port, const lw_server_limits *limits,
                          const lw_server_events *events, void *owner, const char **why) {
  lw_server *s = lw_calloc(1, sizeof *s);
  s->limits = *limits;
  s->events = *events;
  s->owner = owner;
  lw_list_init(&s->clients);
  s->listener = lw_listener_open(host, port, on_accept, s, why);
  if (!s->listener) {
    free(s);
    return NULL;
  }
  s->port = lw_listener_port(s->listener);
  return s;
}

void lw_server_set_tls(lw_server *s, lw_tls_keys *keys) {
  lw_tls_keys_unref(s->keys);
  s->keys = keys ? lw_tls_keys_ref(keys) : NULL;
}

int lw_server_port(const lw_server *s) { return s->port; }
unsigned lw_server_connections(const lw_server *s) { return s->count; }
bool lw_server_is_idle(const lw_server *s) { return s->stopping && s->count == 0; }

void lw_server_stop(lw_server *s, void (*on_idle)(void *owner)) {
  s->on_idle = on_idle;
  if (!s->stopping) {
    s->stopping = true;
    lw_listener_close(s->listener);
    lw_list *next;
    for (lw_list *node = s->clients.next; node != &s->clients; node = next) {
      next = node->next;
      lw_client *cl = LW_CONTAINER_OF(node, lw_client, node);
      cl->request.keep_alive = false;
      if (cl->request.state != LW_REQUEST_IDLE || !cl->conn || lw_h1_started(cl->parser)) continue;
      cl->refused = true;
      lw_conn_close(cl->conn, LW_CLOSE_LINGER);
    }
  }
  tell_idle(s);
}

void lw_server_cut(lw_server *s) {
  lw_list *next;
  for (lw_list *node = s->clients.next; node != &s->clients; node = next) {
    next = node->next;
    lw_client *cl = LW_CONTAINER_OF(node, lw_client, node);
    cl->cut = true;
    lw_loop_wake(&cl->wake);
    if (!cl->conn) continue;
    if (cl->handed_up && !lw_request_is_over(&cl->request)) {
      on_gone(cl, true);
    } else {
      lw_conn_close(cl->conn, LW_CLOSE_NOW);
    }
  }
}

void lw_server_free(lw_server *s) {
  assert(s->stopping && s->count == 0);
  lw_tls_keys_unref(s->keys);
  free(s);
}

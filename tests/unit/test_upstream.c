/* SPDX-License-Identifier: MIT
 * Calls against a small blocking server in threads of this program: what it got, what we made of
 * its answers, and that a call can be closed in every state. The loop runs in the main thread. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "exchange/upstream.h"
#include "loop/multi.h"

enum {
  MOST_CONNECTIONS = 64,
  PATIENCE_MS = 20000
};

/* -- the server: a thread accepts, each connection has a thread -- */

typedef enum afterwards {
  KEEP,
  CLOSE,
  RESET,
  WAIT, /* until the client drops the connection; counted in `drops` */
} afterwards;

typedef struct reply { /* to the n-th request, over all connections */
  const char *text;
  afterwards then;
  size_t n; /* 0: strlen(text) */
} reply;

typedef struct server {
  int listener, port;
  pthread_t acceptor, threads[MOST_CONNECTIONS];
  int fds[MOST_CONNECTIONS];
  void (*serve)(struct server *s, int fd); /* NULL: answer by `replies` */
  const reply *replies;
  atomic_int connections, requests, drops;
  atomic_size_t sent;
  char last[8192]; /* head of the last request */
  size_t last_body;
  char last_byte;
  size_t total; /* for serve_pattern */
} server;

typedef struct connection {
  server *s;
  int fd;
} connection;

static bool send_bytes(int fd, const char *p, size_t n) {
  while (n > 0) {
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    p += sent;
    n -= (size_t)sent;
  }
  return true;
}

static bool send_text(int fd, const char *text) { return send_bytes(fd, text, strlen(text)); }

/* The head into s->last; the body's length and last byte are noted. */
static bool read_request(server *s, int fd) {
  char head[sizeof s->last];
  size_t n = 0;
  while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
    if (n == sizeof head - 1 || recv(fd, head + n, 1, 0) != 1) return false;
    n++;
  }
  head[n] = 0;
  size_t left = 0;
  const char *length = strstr(head, "Content-Length: ");
  if (length) left = strtoul(length + 16, NULL, 10);
  s->last_body = left;
  static _Thread_local char scrap[65536];
  while (left > 0) {
    ssize_t got = recv(fd, scrap, left < sizeof scrap ? left : sizeof scrap, 0);
    if (got <= 0) return false;
    left -= (size_t)got;
    s->last_byte = scrap[got - 1];
  }
  memcpy(s->last, head, n + 1);
  return true;
}

static void await_drop(server *s, int fd) {
  static _Thread_local char scrap[65536];
  while (recv(fd, scrap, sizeof scrap, 0) > 0) continue;
  s->drops++;
}

static void reset(int fd) {
  struct linger hard = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

static void serve_replies(server *s, int fd) {
  while (read_request(s, fd)) {
    const reply *r = &s->replies[s->requests++];
    if (r->text && !send_bytes(fd, r->text, r->n ? r->n : strlen(r->text))) return;
    if (r->then == WAIT) await_drop(s, fd);
    if (r->then == RESET) {
      usleep(100000); /* or the reset overtakes what was sent */
      reset(fd);
    }
    if (r->then != KEEP) return;
  }
}

static void *run_connection(void *user) {
  connection c = *(connection *)user;
  free(user);
  int duplicate = dup(c.fd); /* c.fd itself stays ours until stop_server() */
  (c.s->serve ? c.s->serve : serve_replies)(c.s, duplicate);
  struct linger l;
  socklen_t size = sizeof l;
  getsockopt(duplicate, SOL_SOCKET, SO_LINGER, &l, &size);
  if (l.l_onoff) { /* connecting to nowhere dissolves the association, hard */
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    connect(duplicate, &nowhere, sizeof nowhere);
  } else {
    shutdown(duplicate, SHUT_WR);
  }
  close(duplicate);
  return NULL;
}

static void *run_acceptor(void *user) {
  server *s = user;
  for (;;) {
    int fd = accept(s->listener, NULL, NULL);
    if (fd < 0) return NULL;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    connection *c = malloc(sizeof *c);
    *c = (connection){s, fd};
    int i = s->connections;
    assert_true(i < MOST_CONNECTIONS);
    s->fds[i] = fd;
    pthread_create(&s->threads[i], NULL, run_connection, c);
    s->connections++;
  }
}

static int listen_somewhere(int backlog, int *port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof a;
  assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(fd, backlog), 0);
  getsockname(fd, (struct sockaddr *)&a, &size);
  *port = ntohs(a.sin_port);
  return fd;
}

static void start_server(server *s, void (*serve)(server *s, int fd), const reply *replies) {
  memset(s, 0, sizeof *s);
  s->serve = serve;
  s->replies = replies;
  s->listener = listen_somewhere(64, &s->port);
  pthread_create(&s->acceptor, NULL, run_acceptor, s);
}

static void stop_server(server *s) {
  shutdown(s->listener, SHUT_RDWR);
  pthread_join(s->acceptor, NULL);
  close(s->listener);
  for (int i = 0; i < s->connections; i++) {
    shutdown(s->fds[i], SHUT_RDWR);
    pthread_join(s->threads[i], NULL);
    close(s->fds[i]);
  }
}

static void await_count(atomic_int *count, int wanted) {
  for (int i = 0; i < PATIENCE_MS && *count < wanted; i++) usleep(1000);
  assert_int_equal(*count, wanted);
}

/* -- the client -- */

typedef struct call {
  lw_wake wake;
  lw_upstream *u;
  lw_buf got;
  bool hold; /* consume nothing */
  uint64_t eaten, wrong;
} call;

static lw_timer guard, pause_timer;

static void on_guard(lw_timer *t) {
  (void)t;
  fprintf(stderr, "nothing happened for %d s\n", PATIENCE_MS / 1000);
  abort();
}

static void on_pause(lw_timer *t) {
  (void)t;
  lw_loop_stop();
}

static void run_call(lw_wake *w) {
  call *c = LW_CONTAINER_OF(w, call, wake);
  lw_buf *in = lw_upstream_buf(c->u);
  if (!c->hold) {
    lw_buf_move(&c->got, in, in->size);
    lw_upstream_consumed(c->u);
  }
  lw_loop_stop();
}

static void turn(void) {
  lw_timer_start(&guard, PATIENCE_MS);
  lw_loop_run();
}

static void run_for(unsigned ms) {
  uint64_t until = lw_now_ms() + ms;
  while (lw_now_ms() < until) {
    lw_timer_start(&pause_timer, until - lw_now_ms());
    turn();
  }
}

static void open_call(call *c, const server *s, const char *method, const char *path) {
  memset(c, 0, sizeof *c);
  char url[200];
  snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
  lw_wake_init(&c->wake, run_call);
  lw_buf_init(&c->got, 0, 0, 0);
  c->u = lw_upstream_open(lw_span_of(method), lw_span_of(url), &c->wake);
  lw_upstream_set_role(c->u, "model");
}

static void close_call(call *c) {
  lw_upstream_close(c->u);
  lw_wake_cancel(&c->wake);
  lw_buf_fini(&c->got);
}

static void await_head(call *c) {
  while (lw_upstream_head(c->u) == LW_AGAIN) turn();
}

static lw_code await_end(call *c) {
  while (lw_upstream_ending(c->u) == LW_AGAIN) turn();
  run_call(&c->wake);
  return lw_upstream_ending(c->u);
}

static void start(call *c, const server *s, const char *method) {
  open_call(c, s, method, "/");
  lw_upstream_start(c->u);
}

static lw_body *body_of(size_t n) {
  lw_body *b = lw_body_new();
  char block[4096];
  for (size_t at = 0; at < n; at += sizeof block) {
    size_t part = n - at < sizeof block ? n - at : sizeof block;
    for (size_t i = 0; i < part; i++) block[i] = (char)((at + i) * 31 >> 3);
    lw_body_append(b, block, part);
  }
  return b;
}

static void start_post(call *c, const server *s, size_t n) {
  lw_body *b = body_of(n);
  open_call(c, s, "POST", "/");
  lw_upstream_body(c->u, b, (lw_span){b->p, b->n});
  lw_body_unref(b);
  lw_upstream_start(c->u);
}

static void assert_got(call *c, const char *text) {
  lw_span got = lw_buf_peek(&c->got);
  assert_int_equal(c->got.size, strlen(text));
  assert_int_equal(got.n, strlen(text));
  if (got.n) assert_memory_equal(got.p, text, got.n);
}

static void assert_error(call *c, const server *s, const char *what) {
  char text[400];
  snprintf(text, sizeof text, "model http://127.0.0.1:%d %s", s->port, what);
  assert_string_equal(lw_upstream_error(c->u), text);
}

/* A whole call that has to go well. */
static void fetch(const server *s, const char *method, int status, const char *text) {
  call c;
  start(&c, s, method);
  if (await_end(&c) != LW_EOF) print_message("%s\n", lw_upstream_error(c.u));
  assert_int_equal(lw_upstream_ending(c.u), LW_EOF);
  assert_int_equal(lw_upstream_status(c.u), status);
  assert_got(&c, text);
  assert_string_equal(lw_upstream_error(c.u), "");
  close_call(&c);
}

static int set_up(void **state) {
  (void)state;
  lw_loop_init();
  lw_timer_init(&guard, on_guard);
  lw_timer_init(&pause_timer, on_pause);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  if (lw_upstream_open_count() != 0 || lw_multi_running() != 0) return -1;
  lw_timer_fini(&guard);
  lw_timer_fini(&pause_timer);
  lw_upstream_shutdown();
  lw_loop_fini(); /* asserts that no handle is left */
  lw_buf_drop_spares();
  return 0;
}

/* The servers' threads end when their connections do, so the pool goes first. */
static void stop(server *s) {
  assert_int_equal(lw_upstream_open_count(), 0);
  assert_int_equal(lw_multi_running(), 0);
  lw_upstream_shutdown();
  stop_server(s);
}

#define OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

/* -- requests as the server sees them, and reuse -- */

static void test_reuse(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 3; i++) fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 1);
  assert_int_equal(s.requests, 3);
  stop(&s);
}

static void test_fields(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  call c;
  open_call(&c, &s, "POST", "/a/../b?c=d");
  assert_int_equal(lw_upstream_header(c.u, LW_SPAN("X-One"), LW_SPAN("1")), LW_OK);
  assert_int_equal(lw_upstream_header(c.u, LW_SPAN("X-Empty"), LW_SPAN("")), LW_OK);
  assert_int_equal(lw_upstream_header(c.u, LW_SPAN("content-type"), LW_SPAN("a/b")), LW_OK);
  assert_int_equal(lw_upstream_header(c.u, LW_SPAN("Bad Name"), LW_SPAN("1")), LW_PROTOCOL);
  assert_int_equal(lw_upstream_header(c.u, LW_SPAN("Bad"), LW_SPAN("1\r\nInjected: 1")),
                   LW_PROTOCOL);
  const char *not_ours[] = {"Host", "content-length", "Expect",           "Connection",
                            "TE",   "Upgrade",        "Transfer-Encoding"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(not_ours); i++) {
    assert_int_equal(lw_upstream_header(c.u, lw_span_of(not_ours[i]), LW_SPAN("strange")), LW_OK);
  }
  lw_body *b = body_of(5);
  lw_upstream_body(c.u, b, (lw_span){b->p, 5});
  lw_body_unref(b);
  lw_upstream_start(c.u);
  assert_int_equal(await_end(&c), LW_EOF);
  close_call(&c);
  char expected[300];
  snprintf(expected, sizeof expected,
           "POST /a/../b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-One: 1\r\nX-Empty:\r\n"
           "content-type: a/b\r\nContent-Length: 5\r\n\r\n",
           s.port);
  assert_string_equal(s.last, expected);
  assert_int_equal(s.last_body, 5);

  fetch(&s, "GET", 200, "hi"); /* on the same handle: nothing of the POST is left */
  snprintf(expected, sizeof expected, "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", s.port);
  assert_string_equal(s.last, expected);
  start_post(&c, &s, 2 << 20); /* over curl's threshold for Expect */
  assert_int_equal(await_end(&c), LW_EOF);
  close_call(&c);
  assert_null(strstr(s.last, "Expect"));
  assert_null(strstr(s.last, "Content-Type"));
  assert_int_equal(s.last_body, 2 << 20);
  stop(&s);
}

static void test_methods(void **state) {
  (void)state;
  const char *bare = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
  const reply replies[] = {{OK_2, KEEP, 0}, {bare, KEEP, 0}, {OK_2, KEEP, 0},
                           {OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  const struct {
    const char *method, *line;
    bool length;
  } cases[] = {{"POST", "POST / ", true},      {"HEAD", "HEAD / ", false},
               {"GET", "GET / ", false},       {"PUT", "PUT / ", true},
               {"DELETE", "DELETE / ", false}, {"OPTIONS", "OPTIONS / ", false}};
  server s;
  start_server(&s, NULL, replies);
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    fetch(&s, cases[i].method, 200, strcmp(cases[i].method, "HEAD") == 0 ? "" : "hi");
    assert_memory_equal(s.last, cases[i].line, strlen(cases[i].line));
    assert_int_equal(strstr(s.last, "Content-Length: 0\r\n") != NULL, cases[i].length);
  }
  assert_int_equal(s.connections, 1);
  stop(&s);
}

static void test_idle_connection_closed(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  run_for(50);
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 2);
  assert_int_equal(s.requests, 2);
  stop(&s);
}

/* An answer that nobody asked for must not become the answer to the next request. */
static void test_idle_connection_speaks(void **state) {
  (void)state;
  const char *twice = OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {twice, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  assert_true(send_text(s.fds[0], "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"));
  run_for(50);
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 2);
  fetch(&s, "GET", 200, "hi");
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 3);
  stop(&s);
}

static void test_retry(void **state) {
  (void)state;
  const reply replies[] = {
      {OK_2, KEEP, 0}, {"", CLOSE, 0}, {OK_2, KEEP, 0}, {"", RESET, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  for (int i = 0; i < 2; i++) { /* closed, then reset */
    call c;
    start_post(&c, &s, 100000);
    assert_int_equal(await_end(&c), LW_EOF);
    close_call(&c);
    assert_int_equal(s.connections, 2 + i);
    assert_int_equal(s.requests, 3 + i * 2);
    assert_int_equal(s.last_body, 100000);
  }
  stop(&s);
}

/* Several stale connections: the second attempt is made on a fresh one. */
static void test_retry_is_fresh(void **state) {
  (void)state;
  const reply replies[] = {
      {OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {"", CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  call c[3];
  for (int i = 0; i < 3; i++) start(&c[i], &s, "GET");
  for (int i = 0; i < 3; i++) {
    assert_int_equal(await_end(&c[i]), LW_EOF);
    close_call(&c[i]);
  }
  assert_int_equal(s.connections, 3);
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 4);
  assert_int_equal(s.requests, 5);
  stop(&s);
}

static void test_retry_once(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {"", CLOSE, 0}, {"", CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  call c;
  start(&c, &s, "GET");
  assert_int_equal(await_end(&c), LW_CLOSED);
  assert_error(&c, &s, "closed the connection before answering");
  close_call(&c);
  assert_int_equal(s.requests, 3);
  stop(&s);
}

static void test_no_retry_when_fresh(void **state) {
  (void)state;
  const reply replies[] = {{"", CLOSE, 0}, {"", RESET, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 2; i++) {
    call c;
    start(&c, &s, "GET");
    assert_int_equal(await_end(&c), LW_CLOSED);
    assert_int_equal(lw_upstream_head(c.u), LW_CLOSED);
    assert_error(&c, &s, "closed the connection before answering");
    close_call(&c);
    assert_int_equal(s.requests, i + 1);
  }
  stop(&s);
}

/* -- not reached, too late -- */

static void test_refused(void **state) {
  (void)state;
  server s = {0};
  close(listen_somewhere(1, &s.port));
  call c;
  start(&c, &s, "GET");
  await_head(&c);
  assert_int_equal(lw_upstream_head(c.u), LW_IO);
  assert_int_equal(lw_upstream_ending(c.u), LW_IO);
  assert_error(&c, &s, "refused the connection");
  close_call(&c);
}

static void test_bad_urls(void **state) {
  (void)state;
  const struct {
    const char *method, *url, *error;
  } cases[] = {
      {"GET", "localhost:1/x", "model localhost:1 can't be called: not an http or https URL"},
      {"GET", "ftp://a:b@c/x", "model ftp://c can't be called: not an http or https URL"},
      {"GET", "", "model  can't be called: not an http or https URL"},
      {"G T", "http://a", "model http://a can't be called: not a usable method"},
      {"CONNECT", "http://a", "model http://a can't be called: not a usable method"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    call c = {.hold = true};
    lw_wake_init(&c.wake, run_call);
    lw_buf_init(&c.got, 0, 0, 0);
    c.u = lw_upstream_open(lw_span_of(cases[i].method), lw_span_of(cases[i].url), &c.wake);
    lw_upstream_set_role(c.u, "model");
    lw_upstream_start(c.u);
    await_head(&c);
    assert_int_equal(lw_upstream_head(c.u), LW_IO);
    assert_string_equal(lw_upstream_error(c.u), cases[i].error);
    close_call(&c);
  }
  call c = {.hold = true}; /* what curl alone can tell */
  lw_wake_init(&c.wake, run_call);
  lw_buf_init(&c.got, 0, 0, 0);
  c.u = lw_upstream_open(LW_SPAN("GET"), LW_SPAN("http://user:secret@[bad/x"), &c.wake);
  lw_upstream_start(c.u);
  await_head(&c);
  assert_int_equal(lw_upstream_head(c.u), LW_IO);
  assert_non_null(strstr(lw_upstream_error(c.u), "can't be called"));
  assert_null(strstr(lw_upstream_error(c.u), "secret"));
  close_call(&c);
}

static void expect_late(server *s, const lw_upstream_timeouts *t, const char *error) {
  call c;
  open_call(&c, s, "GET", "/");
  lw_upstream_set_timeouts(c.u, t);
  lw_upstream_start(c.u);
  assert_int_equal(await_end(&c), LW_TIMEOUT);
  assert_error(&c, s, error);
  close_call(&c);
}

static void test_first_byte_timeout(void **state) {
  (void)state;
  const reply replies[] = {{"HTTP/1.1 103 Early\r\n\r\n", WAIT, 0}, {NULL, WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  expect_late(&s, &(lw_upstream_timeouts){.first_byte_ms = 80, .idle_ms = 60000},
              "sent no answer within 80 ms");
  expect_late(&s, &(lw_upstream_timeouts){.first_byte_ms = 1200}, "sent no answer within 1.2 s");
  await_count(&s.drops, 2); /* dropped before the call was closed, or at the latest then */
  stop(&s);
}

static void test_idle_timeout(void **state) {
  (void)state;
  const reply replies[] = {{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcd", WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  expect_late(&s, &(lw_upstream_timeouts){.first_byte_ms = 60000, .idle_ms = 80},
              "sent nothing more for 80 ms, after 4 bytes");
  await_count(&s.drops, 1);
  stop(&s);
}

static void serve_trickle(server *s, int fd) {
  if (!read_request(s, fd)) return;
  send_text(fd, "HTTP/1.1 200 OK\r\n\r\n");
  while (send_text(fd, "x")) usleep(10000);
  s->drops++;
}

static void test_total_timeout(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_trickle, NULL);
  expect_late(&s,
              &(lw_upstream_timeouts){.first_byte_ms = 60000, .idle_ms = 10000, .total_ms = 250},
              "did not finish its answer within 250 ms");
  await_count(&s.drops, 1);
  stop(&s);
}

/* A listener whose queue is full lets SYNs fall: connecting takes as long as one likes. */
static int full_listener(int *port, int fillers[4]) {
  int listener = listen_somewhere(0, port);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  a.sin_port = htons((uint16_t)*port);
  for (int i = 0; i < 4; i++) {
    fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fillers[i], (struct sockaddr *)&a, sizeof a) < 0)
      assert_int_equal(errno, EINPROGRESS);
  }
  usleep(20000);
  return listener;
}

static void test_connect_timeout(void **state) {
  (void)state;
  server s = {0};
  int fillers[4];
  int listener = full_listener(&s.port, fillers);
  expect_late(&s, &(lw_upstream_timeouts){.connect_ms = 100, .first_byte_ms = 60000},
              "did not connect within 100 ms");
  call c; /* and closed while connecting */
  start(&c, &s, "GET");
  run_for(20);
  assert_int_equal(lw_upstream_head(c.u), LW_AGAIN);
  close_call(&c);
  for (int i = 0; i < 4; i++) close(fillers[i]);
  close(listener);
}

/* -- answers that break off or break the rules -- */

typedef struct bad_answer {
  const char *text;
  afterwards then;
  lw_code head, ending;
  const char *body, *error;
} bad_answer;

static const bad_answer bad_answers[] = {
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n7\r\nab", CLOSE, LW_OK,
     LW_CLOSED, "abcdeab", "broke off after 7 bytes"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", CLOSE, LW_OK, LW_CLOSED,
     "abcde", "broke off after 5 bytes"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", RESET, LW_OK, LW_CLOSED,
     "abcde", "broke off after 5 bytes"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n", WAIT, LW_OK,
     LW_PROTOCOL, "abcde",
     "broke HTTP after 5 bytes of its answer: Illegal or missing hexadecimal sequence in "
     "chunked-encoding"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", CLOSE, LW_OK, LW_CLOSED, "abc",
     "broke off after 3 of 10 bytes"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", CLOSE, LW_OK, LW_CLOSED, "",
     "broke off after 0 of 10 bytes"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", RESET, LW_OK, LW_CLOSED, "abc",
     "broke off after 3 of 10 bytes"},
    {"HTTP/1.1 200 OK\r\n\r\nabc", RESET, LW_OK, LW_CLOSED, "abc", "broke off after 3 bytes"},
    {"HTTP/1.1 200 OK\r\nContent-Le", CLOSE, LW_CLOSED, LW_CLOSED, "",
     "broke off within the head of its answer"},
    {"HTTP/1.1 200 OK\r\nA: b\r\n", RESET, LW_CLOSED, LW_CLOSED, "",
     "broke off within the head of its answer"},
    {"HTTP/1.1 100 Continue\r\n\r\n", CLOSE, LW_CLOSED, LW_CLOSED, "",
     "closed the connection before answering"},
    {"Hello, I am no web server\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "",
     "did not answer in proper HTTP/1: Received HTTP/0.9 when not allowed"},
    {"HTTP/2 200\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 2x0 OK\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 099 OK\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "",
     "did not answer in proper HTTP/1: a switch to another protocol"},
    {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "",
     "did not answer in proper HTTP/1: a folded header field"},
    {"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "",
     "did not answer in proper HTTP/1: an illegal header field"},
    {"HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nhi", WAIT, LW_PROTOCOL, LW_PROTOCOL, "",
     "did not answer in proper HTTP/1: a Content-Length that is no number"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi", WAIT, LW_PROTOCOL,
     LW_PROTOCOL, "", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", WAIT, LW_PROTOCOL,
     LW_PROTOCOL, "", "did not answer in proper HTTP/1: two Content-Lengths that differ"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", WAIT, LW_PROTOCOL, LW_PROTOCOL,
     "", "did not answer in proper HTTP/1: an unknown transfer coding"},
};

static void expect_bad(server *s, const bad_answer *bad) {
  call c;
  start(&c, s, "GET");
  lw_code ending = await_end(&c);
  if (ending != bad->ending) print_message("%s → %s\n", bad->text, lw_upstream_error(c.u));
  assert_int_equal(ending, bad->ending);
  assert_int_equal(lw_upstream_head(c.u), bad->head);
  assert_got(&c, bad->body);
  if (bad->error) assert_error(&c, s, bad->error);
  close_call(&c);
}

static void test_bad_answers(void **state) {
  (void)state;
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad_answers); i++) {
    const reply replies[] = {{bad_answers[i].text, bad_answers[i].then, 0}};
    server s;
    start_server(&s, NULL, replies);
    expect_bad(&s, &bad_answers[i]);
    if (bad_answers[i].then == WAIT) await_count(&s.drops, 1);
    stop(&s);
  }
}

static void test_head_limits(void **state) {
  (void)state;
  static char text[300000];
  size_t most_fields = 256;
  for (int over = 0; over < 2; over++) {
    size_t n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
    for (size_t i = 1; i < most_fields + (size_t)over; i++) {
      n += (size_t)sprintf(text + n, "X-%zu: 1\r\n", i);
    }
    sprintf(text + n, "\r\nhi");
    const reply replies[] = {{text, WAIT, 0}};
    server s;
    start_server(&s, NULL, replies);
    if (over) {
      expect_bad(&s, &(bad_answer){text, WAIT, LW_PROTOCOL, LW_PROTOCOL, "",
                                   "did not answer in proper HTTP/1: more than 256 header fields"});
    } else {
      fetch(&s, "GET", 200, "hi");
    }
    stop(&s);
  }
  const size_t lengths[] = {60000, 66000, 200000};
  for (size_t i = 0; i < LW_ARRAY_SIZE(lengths); i++) {
    size_t n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ");
    memset(text + n, 'x', lengths[i]);
    sprintf(text + n + lengths[i], "\r\n\r\nhi");
    const reply replies[] = {{text, WAIT, 0}};
    server s;
    start_server(&s, NULL, replies);
    if (i == 0) {
      fetch(&s, "GET", 200, "hi");
    } else {
      expect_bad(&s, &(bad_answer){text, WAIT, LW_PROTOCOL, LW_PROTOCOL, "", NULL});
    }
    stop(&s);
  }
}

/* -- answers that are well -- */

static void test_good_answers(void **state) {
  (void)state;
  const struct {
    const char *text;
    afterwards then;
    const char *method;
    int status;
    const char *body;
    int64_t length; /* -1: not announced */
  } cases[] = {
      {"HTTP/1.1 200 OK\r\n\r\nabc", CLOSE, "GET", 200, "abc", -1},
      {"HTTP/1.0 200 OK\r\n\r\nabc", CLOSE, "GET", 200, "abc", -1},
      {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", KEEP, "GET", 200,
       "abc", 3},
      {"HTTP/1.1 200\nContent-Length: 3\n\nabc", KEEP, "GET", 200, "abc", 3},
      {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
       "3;x=y\r\nabc\r\n0\r\n\r\n",
       KEEP, "GET", 200, "abc", -1},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n",
       KEEP, "GET", 200, "abc", -1},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
       "HTTP/1.1 201 Made\r\nContent-Length: 3\r\n\r\nabc",
       KEEP, "GET", 201, "abc", 3},
      {"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", KEEP, "HEAD", 200, "", 12},
      {"HTTP/1.1 204 None\r\n\r\n", KEEP, "GET", 204, "", -1},
      {"HTTP/1.1 304 Same\r\nContent-Length: 12\r\n\r\n", KEEP, "GET", 304, "", 12},
      {"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", KEEP, "GET", 500, "", 0},
      {"HTTP/1.1 302 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", KEEP,
       "GET", 302, "", 0},
      {"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n", KEEP,
       "GET", 401, "", 0},
      {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", KEEP, "GET",
       200, "abc", 3},
  };
  reply replies[LW_ARRAY_SIZE(cases) + 1];
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    replies[i] = (reply){cases[i].text, cases[i].then, 0};
  }
  server s;
  start_server(&s, NULL, replies);
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    call c;
    start(&c, &s, cases[i].method);
    assert_int_equal(await_end(&c), LW_EOF);
    assert_int_equal(lw_upstream_status(c.u), cases[i].status);
    assert_got(&c, cases[i].body);
    uint64_t length;
    assert_int_equal(lw_upstream_length(c.u, &length), cases[i].length >= 0);
    if (cases[i].length >= 0) assert_int_equal(length, cases[i].length);
    assert_int_equal(lw_headers_count(lw_upstream_headers(c.u), LW_SPAN("X-Trailer")), 0);
    assert_int_equal(lw_headers_count(lw_upstream_headers(c.u), LW_SPAN("Link")), 0);
    assert_true(lw_upstream_first_byte_ns(c.u) > 0);
    close_call(&c);
    assert_int_equal(s.requests, i + 1);
  }
  assert_int_equal(s.connections, 3); /* the two that ended by closing were not kept */
  stop(&s);
}

static void serve_early_answer(server *s, int fd) {
  char byte;
  recv(fd, &byte, 1, 0);
  send_text(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
  await_drop(s, fd);
}

static void test_answer_before_request_ends(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_early_answer, NULL);
  call c;
  start_post(&c, &s, 16 << 20);
  assert_int_equal(await_end(&c), LW_EOF);
  assert_int_equal(lw_upstream_status(c.u), 413);
  assert_got(&c, "no");
  await_count(&s.drops, 1); /* half a request can't be followed by another */
  close_call(&c);
  stop(&s);
}

/* -- memory: bodies, backpressure -- */

static void test_body_is_let_go(void **state) {
  (void)state;
  const reply replies[] = {{"HTTP/1.1 200 OK\r\n\r\na", WAIT, 0},
                           {"HTTP/1.1 200 OK\r\n\r\na", WAIT, 0}};
  const size_t sizes[] = {100, 1 << 20};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 2; i++) {
    lw_body *b = body_of(sizes[i]);
    call c;
    open_call(&c, &s, "POST", "/");
    lw_upstream_body(c.u, b, (lw_span){b->p, b->n});
    assert_int_equal(b->refs, 2);
    lw_upstream_start(c.u);
    await_head(&c);
    while (c.got.size == 0) turn();
    assert_int_equal(b->refs, 1); /* while the answer goes on */
    assert_int_equal(lw_upstream_ending(c.u), LW_AGAIN);
    assert_int_equal(s.last_body, sizes[i]);
    assert_int_equal(s.last_byte, b->p[sizes[i] - 1]);
    close_call(&c);
    lw_body_unref(b);
  }
  stop(&s);
}

static void serve_echo(server *s, int fd) {
  while (read_request(s, fd)) {
    lw_body *b = body_of(s->last_body);
    char head[100];
    sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", b->n);
    bool sent = s->last_byte == b->p[b->n - 1] && send_text(fd, head) && send_bytes(fd, b->p, b->n);
    lw_body_unref(b);
    if (!sent) return;
  }
}

static void test_large_echo(void **state) {
  (void)state;
  const size_t sizes[] = {60000, 66000, 32 << 20};
  server s;
  start_server(&s, serve_echo, NULL);
  for (int i = 0; i < 3; i++) {
    call c;
    start_post(&c, &s, sizes[i]);
    assert_int_equal(await_end(&c), LW_EOF);
    assert_int_equal(c.got.size, sizes[i]);
    lw_body *b = body_of(sizes[i]);
    for (size_t at = 0; c.got.size > 0;) {
      lw_span got = lw_buf_peek(&c.got);
      assert_memory_equal(got.p, b->p + at, got.n);
      at += got.n;
      lw_buf_consume(&c.got, got.n);
    }
    lw_body_unref(b);
    close_call(&c);
  }
  assert_int_equal(s.connections, 1);
  stop(&s);
}

/* On a reused connection the answer may be there, and fill the buffer, before anybody has polled.
 */
static void test_paused_at_once(void **state) {
  (void)state;
  enum {
    SIZE = 120000
  };
  const reply replies[] = {{OK_2, KEEP, 0}, {"", KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  call c;
  start(&c, &s, "GET");
  c.hold = true;
  lw_body *b = body_of(SIZE);
  assert_true(send_text(s.fds[0], "HTTP/1.1 200 OK\r\nContent-Length: 120000\r\n\r\n"));
  assert_true(send_bytes(s.fds[0], b->p, b->n));
  lw_body_unref(b);
  run_for(50);
  assert_int_equal(lw_upstream_ending(c.u), LW_AGAIN);
  assert_true(lw_upstream_buf(c.u)->size < 80000);
  c.hold = false;
  lw_loop_wake(&c.wake);
  assert_int_equal(await_end(&c), LW_EOF);
  assert_int_equal(c.got.size, SIZE);
  close_call(&c);
  assert_int_equal(s.connections, 1);
  stop(&s);
}

/* s->total bytes, each a function of its place, in chunks of odd sizes. */
static void serve_pattern(server *s, int fd) {
  if (!read_request(s, fd)) return;
  send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  char chunk[20032];
  for (size_t at = 0, size = 1; at < s->total; size = size * 7 % 19997 + 1) {
    size_t n = size < s->total - at ? size : s->total - at;
    int head = sprintf(chunk, "%zx\r\n", n);
    for (size_t i = 0; i < n; i++) chunk[(size_t)head + i] = (char)((at + i) * 131 >> 5);
    memcpy(chunk + head + n, "\r\n", 2);
    if (!send_bytes(fd, chunk, (size_t)head + n + 2)) {
      s->drops++;
      return;
    }
    at += n;
    s->sent = at;
  }
  send_text(fd, "0\r\n\r\n");
  await_drop(s, fd);
}

static void run_slow_reader(lw_wake *w) {
  call *c = LW_CONTAINER_OF(w, call, wake);
  lw_buf *in = lw_upstream_buf(c->u);
  for (int i = 0; i < 3 && in->size > 0; i++) { /* a little at a time */
    lw_span s = lw_buf_peek(in);
    for (size_t k = 0; k < s.n; k++) c->wrong += s.p[k] != (char)((c->eaten + k) * 131 >> 5);
    c->eaten += s.n;
    lw_buf_consume(in, s.n);
  }
  lw_upstream_consumed(c->u);
  if (in->size > 0) lw_loop_wake(w);
  lw_loop_stop();
}

static void fill_until_paused(server *s, call *c) {
  for (size_t before = 1; before != s->sent || s->sent == 0;) {
    before = s->sent;
    run_for(100);
  }
  assert_true(s->sent < s->total);
  size_t held = lw_upstream_buf(c->u)->size;
  assert_true(held >= 64 * 1024 && held < 64 * 1024 + 16 * 1024);
  assert_int_equal(lw_upstream_ending(c->u), LW_AGAIN);
}

static void test_backpressure(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_pattern, NULL);
  s.total = 64 << 20;
  call c;
  open_call(&c, &s, "GET", "/");
  c.hold = true;
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){.idle_ms = 150}); /* not while paused */
  lw_upstream_start(c.u);
  fill_until_paused(&s, &c);
  run_for(400);
  assert_int_equal(lw_upstream_ending(c.u), LW_AGAIN);
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){0});

  call reader = c; /* somebody else takes over */
  lw_wake_cancel(&c.wake);
  lw_wake_init(&reader.wake, run_slow_reader);
  lw_upstream_set_wake(reader.u, &reader.wake);
  lw_loop_wake(&reader.wake);
  while (lw_upstream_ending(reader.u) == LW_AGAIN || lw_upstream_buf(reader.u)->size > 0) turn();
  assert_int_equal(lw_upstream_ending(reader.u), LW_EOF);
  assert_int_equal(reader.eaten, s.total);
  assert_int_equal(reader.wrong, 0);
  close_call(&reader);
  stop(&s);
}

/* -- closing in every state -- */

static void test_close_before_start(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, NULL);
  call c;
  open_call(&c, &s, "GET", "/");
  lw_body *b = body_of(10);
  lw_upstream_body(c.u, b, (lw_span){b->p, b->n});
  close_call(&c);
  assert_int_equal(b->refs, 1);
  lw_body_unref(b);
  start(&c, &s, "GET"); /* and before curl has heard of it */
  close_call(&c);
  run_for(20);
  assert_int_equal(s.connections, 0);
  stop(&s);
}

static void test_close_before_head(void **state) {
  (void)state;
  const reply replies[] = {{NULL, WAIT, 0}, {"HTTP/1.1 200 O", WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 2; i++) {
    call c;
    start(&c, &s, "GET");
    while (s.requests <= i) run_for(1);
    run_for(20);
    assert_int_equal(lw_upstream_head(c.u), LW_AGAIN);
    close_call(&c);
    await_count(&s.drops, i + 1);
  }
  stop(&s);
}

static void test_close_within_body(void **state) {
  (void)state;
  const reply replies[] = {{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  call c;
  start(&c, &s, "GET");
  await_head(&c);
  close_call(&c);
  await_count(&s.drops, 1);
  stop(&s);
}

static void test_close_while_paused(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_pattern, NULL);
  s.total = 64 << 20;
  call c;
  open_call(&c, &s, "GET", "/");
  c.hold = true;
  lw_upstream_start(c.u);
  fill_until_paused(&s, &c);
  lw_buf_consume(lw_upstream_buf(c.u), lw_upstream_buf(c.u)->size);
  lw_upstream_consumed(c.u); /* a resume is under way */
  close_call(&c);
  await_count(&s.drops, 1);
  stop(&s);
}

static void serve_sink(server *s, int fd) { await_drop(s, fd); }

static void serve_nothing(server *s, int fd) {
  while (s->last_byte == 0) usleep(1000);
  await_drop(s, fd);
}

static void test_close_while_sending(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_nothing, NULL);
  call c;
  start_post(&c, &s, 8 << 20);
  run_for(50); /* more than the sockets hold */
  close_call(&c);
  s.last_byte = 1;
  await_count(&s.drops, 1);
  stop(&s);
  start_server(&s, serve_sink, NULL);
  start_post(&c, &s, 8 << 20);
  run_for(10);
  close_call(&c);
  await_count(&s.drops, 1);
  stop(&s);
}

static void serve_tokens(server *s, int fd) {
  while (read_request(s, fd)) {
    s->requests++;
    if (!send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")) return;
    if (!send_text(fd, "3\r\ntwo\r\n0\r\n\r\n")) return;
  }
}

static void test_many_in_turn(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_tokens, NULL);
  for (int i = 0; i < 1000; i++) fetch(&s, "GET", 200, "onetwo");
  assert_int_equal(s.requests, 1000);
  assert_int_equal(s.connections, 1);
  stop(&s);
}

static void test_many_at_once(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_tokens, NULL);
  call c[MOST_CONNECTIONS - 4];
  for (int round = 0; round < 20; round++) {
    for (size_t i = 0; i < LW_ARRAY_SIZE(c); i++) start(&c[i], &s, "GET");
    for (size_t i = 0; i < LW_ARRAY_SIZE(c); i++) {
      assert_int_equal(await_end(&c[i]), LW_EOF);
      assert_int_equal(c[i].got.size, 6);
      close_call(&c[i]);
    }
  }
  assert_true(s.connections <= (int)LW_ARRAY_SIZE(c));
  stop(&s);
}

static void test_unresolvable(void **state) {
  (void)state;
  call c = {.hold = true};
  lw_wake_init(&c.wake, run_call);
  lw_buf_init(&c.got, 0, 0, 0);
  c.u = lw_upstream_open(LW_SPAN("GET"), LW_SPAN("http://nowhere.invalid/"), &c.wake);
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){.connect_ms = 5000});
  lw_upstream_start(c.u);
  await_head(&c);
  lw_code code = lw_upstream_head(c.u);
  if (code == LW_TIMEOUT) {
    close_call(&c);
    print_message("skipped: the resolver of this machine does not answer\n");
    skip();
  }
  assert_int_equal(code, LW_IO);
  assert_string_equal(lw_upstream_error(c.u),
                      "server http://nowhere.invalid has a host name that can't be resolved");
  close_call(&c);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(test_reuse),
      CASE(test_fields),
      CASE(test_methods),
      CASE(test_idle_connection_closed),
      CASE(test_idle_connection_speaks),
      CASE(test_retry),
      CASE(test_retry_is_fresh),
      CASE(test_retry_once),
      CASE(test_no_retry_when_fresh),
      CASE(test_refused),
      CASE(test_bad_urls),
      CASE(test_unresolvable),
      CASE(test_first_byte_timeout),
      CASE(test_idle_timeout),
      CASE(test_total_timeout),
      CASE(test_connect_timeout),
      CASE(test_bad_answers),
      CASE(test_head_limits),
      CASE(test_good_answers),
      CASE(test_answer_before_request_ends),
      CASE(test_body_is_let_go),
      CASE(test_large_echo),
      CASE(test_paused_at_once),
      CASE(test_backpressure),
      CASE(test_close_before_start),
      CASE(test_close_before_head),
      CASE(test_close_within_body),
      CASE(test_close_while_paused),
      CASE(test_close_while_sending),
      CASE(test_many_in_turn),
      CASE(test_many_at_once),
  };
  return cmocka_run_group_tests_name("upstream", tests, NULL, NULL);
}

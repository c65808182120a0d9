/* SPDX-License-Identifier: MIT
 * A small blocking HTTP server in threads of the test program: one accepts, each connection has its
 * own. It answers the n-th request with the n-th reply, or does what the test's `serve` does. Used
 * by test_upstream and test_multi. */
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum {
  MOST_CONNECTIONS = 64,
  PATIENCE_MS = 60000
};

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
  char path[108]; /* of its unix socket; "": it has a port */
  pthread_t acceptor, threads[MOST_CONNECTIONS];
  int fds[MOST_CONNECTIONS];
  void (*serve)(struct server *s, int fd); /* NULL: answer by `replies` */
  const reply *_Atomic replies;
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

static inline bool send_bytes(int fd, const char *p, size_t n) {
  while (n > 0) {
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    p += sent;
    n -= (size_t)sent;
  }
  return true;
}

static inline bool send_text(int fd, const char *text) {
  return send_bytes(fd, text, strlen(text));
}

/* The head into s->last; the body's length and last byte are noted. */
static inline bool read_request(server *s, int fd) {
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

static inline void await_drop(server *s, int fd) {
  static _Thread_local char scrap[65536];
  while (recv(fd, scrap, sizeof scrap, 0) > 0) continue;
  s->drops++;
}

static inline void reset(int fd) {
  struct linger hard = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

static inline void serve_replies(server *s, int fd) {
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

static inline void *run_connection(void *user) {
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

static inline void *run_acceptor(void *user) {
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
    s->connections++; /* before the connection can be seen to work */
    pthread_create(&s->threads[i], NULL, run_connection, c);
  }
}

static inline int listen_somewhere(int backlog, int *port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof a;
  assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(fd, backlog), 0);
  getsockname(fd, (struct sockaddr *)&a, &size);
  *port = ntohs(a.sin_port);
  return fd;
}

/* A listener whose queue is full lets SYNs fall: connecting takes as long as one likes. */
static inline int listen_full(int *port, int fillers[4]) {
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

static inline void start_server(server *s, void (*serve)(server *s, int fd), const reply *replies) {
  memset(s, 0, sizeof *s);
  s->serve = serve;
  s->replies = replies;
  s->listener = listen_somewhere(64, &s->port);
  pthread_create(&s->acceptor, NULL, run_acceptor, s);
}

static inline int listen_at(const char *path, int backlog) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  strcpy(a.sun_path, path);
  unlink(path);
  assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(fd, backlog), 0);
  return fd;
}

static inline void temporary_path(char path[108]) {
  sprintf(path, "/tmp/luaworker-test-%d.sock", (int)getpid());
}

static inline void start_unix_server(server *s, void (*serve)(server *s, int fd),
                                     const reply *replies) {
  memset(s, 0, sizeof *s);
  s->serve = serve;
  s->replies = replies;
  temporary_path(s->path);
  s->listener = listen_at(s->path, 64);
  pthread_create(&s->acceptor, NULL, run_acceptor, s);
}

static inline void stop_server(server *s) {
  shutdown(s->listener, SHUT_RDWR);
  pthread_join(s->acceptor, NULL);
  close(s->listener);
  if (s->path[0]) unlink(s->path);
  for (int i = 0; i < s->connections; i++) {
    shutdown(s->fds[i], SHUT_RDWR);
    pthread_join(s->threads[i], NULL);
    close(s->fds[i]);
  }
}

static inline void await_count(atomic_int *count, int wanted) {
  for (int i = 0; i < PATIENCE_MS && *count < wanted; i++) usleep(1000);
  assert_int_equal(*count, wanted);
}

#define OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

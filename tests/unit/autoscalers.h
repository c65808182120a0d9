/* SPDX-License-Identifier: MIT
 * For tests of reports: small blocking autoscalers in threads of this program, which answer as the
 * test says and remember every post, a worker's account, and looks into what was posted. The loop
 * runs in the main thread. Used by test_report and test_report_flush. */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "exchange/upstream.h"
#include "floor/log.h"
#include "loop/multi.h"
#include "wire/json.h"
#include "worker/pace.h"
#include "worker/report.h"

enum {
  MOST_POSTS = 200,
  MOST_CONNECTIONS = 32,
  PATIENCE_MS = 60000,
  CUT = 1,
  SILENT = 2
};

/* -- autoscalers -- */

typedef struct posted {
  char *body;
  size_t n;
} posted;

typedef struct path_log { /* what came to one path, and how it is answered */
  const char *path;
  const int *statuses; /* of the first posts, 0-terminated; then 200. CUT: 200, then broken off */
  posted posts[MOST_POSTS];
  atomic_int count;
} path_log;

typedef struct server {
  int listener, port, fds[MOST_CONNECTIONS], connections;
  pthread_t acceptor, threads[MOST_CONNECTIONS];
  pthread_mutex_t lock;
  path_log status, deleted;
  atomic_int strange; /* requests that are no JSON post to a known path */
} server;

typedef struct connection {
  server *s;
  int fd;
} connection;

static inline bool read_head(int fd, char *head, size_t max) {
  size_t n = 0;
  while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
    if (n == max - 1 || recv(fd, head + n, 1, 0) != 1) return false;
    n++;
  }
  head[n] = 0;
  return true;
}

static inline int keep_post(server *s, path_log *l, char *body, size_t n) {
  pthread_mutex_lock(&s->lock);
  int i = l->count, status = 200;
  for (int at = 0; l->statuses && l->statuses[at]; at++) {
    if (at == i) status = l->statuses[at];
  }
  if (i == MOST_POSTS) {
    free(body);
  } else {
    l->posts[i] = (posted){body, n};
    l->count++;
  }
  pthread_mutex_unlock(&s->lock);
  return status;
}

static inline bool serve_one(server *s, int fd) {
  char head[4096], answer[200];
  if (!read_head(fd, head, sizeof head)) return false;
  const char *length = strstr(head, "Content-Length: ");
  size_t n = length ? strtoul(length + 16, NULL, 10) : 0;
  char *body = calloc(1, n + 1 + LW_JSON_PADDING);
  if (n && recv(fd, body, n, MSG_WAITALL) != (ssize_t)n) {
    free(body);
    return false;
  }
  path_log *l = strncmp(head, "POST /worker_status/ ", 21) == 0     ? &s->status
                : strncmp(head, "POST /delete_requests/ ", 23) == 0 ? &s->deleted
                                                                    : NULL;
  if (!l || !strstr(head, "\r\nContent-Type: application/json\r\n")) {
    s->strange++;
    free(body);
    return false;
  }
  int status = keep_post(s, l, body, n);
  if (status == SILENT) return recv(fd, answer, 1, 0) == 1;
  snprintf(answer, sizeof answer, "HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\n%s",
           status == CUT ? 200 : status, status == CUT ? "o" : "ok\n");
  send(fd, answer, strlen(answer), MSG_NOSIGNAL);
  return status != CUT;
}

static inline void *run_connection(void *user) {
  connection c = *(connection *)user;
  free(user);
  while (serve_one(c.s, c.fd)) continue;
  shutdown(c.fd, SHUT_RDWR);
  return NULL;
}

static inline void *run_acceptor(void *user) {
  server *s = user;
  for (;;) {
    int fd = accept(s->listener, NULL, NULL);
    if (fd < 0) return NULL;
    connection *c = malloc(sizeof *c);
    *c = (connection){s, fd};
    assert_true(s->connections < MOST_CONNECTIONS);
    s->fds[s->connections] = fd;
    pthread_create(&s->threads[s->connections++], NULL, run_connection, c);
  }
}

static inline void start_server(server *s) {
  memset(s, 0, sizeof *s);
  pthread_mutex_init(&s->lock, NULL);
  s->listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof a;
  assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(s->listener, 16), 0);
  getsockname(s->listener, (struct sockaddr *)&a, &size);
  s->port = ntohs(a.sin_port);
  pthread_create(&s->acceptor, NULL, run_acceptor, s);
}

static inline void stop_server(server *s) {
  shutdown(s->listener, SHUT_RDWR);
  pthread_join(s->acceptor, NULL);
  close(s->listener);
  for (int i = 0; i < s->connections; i++) {
    shutdown(s->fds[i], SHUT_RDWR);
    pthread_join(s->threads[i], NULL);
    close(s->fds[i]);
  }
  for (int i = 0; i < MOST_POSTS; i++) {
    free(s->status.posts[i].body);
    free(s->deleted.posts[i].body);
  }
  assert_int_equal(s->strange, 0);
}

/* -- the worker -- */

static lw_timer poll_timer;
static lw_account *account;
static server one, two;

static inline void on_poll(lw_timer *t) {
  (void)t;
  lw_loop_stop();
}

static inline void run_a_little(void) {
  lw_timer_start(&poll_timer, 2);
  lw_loop_run();
}

static inline void await_posts(const path_log *l, int count) {
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  while (l->count < count && lw_now_ms() < until) run_a_little();
  assert_true(l->count >= count);
}

static inline void await_ended(size_t left) {
  lw_ended *scratch = calloc(5000, sizeof *scratch);
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  size_t n = 0;
  while ((n = lw_account_ended(account, scratch, 5000)) != left && lw_now_ms() < until) {
    run_a_little();
  }
  assert_int_equal(n, left);
  free(scratch);
}

static inline void run_for(unsigned ms) {
  uint64_t until = lw_now_ms() + ms;
  while (lw_now_ms() < until) run_a_little();
}

static inline void start_reports(const char *addresses, bool v1) {
  lw_report_settings settings = {.addresses = addresses,
                                 .worker_id = 4711,
                                 .master_token = "to\"ken",
                                 .url = "http://1.2.3.4:40001",
                                 .delete_requests_v1 = v1};
  lw_report_start(&settings, account);
}

static inline void start_reports_to(bool v1, int servers) {
  char addresses[200];
  snprintf(addresses, sizeof addresses,
           servers == 1 ? "http://127.0.0.1:%d/" : "http://127.0.0.1:%d, http://127.0.0.1:%d",
           one.port, two.port);
  start_reports(addresses, v1);
}

static inline void end_one(int64_t reqnum, lw_outcome outcome, double workload) {
  lw_record r;
  lw_account_receive(account, &r, LW_RECORD_REQUEST, reqnum, reqnum + 1000, workload);
  if (outcome == LW_SUCCESS) lw_account_working(account, &r);
  lw_account_end(account, &r, outcome);
}

static inline int set_up(void **state) {
  (void)state;
  lw_loop_init();
  lw_timer_init(&poll_timer, on_poll);
  account = lw_account_new();
  start_server(&one);
  start_server(&two);
  return 0;
}

static inline int tear_down(void **state) {
  (void)state;
  lw_report_stop();
  if (lw_upstream_open_count() != 0 || lw_multi_running() != 0) return -1;
  lw_upstream_shutdown();
  stop_server(&one);
  stop_server(&two);
  lw_account_free(account);
  lw_timer_fini(&poll_timer);
  lw_loop_fini(); /* asserts that no handle is left */
  lw_buf_drop_spares();
  return 0;
}

/* -- looking into posts -- */

static lw_json doc;

static inline void parse(path_log *l, int i) {
  assert_true(i < l->count);
  assert_int_equal(lw_json_parse(&doc, l->posts[i].body, l->posts[i].n), LW_OK);
}

static inline uint32_t member_of(uint32_t object, const char *key) {
  uint32_t node = lw_json_member(&doc, object, lw_span_of(key));
  if (!node) print_message("%s is missing in %.300s\n", key, doc.text);
  assert_true(node != 0);
  return node;
}

static inline double number_of(uint32_t object, const char *key) {
  const lw_json_node *n = &doc.nodes[member_of(object, key)];
  assert_true(n->kind == LW_JSON_INT || n->kind == LW_JSON_NUMBER);
  return n->kind == LW_JSON_INT ? (double)n->integer : n->number;
}

static inline void assert_string(uint32_t object, const char *key, const char *wanted) {
  lw_span s = lw_json_string(&doc, member_of(object, key));
  assert_true(lw_span_eq(s, lw_span_of(wanted)));
}

static inline void assert_text(uint32_t object, const char *key, const char *wanted) {
  lw_span s = lw_json_text(&doc, member_of(object, key));
  if (!lw_span_eq(s, lw_span_of(wanted))) print_message("%s: %.*s\n", key, (int)s.n, s.p);
  assert_true(lw_span_eq(s, lw_span_of(wanted)));
}

static inline void assert_sums(path_log *l, int i, double new_load, double rej_load,
                               double cur_perf) {
  parse(l, i);
  assert_float_equal(number_of(0, "new_load"), new_load, 1e-9);
  assert_float_equal(number_of(0, "rej_load"), rej_load, 1e-9);
  assert_float_equal(number_of(0, "cur_perf"), cur_perf, 1e-9);
}

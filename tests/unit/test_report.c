/* SPDX-License-Identifier: MIT
 * Reports against small blocking autoscalers in threads of this program, which answer as the test
 * says and remember every post. The loop runs in the main thread. */
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
  PATIENCE_MS = 20000,
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

static bool read_head(int fd, char *head, size_t max) {
  size_t n = 0;
  while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
    if (n == max - 1 || recv(fd, head + n, 1, 0) != 1) return false;
    n++;
  }
  head[n] = 0;
  return true;
}

static int keep_post(server *s, path_log *l, char *body, size_t n) {
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

static bool serve_one(server *s, int fd) {
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

static void *run_connection(void *user) {
  connection c = *(connection *)user;
  free(user);
  while (serve_one(c.s, c.fd)) continue;
  shutdown(c.fd, SHUT_RDWR);
  return NULL;
}

static void *run_acceptor(void *user) {
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

static void start_server(server *s) {
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

static void stop_server(server *s) {
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

static void on_poll(lw_timer *t) {
  (void)t;
  lw_loop_stop();
}

static void run_a_little(void) {
  lw_timer_start(&poll_timer, 2);
  lw_loop_run();
}

static void await_posts(const path_log *l, int count) {
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  while (l->count < count && lw_now_ms() < until) run_a_little();
  assert_true(l->count >= count);
}

static void await_ended(size_t left) {
  lw_ended *scratch = calloc(5000, sizeof *scratch);
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  size_t n = 0;
  while ((n = lw_account_ended(account, scratch, 5000)) != left && lw_now_ms() < until) {
    run_a_little();
  }
  assert_int_equal(n, left);
  free(scratch);
}

static void run_for(unsigned ms) {
  uint64_t until = lw_now_ms() + ms;
  while (lw_now_ms() < until) run_a_little();
}

static void start_reports(const char *addresses, bool v1) {
  lw_report_settings settings = {.addresses = addresses,
                                 .worker_id = 4711,
                                 .master_token = "to\"ken",
                                 .url = "http://1.2.3.4:40001",
                                 .delete_requests_v1 = v1};
  lw_report_start(&settings, account);
}

static void start_reports_to(bool v1, int servers) {
  char addresses[200];
  snprintf(addresses, sizeof addresses,
           servers == 1 ? "http://127.0.0.1:%d/" : "http://127.0.0.1:%d, http://127.0.0.1:%d",
           one.port, two.port);
  start_reports(addresses, v1);
}

static void end_one(int64_t reqnum, lw_outcome outcome, double workload) {
  lw_record r;
  lw_account_receive(account, &r, LW_RECORD_REQUEST, reqnum, reqnum + 1000, workload);
  if (outcome == LW_SUCCESS) lw_account_working(account, &r);
  lw_account_end(account, &r, outcome);
}

static int set_up(void **state) {
  (void)state;
  lw_loop_init();
  lw_timer_init(&poll_timer, on_poll);
  account = lw_account_new();
  start_server(&one);
  start_server(&two);
  return 0;
}

static int tear_down(void **state) {
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

static void parse(path_log *l, int i) {
  assert_true(i < l->count);
  assert_int_equal(lw_json_parse(&doc, l->posts[i].body, l->posts[i].n), LW_OK);
}

static uint32_t member_of(uint32_t object, const char *key) {
  uint32_t node = lw_json_member(&doc, object, lw_span_of(key));
  if (!node) print_message("%s is missing in %.300s\n", key, doc.text);
  assert_true(node != 0);
  return node;
}

static double number_of(uint32_t object, const char *key) {
  const lw_json_node *n = &doc.nodes[member_of(object, key)];
  assert_true(n->kind == LW_JSON_INT || n->kind == LW_JSON_NUMBER);
  return n->kind == LW_JSON_INT ? (double)n->integer : n->number;
}

static void assert_string(uint32_t object, const char *key, const char *wanted) {
  lw_span s = lw_json_string(&doc, member_of(object, key));
  assert_true(lw_span_eq(s, lw_span_of(wanted)));
}

static void assert_text(uint32_t object, const char *key, const char *wanted) {
  lw_span s = lw_json_text(&doc, member_of(object, key));
  if (!lw_span_eq(s, lw_span_of(wanted))) print_message("%s: %.*s\n", key, (int)s.n, s.p);
  assert_true(lw_span_eq(s, lw_span_of(wanted)));
}

static void assert_sums(path_log *l, int i, double new_load, double rej_load, double cur_perf) {
  parse(l, i);
  assert_float_equal(number_of(0, "new_load"), new_load, 1e-9);
  assert_float_equal(number_of(0, "rej_load"), rej_load, 1e-9);
  assert_float_equal(number_of(0, "cur_perf"), cur_perf, 1e-9);
}

/* -- worker_status -- */

static void test_first_report(void **state) {
  (void)state;
  start_reports_to(false, 1);
  lw_record queued, working;
  lw_account_receive(account, &queued, LW_RECORD_REQUEST, 5, 77, 12.5);
  lw_account_receive(account, &working, LW_RECORD_REQUEST, 6, 78, 2);
  lw_account_working(account, &working);
  await_posts(&one.status, 1);
  parse(&one.status, 0);
  static const char *const numbers[][2] = {
      {"id", "4711"},           {"loadtime", "0"},
      {"new_load", "14.5"},     {"cur_load", "14.5"},
      {"rej_load", "0"},        {"max_perf", "0"},
      {"cur_perf", "0"},        {"num_requests_working", "2"},
      {"cur_capacity", "0"},    {"num_requests_recieved", "2"},
      {"max_capacity", "0"},    {"working_request_idxs", "[77,78]"},
      {"version", "\"1.1.0\""}, {"mtoken", "\"to\\\"ken\""},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(numbers); i++) assert_text(0, numbers[i][0], numbers[i][1]);
  assert_string(0, "url", "http://1.2.3.4:40001");
  assert_string(0, "error_msg", "");
  number_of(0, "additional_disk_usage");
  assert_true(number_of(0, "disk_usage") > 0);
  assert_int_equal(doc.nodes[0].count, 18);
  lw_account_end(account, &queued, LW_CANCELLED_OUTCOME);
  lw_account_end(account, &working, LW_SUCCESS);
}

static void test_loaded_and_error(void **state) {
  (void)state;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  run_for(100); /* until that answer is here */
  lw_report_loaded(3.25, 1000);
  await_posts(&one.status, 2);
  parse(&one.status, 1);
  assert_text(0, "loadtime", "3.25");
  assert_text(0, "max_perf", "1000");
  lw_report_error("it \"burns\"");
  await_posts(&one.status, 3);
  parse(&one.status, 2);
  assert_string(0, "error_msg", "it \"burns\"");
  assert_text(0, "loadtime", "3.25");
  lw_report_error("it \"burns\""); /* no news */
  lw_report_error("");
  await_posts(&one.status, 4);
  parse(&one.status, 3);
  assert_string(0, "error_msg", "");
  run_for(2500); /* nothing changes, so two ticks pass without a report */
  assert_int_equal(one.status.count, 4);
}

static void test_reset_only_when_taken(void **state) {
  (void)state;
  static const int statuses[] = {500, 302, 404, CUT, 0};
  one.status.statuses = statuses;
  end_one(1, LW_SUCCESS, 3);
  end_one(2, LW_CANCELLED_OUTCOME, 4);
  end_one(3, LW_REJECTED, 5);
  start_reports_to(false, 1);
  await_posts(&one.status, 4);
  for (int i = 0; i < 4; i++) assert_sums(&one.status, i, 3, 5, 3);
  run_for(100); /* the fourth was taken: its 200 counts, though the answer broke off */
  assert_int_equal(lw_report_failures(), 3);
  end_one(4, LW_SUCCESS, 0.5);
  await_posts(&one.status, 5);
  assert_sums(&one.status, 4, 0.5, 0, 0.5);
  assert_int_equal(two.status.count, 0);
}

static void test_next_address(void **state) {
  (void)state;
  static const int statuses[] = {503, 503, 503, 0};
  one.status.statuses = statuses;
  start_reports_to(false, 2);
  await_posts(&two.status, 1);
  assert_int_equal(one.status.count, 3);
  run_for(100);
  lw_report_loaded(1, 1); /* each round begins at the first address */
  await_posts(&one.status, 4);
  run_for(100);
  assert_int_equal(two.status.count, 1); /* and the first that takes it ends the round */
}

static void test_news_do_not_wait(void **state) {
  (void)state;
  static const int statuses[] = {500, 500, 500, 500, 0};
  one.status.statuses = statuses;
  start_reports_to(false, 2);
  await_posts(&one.status, 1);
  run_for(100); /* now it waits for its second attempt */
  lw_report_loaded(2, 2);
  await_posts(&two.status, 1); /* after three attempts of a round anew, not after the two left */
  assert_int_equal(one.status.count, 4);
  parse(&one.status, 1);
  assert_text(0, "loadtime", "2");
}

static void test_news_during_a_post(void **state) {
  (void)state;
  start_reports_to(false, 1);
  run_a_little();
  lw_report_loaded(2, 2); /* the first post may be under way or done */
  lw_report_loaded(4, 4);
  await_posts(&one.status, 2);
  run_for(200);
  parse(&one.status, one.status.count - 1);
  assert_text(0, "loadtime", "4");
}

static void test_stop_in_every_state(void **state) {
  (void)state;
  static const int silent[] = {SILENT, 0}, refused[] = {500, 0};
  start_reports_to(false, 1);
  lw_report_stop(); /* before the loop ran */
  one.status.statuses = silent;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  lw_report_stop(); /* waiting for an answer */
  two.status.statuses = refused;
  char address[100];
  snprintf(address, sizeof address, "http://127.0.0.1:%d", two.port);
  start_reports(address, false);
  await_posts(&two.status, 1);
  run_for(100);
  lw_report_stop(); /* waiting for the next attempt */
  lw_report_stop();
  lw_report_loaded(1, 1);
  lw_report_error("too late");
  run_for(100);
  assert_int_equal(one.status.count + two.status.count, 2);
}

/* -- delete_requests -- */

static void test_ended(void **state) {
  (void)state;
  static const int statuses[] = {500, 0};
  static const char *const names[] = {"", "Success", "Error", "Cancelled", "Rejected"};
  one.deleted.statuses = statuses;
  start_reports_to(false, 1);
  double before = lw_wall_s();
  for (int i = 0; i < 1200; i++) end_one(i, LW_SUCCESS + i % 4, 1);
  await_posts(&one.deleted, 1);
  run_for(200);
  await_ended(1200); /* refused, so nothing is dropped */
  await_ended(0);
  assert_int_equal(one.deleted.count, 4);
  assert_int_equal(one.deleted.posts[0].n, one.deleted.posts[1].n);
  assert_memory_equal(one.deleted.posts[0].body, one.deleted.posts[1].body, one.deleted.posts[0].n);
  int seen = 0;
  for (int post = 1; post < 4; post++) {
    parse(&one.deleted, post);
    assert_text(0, "worker_id", "4711");
    assert_string(0, "mtoken", "to\"ken");
    uint32_t list = member_of(0, "requests");
    assert_int_equal(doc.nodes[list].count, post < 3 ? 500 : 200);
    for (uint32_t at = list + 1; at < doc.nodes[list].next; at = doc.nodes[at].next, seen++) {
      lw_outcome outcome = LW_SUCCESS + seen % 4;
      assert_int_equal(number_of(at, "request_idx"), seen + 1000);
      assert_string(at, "status", names[outcome]);
      bool good = outcome == LW_SUCCESS || outcome == LW_CANCELLED_OUTCOME;
      assert_text(at, "success", good ? "true" : "false");
      double entered = number_of(at, "entered_queue_at"), work = number_of(at, "work_started_at");
      double completed = number_of(at, "work_completed_at");
      assert_true(before <= entered && entered <= completed && completed <= lw_wall_s());
      assert_true(outcome == LW_SUCCESS ? entered <= work && work <= completed : work == 0);
    }
  }
  assert_int_equal(seen, 1200);
}

static void assert_v1(int post, bool success, const char *idxs) {
  parse(&one.deleted, post);
  assert_text(0, "success", success ? "true" : "false");
  assert_text(0, "request_idxs", idxs);
}

static void test_ended_v1(void **state) {
  (void)state;
  static const int statuses[] = {200, 500, 0};
  one.deleted.statuses = statuses;
  start_reports_to(true, 1);
  for (int i = 0; i < 4; i++) end_one(i, LW_SUCCESS + i, 1);
  await_ended(0);
  assert_int_equal(one.deleted.count, 3);
  assert_v1(0, true, "[1000,1002]");
  assert_v1(1, false, "[1001,1003]"); /* refused */
  assert_v1(2, false, "[1001,1003]");
  end_one(10, LW_ERROR, 1);
  await_ended(0);
  assert_v1(3, false, "[1010]");
  end_one(11, LW_SUCCESS, 1);
  await_ended(0);
  assert_v1(4, true, "[1011]");
  assert_int_equal(one.deleted.count, 5);
}

static void test_cloud_is_not_told(void **state) {
  (void)state;
  start_reports("https://cloud.vast.ai/api/v0/", false);
  end_one(1, LW_SUCCESS, 1);
  /* Not even kept. The loop does not turn here, so nothing is sent to that host. */
  await_ended(0);
  lw_report_stop();
  start_reports("https://cloud.vast.ai/api/v0, http://127.0.0.1:1", false);
  end_one(1, LW_SUCCESS, 1);
  lw_ended e;
  assert_int_equal(lw_account_ended(account, &e, 1), 1);
}

/* -- the last posts -- */

static int flushed;
static void on_flushed(void) { flushed++; }

static void await_flushed(void) {
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  while (!flushed && lw_now_ms() < until) run_a_little();
  assert_int_equal(flushed, 1);
}

static void test_flush_without_reports(void **state) {
  (void)state;
  flushed = 0;
  lw_report_flush(on_flushed);
  assert_int_equal(flushed, 1);
}

static void test_flush_with_no_news(void **state) {
  (void)state;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  run_for(100);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 1);
}

static void test_flush_tells_all(void **state) {
  (void)state;
  start_reports_to(true, 1);
  await_posts(&one.status, 1);
  run_for(100);
  for (int i = 0; i < 1200; i++) end_one(i, LW_SUCCESS + i % 4, 1);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 2);
  assert_sums(&one.status, 1, 600, 300, 300); /* successes and errors are new load */
  assert_int_equal(one.deleted.count, 6);     /* three batches, each in two parts */
  end_one(5000, LW_SUCCESS, 1);
  run_for(1500);
  assert_int_equal(one.status.count, 2); /* nothing any more */
}

static void test_flush_does_not_retry(void **state) {
  (void)state;
  static const int bad[] = {500, 500, 500, 500, 500, 0};
  start_reports_to(false, 2);
  await_posts(&one.status, 1);
  run_for(100);
  one.status.statuses = one.deleted.statuses = two.status.statuses = two.deleted.statuses = bad;
  end_one(1, LW_SUCCESS, 1);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 2);
  assert_int_equal(one.deleted.count, 1);
  assert_int_equal(two.status.count, 1); /* the next address has its chance */
  assert_int_equal(two.deleted.count, 1);
}

static void test_flush_is_bounded(void **state) {
  (void)state;
  static const int silent[] = {SILENT, SILENT, SILENT, 0};
  one.status.statuses = silent;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  flushed = 0;
  lw_report_flush(on_flushed); /* while a post is under way */
  await_flushed();             /* long before that post's own 10 s */
  assert_int_equal(one.status.count, 1);
}

static void test_flush_while_waiting_for_a_retry(void **state) {
  (void)state;
  static const int bad[] = {500, 0};
  one.status.statuses = one.deleted.statuses = bad;
  end_one(1, LW_SUCCESS, 3);
  start_reports_to(false, 1);
  end_one(2, LW_SUCCESS, 4);
  await_posts(&one.status, 1);
  await_posts(&one.deleted, 1);
  run_for(100);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 2);
  assert_sums(&one.status, 1, 7, 0, 7);
  assert_int_equal(one.deleted.count, 2);
}

static void test_stop_within_a_flush(void **state) {
  (void)state;
  static const int silent[] = {SILENT, 0};
  one.status.statuses = silent;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  flushed = 0;
  lw_report_flush(on_flushed);
  lw_report_stop();
  run_for(100);
  assert_int_equal(flushed, 0);
}

/* An autoscaler that is away for as long as 60 reports take, in each of its ways: what is told in
 * the end is what happened, once. */
static void test_a_long_outage(void **state) {
  (void)state;
  static int bad[MOST_POSTS];
  static const int ways[] = {500, 302, 404, 503};
  for (int i = 0; i < 60; i++) bad[i] = ways[i % 4];
  bad[60] = 0;
  one.status.statuses = one.deleted.statuses = bad;
  lw_pace_set(100);
  start_reports_to(false, 1);
  int n = 0;
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  while ((one.status.count < 60 || one.deleted.count < 60) && lw_now_ms() < until) {
    if (n < 4000) end_one(n, LW_SUCCESS, 1), n++;
    run_a_little();
  }
  await_ended(0);
  lw_pace_set(1);
  double new_load = 0, cur_perf = 0;
  run_for(200);
  for (int i = 60; i < one.status.count; i++) {
    parse(&one.status, i);
    new_load += number_of(0, "new_load");
    cur_perf += number_of(0, "cur_perf");
  }
  assert_float_equal(new_load, n, 1e-6);
  assert_float_equal(cur_perf, n, 1e-6);
  uint32_t told = 0;
  for (int i = 60; i < one.deleted.count; i++) {
    parse(&one.deleted, i);
    told += doc.nodes[member_of(0, "requests")].count;
  }
  assert_int_equal(told, n);
}

/* -- the log -- */

static int count_of(const char *text, const char *word) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, word)); at++) n++;
  return n;
}

static void test_log(void **state) {
  (void)state;
  static const int statuses[] = {500, 500, 500, 500, 500, 500, 0};
  FILE *f = tmpfile();
  lw_log_setup(fileno(f), LW_LOG_DEBUG, LW_LOG_TEXT);
  one.status.statuses = statuses;
  start_reports_to(false, 1);
  await_posts(&one.status, 7);
  run_for(100);
  lw_log_setup(2, LW_LOG_OFF, LW_LOG_TEXT);
  char text[8192];
  rewind(f);
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  fclose(f);
  assert_int_equal(count_of(text, "is taken by no address"), 1);
  assert_int_equal(count_of(text, "is taken again"), 1);
  assert_int_equal(count_of(text, "answered with status 500; trying on"), 1);
  assert_int_equal(count_of(text, "ken\""), 0);
  assert_int_equal(count_of(text, "to\\"), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  lw_log_setup(2, LW_LOG_OFF, LW_LOG_TEXT);
  lw_json_init(&doc);
  const struct CMUnitTest tests[] = {
      CASE(test_first_report),
      CASE(test_loaded_and_error),
      CASE(test_reset_only_when_taken),
      CASE(test_next_address),
      CASE(test_news_do_not_wait),
      CASE(test_news_during_a_post),
      CASE(test_stop_in_every_state),
      CASE(test_ended),
      CASE(test_ended_v1),
      CASE(test_cloud_is_not_told),
      CASE(test_flush_without_reports),
      CASE(test_flush_with_no_news),
      CASE(test_flush_tells_all),
      CASE(test_flush_does_not_retry),
      CASE(test_flush_is_bounded),
      CASE(test_flush_while_waiting_for_a_retry),
      CASE(test_stop_within_a_flush),
      CASE(test_a_long_outage),
      CASE(test_log),
  };
  int failed = cmocka_run_group_tests_name("report", tests, NULL, NULL);
  lw_json_fini(&doc);
  return failed;
}

/* SPDX-License-Identifier: MIT
 * The HTTP server over real sockets: requests kept apart, refusals, deadlines, clients that leave,
 * stopping. The layer above is a recorder of this file. Parsing itself: test_h1_parse. */
#include "exchange/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "floor/log.h"
#include "loop/conn.h"
#include "turn.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST(path, length, body) \
  "POST " path " HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n\r\n" body

static lw_server *server;
static lw_server_limits limits;
static peer client;

/* The recorder. Paths say what it does: /hold waits for the test, /none is refused by its head. */
static struct {
  lw_request *held;
  char seen[512]; /* "METHOD path body;" for each complete request */
  int heads, gone, idle;
  uint64_t allowed;
} above;

static uint64_t on_head(void *owner, lw_request *r) {
  assert_ptr_equal(owner, &above);
  above.heads++;
  if (lw_span_eq(r->head->path, LW_SPAN("/none"))) lw_response_error(r, 404, NULL, "no such path");
  if (lw_span_eq(r->head->path, LW_SPAN("/refuse"))) lw_response_refuse(r, 415, "not so");
  return above.allowed;
}

static void on_complete(void *owner, lw_request *r) {
  assert_ptr_equal(owner, &above);
  assert_int_equal(r->state, LW_REQUEST_WAITING);
  size_t n = strlen(above.seen);
  snprintf(above.seen + n, sizeof above.seen - n, "%.*s %.*s %.*s;", (int)r->head->method_text.n,
           r->head->method_text.p, (int)r->head->path.n, r->head->path.p,
           (int)LW_MIN(r->body->n, 64), r->body->p ? r->body->p : "");
  if (lw_span_eq(r->head->path, LW_SPAN("/hold"))) {
    above.held = r;
    return;
  }
  lw_response_send(r, 200, "text/plain", r->head->path);
  lw_request_release(r);
}

static void on_gone(void *owner, lw_request *r) {
  assert_ptr_equal(owner, &above);
  assert_int_equal(r->state, LW_REQUEST_GONE);
  assert_ptr_equal(r, above.held);
  above.gone++;
  above.held = NULL;
  lw_request_release(r);
}

static void on_idle(void *owner) {
  assert_ptr_equal(owner, &above);
  above.idle++;
}

static void open_server(void) {
  static const lw_server_events events = {on_head, on_complete, on_gone, NULL};
  const char *why = NULL;
  server = lw_server_open("127.0.0.1", 0, &limits, &events, &above, &why);
  if (!server) fail_msg("%s", why);
}

static int begin(void **state) {
  (void)state;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  memset(&above, 0, sizeof above);
  above.allowed = 1000000;
  limits = (lw_server_limits){
      .h1 = LW_H1_LIMITS_DEFAULT,
      .max_connections = 10,
      .header_timeout_ms = 60000,
      .body_timeout_ms = 60000,
      .idle_timeout_ms = 60000,
      .write_timeout_ms = 60000,
  };
  client.fd = -1;
  open_server();
  return 0;
}

static int end(void **state) {
  (void)state;
  if (client.fd >= 0) peer_close(&client, false);
  TURN_UNTIL(lw_server_connections(server) == 0);
  lw_server_stop(server, NULL);
  assert_int_equal(lw_request_count(), 0);
  assert_int_equal(lw_conn_count(), 0);
  lw_server_free(server);
  lw_loop_fini();
  lw_buf_drop_spares();
  return 0;
}

static void dial(void) { peer_open(&client, lw_server_port(server)); }

/* With other limits than the usual ones. */
static void reopen(void) {
  lw_server_stop(server, NULL);
  lw_server_free(server);
  open_server();
}

static void answer_held(const char *text) {
  lw_request *r = above.held;
  above.held = NULL;
  lw_response_send(r, 200, "text/plain", lw_span_of(text));
  lw_request_release(r);
}

static void expect_end(const char *after) {
  TURN_UNTIL(peer_ended(&client));
  if (!strstr(client.text, after)) fail_msg("%s is not in: %s", after, client.text);
  assert_false(client.reset);
}

static size_t count(const char *text, const char *part) {
  size_t n = 0;
  for (const char *p = text; (p = strstr(p, part)); p++) n++;
  return n;
}

/* -- requests -- */

static void one_request_one_answer(void **state) {
  (void)state;
  dial();
  peer_send(&client, POST("/a", "5", "hello"));
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/a"));
  assert_string_equal(above.seen, "POST /a hello;");
  assert_true(peer_has(&client, "HTTP/1.1 200 OK\r\n"));
  assert_true(peer_has(&client, "\r\nX-Request-Id: "));
}

static void a_connection_is_used_again(void **state) {
  (void)state;
  dial();
  for (int i = 0; i < 5; i++) {
    peer_clear(&client);
    peer_send(&client, i % 2 ? GET("/a") : POST("/b", "2", "xy"));
    TURN_UNTIL(peer_has(&client, i % 2 ? "\r\n\r\n/a" : "\r\n\r\n/b"));
  }
  assert_string_equal(above.seen, "POST /b xy;GET /a ;POST /b xy;GET /a ;POST /b xy;");
  assert_false(client.ended);
}

static void single_bytes_make_the_same_request(void **state) {
  (void)state;
  static const char text[] =
      "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
  dial();
  for (const char *p = text; *p; p++) {
    peer_send_bytes(&client, p, 1);
    turn_for(0);
  }
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/a"));
  assert_string_equal(above.seen, "POST /a abcde;");
  assert_int_equal(above.heads, 1);
}

static void pipelined_requests_are_answered_in_order(void **state) {
  (void)state;
  dial();
  peer_send(&client, GET("/hold") POST("/b", "3", "abc") GET("/c"));
  TURN_UNTIL(above.held);
  turn_for(20);
  assert_string_equal(above.seen, "GET /hold ;"); /* one at a time */
  assert_int_equal(above.heads, 1);
  answer_held("first");
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/c"));
  assert_string_equal(above.seen, "GET /hold ;POST /b abc;GET /c ;");
  const char *first = strstr(client.text, "first"), *second = strstr(client.text, "\r\n\r\n/b");
  assert_true(first && second && first < second);
}

/* More than is kept: the connection is paused, nothing is lost. */
static void much_that_comes_ahead_waits(void **state) {
  (void)state;
  enum {
    EACH = 4000,
    MANY = 60
  };
  char *one = lw_alloc(EACH + 1);
  int head =
      snprintf(one, EACH, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", EACH - 100);
  memset(one + head, 'x', EACH - 100);
  size_t size = (size_t)head + EACH - 100;
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held);
  size_t sent = 0, total = size * MANY;
  while (sent < total) {
    size_t at = sent % size;
    ssize_t n = send(client.fd, one + at, size - at, MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    turn_for(0);
    if (above.held && (n < 0 || sent > 150000)) answer_held("go on");
  }
  TURN_UNTIL(peer_read(&client, SIZE_MAX) && count(client.text, "\r\n\r\n/p") == MANY);
  assert_int_equal(above.heads, MANY + 1);
  free(one);
}

static void a_client_that_says_close_is_closed(void **state) {
  (void)state;
  dial();
  peer_send(&client, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" GET("/never"));
  expect_end("\r\nConnection: close\r\n");
  assert_true(peer_has(&client, "\r\n\r\n/a"));
  assert_false(client.reset);
  assert_string_equal(above.seen, "GET /a ;");
}

static void an_old_client_is_closed_unless_it_asks(void **state) {
  (void)state;
  dial();
  peer_send(&client, "GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/a"));
  peer_clear(&client);
  peer_send(&client, "GET /b HTTP/1.0\r\nHost: h\r\n\r\n");
  expect_end("\r\n\r\n/b");
}

static void a_body_is_asked_for(void **state) {
  (void)state;
  dial();
  peer_send(&client,
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  TURN_UNTIL(peer_has(&client, "HTTP/1.1 100 Continue\r\n\r\n"));
  assert_string_equal(above.seen, "");
  peer_send(&client, "ok");
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/a"));
  assert_string_equal(above.seen, "POST /a ok;");
}

/* -- refusals -- */

static void what_is_no_request_is_refused(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    dial();
    peer_send(&client, i ? GET("/a") "nonsense\r\n\r\n" : "nonsense\r\n\r\n");
    expect_end("HTTP/1.1 400 Bad Request\r\n");
    assert_true(peer_has(&client, "\r\nConnection: close\r\n"));
    assert_int_equal(above.heads, i);
    peer_close(&client, false);
  }
}

static void a_refusal_by_the_head_keeps_the_connection(void **state) {
  (void)state;
  dial();
  peer_send(&client, GET("/none"));
  TURN_UNTIL(peer_has(&client, "{\"error\":\"no such path\"}"));
  peer_send(&client, GET("/none") GET("/a"));
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/a"));
  assert_int_equal(count(client.text, "404 Not Found"), 2);
  assert_string_equal(above.seen, "GET /a ;");
}

/* An answer that leaves the connection in doubt says so. */
static void a_refusal_with_an_unread_body_says_close(void **state) {
  (void)state;
  dial();
  peer_send(&client, POST("/none", "5", "hello") GET("/never"));
  TURN_UNTIL(peer_has(&client, "{\"error\":\"no such path\"}"));
  turn_for(20);
  bool kept = count(client.text, "Connection: close") == 0;
  if (kept) {
    TURN_UNTIL(peer_has(&client, "\r\n\r\n/never"));
  } else {
    TURN_UNTIL(peer_ended(&client));
    assert_string_equal(above.seen, "");
  }
  assert_false(client.reset);
}

static void a_refusal_reaches_a_client_that_still_sends(void **state) {
  (void)state;
  char *much = lw_calloc(1, 300001);
  memset(much, 'x', 300000);
  dial();
  peer_send(&client, "POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n");
  peer_send_bytes(&client, much, 100000);
  TURN_UNTIL(peer_has(&client, "415 Unsupported Media Type"));
  send(client.fd, much, 200000, MSG_NOSIGNAL);
  TURN_UNTIL(peer_ended(&client));
  assert_false(client.reset);
  assert_true(peer_has(&client, "{\"error\":\"not so\"}"));
  assert_string_equal(above.seen, "");
  free(much);
}

static void a_body_over_the_limit_is_refused(void **state) {
  (void)state;
  above.allowed = 10;
  dial();
  peer_send(&client, POST("/a", "11", "12345678901"));
  expect_end("HTTP/1.1 413 ");
  assert_true(peer_has(&client, "\r\nConnection: close\r\n"));
  assert_string_equal(above.seen, "");
}

static void too_many_connections_are_refused(void **state) {
  (void)state;
  limits.max_connections = 2;
  reopen();
  peer first, second;
  peer_open(&first, lw_server_port(server));
  peer_open(&second, lw_server_port(server));
  TURN_UNTIL(lw_server_connections(server) == 2);
  dial();
  expect_end("HTTP/1.1 503 Service Unavailable\r\n");
  assert_true(peer_has(&client, "\r\nRetry-After: 1\r\n"));
  peer_send(&first, GET("/a"));
  TURN_UNTIL(peer_has(&first, "\r\n\r\n/a"));
  peer_close(&first, false);
  peer_close(&second, false);
}

/* -- deadlines -- */

static void an_idle_connection_is_closed(void **state) {
  (void)state;
  limits.idle_timeout_ms = 30;
  reopen();
  dial();
  peer_send(&client, GET("/a"));
  TURN_UNTIL(peer_has(&client, "\r\n\r\n/a"));
  size_t n = client.n;
  TURN_UNTIL(peer_ended(&client));
  assert_int_equal(client.n, n); /* silently */
}

static void a_client_that_says_nothing_is_closed(void **state) {
  (void)state;
  limits.header_timeout_ms = 30;
  reopen();
  dial();
  TURN_UNTIL(peer_ended(&client));
  assert_int_equal(client.n, 0);
}

/* Neither half a head nor empty lines keep a connection for ever. */
static void a_dripping_head_is_refused(void **state) {
  (void)state;
  static const char *const drips[] = {"GET / HTTP/1.1\r\nX-Endless: ", "\r\n"};
  limits.header_timeout_ms = 100;
  reopen();
  for (size_t i = 0; i < LW_ARRAY_SIZE(drips); i++) {
    dial();
    peer_send(&client, drips[i]);
    uint64_t begun = lw_now_ms();
    while (!peer_ended(&client) && lw_now_ms() - begun < 3000) {
      turn_for(10);
      if (!client.ended) send(client.fd, i ? "\r\n" : "x", i ? 2 : 1, MSG_NOSIGNAL);
    }
    if (!client.ended) fail_msg("still open after 3 s of %s", i ? "empty lines" : "one field");
    if (i == 0) assert_true(peer_has(&client, "HTTP/1.1 408 Request Timeout\r\n"));
    peer_close(&client, false);
  }
}

static void a_body_that_stops_is_refused(void **state) {
  (void)state;
  limits.body_timeout_ms = 50;
  reopen();
  dial();
  peer_send(&client, POST("/a", "10", "half"));
  expect_end("HTTP/1.1 408 Request Timeout\r\n");
  assert_string_equal(above.seen, "");
}

static void a_dripping_body_is_refused(void **state) {
  (void)state;
  limits.body_timeout_ms = 150;
  reopen();
  dial();
  peer_send(&client, POST("/a", "100000", "x"));
  uint64_t begun = lw_now_ms();
  while (!peer_ended(&client) && lw_now_ms() - begun < PATIENCE_MS) {
    turn_for(10);
    if (!client.ended) send(client.fd, "x", 1, MSG_NOSIGNAL);
  }
  assert_true(peer_has(&client, "HTTP/1.1 408 Request Timeout\r\n"));
}

static void no_deadline_runs_while_a_request_is_answered(void **state) {
  (void)state;
  limits.header_timeout_ms = limits.body_timeout_ms = limits.idle_timeout_ms = 30;
  reopen();
  dial();
  peer_send(&client, POST("/hold", "2", "ab"));
  TURN_UNTIL(above.held);
  turn_for(100);
  assert_non_null(above.held);
  answer_held("at last");
  TURN_UNTIL(peer_has(&client, "at last"));
}

/* The time between two requests begins when the answer is out. */
static void an_answer_under_way_is_not_idle(void **state) {
  (void)state;
  enum {
    MUCH = 8000000
  };
  limits.idle_timeout_ms = 100;
  reopen();
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held);
  char *much = lw_calloc(1, MUCH);
  lw_request *r = above.held;
  above.held = NULL;
  lw_response_send(r, 200, "text/plain", (lw_span){much, MUCH});
  lw_request_release(r);
  free(much);
  turn_for(400); /* the client is busy elsewhere */
  TURN_UNTIL(peer_ended(&client) || client.n > MUCH);
  assert_true(client.n > MUCH);
}

/* -- clients that leave -- */

static void leaving_while_answered_is_told(void **state) {
  (void)state;
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held);
  assert_int_equal(lw_request_count(), 1);
  peer_close(&client, false);
  TURN_UNTIL(above.gone == 1);
  TURN_UNTIL(lw_server_connections(server) == 0);
  assert_int_equal(lw_request_count(), 0);
}

static void leaving_behind_unread_bytes_is_told(void **state) {
  (void)state;
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held);
  enum {
    MUCH = 150000
  }; /* more than the server takes, less than the kernel keeps */
  char *much = lw_calloc(1, MUCH);
  memset(much, 'x', MUCH);
  for (size_t sent = 0; sent < MUCH;) {
    ssize_t n = send(client.fd, much + sent, MUCH - sent, MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    turn_for(1);
  }
  free(much);
  peer_close(&client, false);
  TURN_UNTIL(above.gone == 1);
}

static void leaving_mid_stream_is_told(void **state) {
  (void)state;
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held);
  lw_response_head(above.held, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(above.held, "one", 3);
  TURN_UNTIL(peer_has(&client, "one"));
  peer_close(&client, true);
  TURN_UNTIL(above.gone == 1);
}

static void leaving_before_the_end_of_a_request_is_not(void **state) {
  (void)state;
  static const char *const halves[] = {"", "GET /a HTT", POST("/a", "10", ""),
                                       POST("/a", "10", "half")};
  for (size_t i = 0; i < LW_ARRAY_SIZE(halves); i++) {
    dial();
    peer_send(&client, halves[i]);
    TURN_UNTIL(lw_server_connections(server) == 1);
    turn_for(5);
    peer_close(&client, i % 2);
    TURN_UNTIL(lw_server_connections(server) == 0);
  }
  assert_string_equal(above.seen, "");
  assert_int_equal(above.gone, 0);
}

static void a_cut_answer_never_looks_complete(void **state) {
  (void)state;
  for (int old = 0; old < 2; old++) {
    dial();
    peer_send(&client, old ? "GET /hold HTTP/1.0\r\nHost: h\r\n\r\n" : GET("/hold"));
    TURN_UNTIL(above.held);
    lw_request *r = above.held;
    above.held = NULL;
    lw_response_head(r, 200, LW_LENGTH_UNKNOWN);
    lw_response_body(r, "half", 4);
    TURN_UNTIL(peer_has(&client, "half"));
    lw_response_cut(r);
    turn_for(5);
    lw_request_release(r);
    TURN_UNTIL(peer_ended(&client));
    assert_false(peer_has(&client, "\r\n0\r\n\r\n"));
    assert_true(!old || client.reset);
    peer_close(&client, false);
  }
}

/* -- stopping -- */

static void stopping_lets_answers_end(void **state) {
  (void)state;
  peer idle, half;
  peer_open(&idle, lw_server_port(server));
  peer_open(&half, lw_server_port(server));
  peer_send(&half, "GET /a HTTP/1.1\r\nHo");
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held && lw_server_connections(server) == 3);
  turn_for(5);
  lw_server_stop(server, on_idle);
  TURN_UNTIL(peer_ended(&idle));
  assert_int_equal(idle.n, 0);
  assert_int_equal(above.idle, 0);
  peer_send(&half, "st: h\r\n\r\n");
  TURN_UNTIL(peer_ended(&half));
  assert_true(peer_has(&half, "\r\n\r\n/a"));
  assert_true(peer_has(&half, "\r\nConnection: close\r\n"));
  answer_held("the last");
  expect_end("the last");
  assert_true(peer_has(&client, "\r\nConnection: close\r\n"));
  peer_close(&client, false);
  peer_close(&half, false);
  peer_close(&idle, false);
  TURN_UNTIL(above.idle);
  assert_int_equal(above.idle, 1);
  assert_true(lw_server_is_idle(server));
}

static void cutting_ends_all(void **state) {
  (void)state;
  peer idle;
  peer_open(&idle, lw_server_port(server));
  dial();
  peer_send(&client, GET("/hold"));
  TURN_UNTIL(above.held && lw_server_connections(server) == 2);
  lw_server_stop(server, on_idle);
  lw_server_cut(server);
  TURN_UNTIL(above.idle == 1);
  assert_int_equal(above.gone, 1);
  TURN_UNTIL(peer_ended(&client) && peer_ended(&idle));
  peer_close(&idle, false);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(one_request_one_answer),
      TEST(a_connection_is_used_again),
      TEST(single_bytes_make_the_same_request),
      TEST(pipelined_requests_are_answered_in_order),
      TEST(much_that_comes_ahead_waits),
      TEST(a_client_that_says_close_is_closed),
      TEST(an_old_client_is_closed_unless_it_asks),
      TEST(a_body_is_asked_for),
      TEST(what_is_no_request_is_refused),
      TEST(a_refusal_by_the_head_keeps_the_connection),
      TEST(a_refusal_with_an_unread_body_says_close),
      TEST(a_refusal_reaches_a_client_that_still_sends),
      TEST(a_body_over_the_limit_is_refused),
      TEST(too_many_connections_are_refused),
      TEST(an_idle_connection_is_closed),
      TEST(a_client_that_says_nothing_is_closed),
      TEST(a_dripping_head_is_refused),
      TEST(a_body_that_stops_is_refused),
      TEST(a_dripping_body_is_refused),
      TEST(no_deadline_runs_while_a_request_is_answered),
      TEST(an_answer_under_way_is_not_idle),
      TEST(leaving_while_answered_is_told),
      TEST(leaving_behind_unread_bytes_is_told),
      TEST(leaving_mid_stream_is_told),
      TEST(leaving_before_the_end_of_a_request_is_not),
      TEST(a_cut_answer_never_looks_complete),
      TEST(stopping_lets_answers_end),
      TEST(cutting_ends_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

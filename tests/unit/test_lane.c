/* SPDX-License-Identifier: MIT
 * The short way for shots: which URLs take it, whose connections serve again and which do not, what
 * becomes of idle ones, and many at once. What is measured, and every framing: test_shot.c, over
 * this way and the other. */
#include "exchange/lane.h"

#include "calling.h"
#include "loop/dial.h"

/* -- addresses -- */

static void urls_that_take_it(void **state) {
  (void)state;
  const struct {
    const char *url, *host, *path;
    int port;
  } cases[] = {
      {"http://127.0.0.1:5001/generate?a=b", "127.0.0.1:5001", "/generate?a=b", 5001},
      {"HTTP://10.0.0.1", "10.0.0.1", "/", 80},
      {"http://[::1]:65535/x", "[::1]:65535", "/x", 65535},
      {"http://[fe80::1]/", "[fe80::1]", "/", 80},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    lw_lane_address a;
    assert_true(lw_lane_address_of(lw_span_of(cases[i].url), &a));
    assert_true(lw_span_eq(a.host, lw_span_of(cases[i].host)));
    assert_true(lw_span_eq(a.path, lw_span_of(cases[i].path)));
    bool v4 = a.to.any.sa_family == AF_INET;
    assert_int_equal(v4, cases[i].host[0] != '[');
    assert_int_equal(ntohs(v4 ? a.to.v4.sin_port : a.to.v6.sin6_port), cases[i].port);
  }
}

static void urls_that_do_not(void **state) {
  (void)state;
  const char *urls[] = {
      "",
      "http://",
      "http:///x",
      "https://127.0.0.1/",
      "unix:/a",
      "http://localhost/",
      "http://127.0.0.1:0/",
      "http://127.0.0.1:65536/",
      "http://127.0.0.1:/",
      "http://127.0.0.1:8x/",
      "http://me@127.0.0.1/",
      "http://127.0.0.1/a b",
      "http://127.0.0.1/a\r\nX: y",
      "http://127.0.0.1/a#b",
      "http://127.0.0.1?a",
      "http://127.1/",
      "http://0x7f.0.0.1/",
      "http://[::1",
      "http://[::1]x/",
      "http://::1/",
      "http://[fe80::1%25eth0]/",
      "http://[]/",
      "http://1234567890123456789012345678901234567890123456789012345678901234567890/",
      "http://127.0.0.1/\xc3\xa4",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(urls); i++) {
    lw_lane_address a;
    char *copy = lw_strdup(urls[i]); /* of its own size */
    if (lw_lane_address_of(lw_span_of(copy), &a)) fail_msg("%s", urls[i]);
    free(copy);
  }
}

/* -- calls, by upstreams with a sink -- */

typedef struct watched {
  lw_upstream_sink sink;
  lw_wake wake;
  lw_upstream *u;
  size_t n;
  int woken;
} watched;

static void pour(lw_upstream_sink *sink, lw_span bytes, uint64_t now_ns) {
  LW_CONTAINER_OF(sink, watched, sink)->n += bytes.n;
  assert_true(now_ns > 0);
}
static void on_woken(lw_wake *wake) {
  LW_CONTAINER_OF(wake, watched, wake)->woken++;
  lw_loop_stop();
}

static void fire(watched *w, const server *s, size_t body_n) {
  char url[100];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/x", s->port);
  *w = (watched){.sink.pour = pour};
  lw_wake_init(&w->wake, on_woken);
  w->u = lw_upstream_open(lw_span_of(body_n ? "POST" : "GET"), lw_span_of(url), &w->wake);
  lw_upstream_set_sink(w->u, &w->sink);
  if (body_n) {
    lw_body *b = body_of(body_n);
    lw_upstream_body(w->u, b, (lw_span){b->p, b->n});
    lw_body_unref(b);
  }
  lw_upstream_start(w->u);
}

static void close_watched(watched *w) {
  lw_upstream_close(w->u);
  lw_wake_cancel(&w->wake);
}

static lw_upstream_times await(watched *w, lw_code code) {
  while (lw_upstream_ending(w->u) == LW_AGAIN) turn();
  if (lw_upstream_ending(w->u) != code) fail_msg("%s", lw_upstream_error(w->u));
  lw_upstream_times times;
  lw_upstream_get_times(w->u, &times);
  return times;
}

static lw_upstream_times ask(const server *s) {
  watched w;
  fire(&w, s, 0);
  lw_upstream_times times = await(&w, LW_EOF);
  assert_int_equal(w.n, 2);
  close_watched(&w);
  return times;
}

static void requests_as_they_go_out(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  watched w;
  char expected[200];
  ask(&s);
  snprintf(expected, sizeof expected, "GET /x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", s.port);
  assert_string_equal(s.last, expected);
  fire(&w, &s, 5 << 20);
  await(&w, LW_EOF);
  close_watched(&w);
  snprintf(expected, sizeof expected,
           "POST /x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n", s.port, 5 << 20);
  assert_string_equal(s.last, expected);
  assert_int_equal(s.last_body, 5 << 20);
  ask(&s);
  assert_int_equal(s.connections, 1);
  assert_int_equal(lw_dial_count(), 1);
  stop(&s);
  assert_int_equal(lw_dial_count(), 0);
}

static void the_last_used_serves_first(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  watched w[3];
  for (int i = 0; i < 3; i++) fire(&w[i], &s, 0);
  for (int i = 0; i < 3; i++) assert_false(await(&w[i], LW_EOF).reused);
  for (int i = 0; i < 3; i++) close_watched(&w[i]);
  assert_int_equal(s.connections, 3);
  assert_true(ask(&s).reused);
  assert_int_equal(s.connections, 3);
  assert_int_equal(lw_dial_count(), 3);
  stop(&s);
}

static void idle_ones_age(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  lw_upstream_set_keepalive(0.1);
  ask(&s);
  assert_int_equal(lw_dial_count(), 1);
  while (lw_dial_count()) run_for(1);
  assert_false(ask(&s).reused);
  lw_upstream_set_keepalive(4);
  stop(&s);
}

/* What the server does behind its answer. */
static void what_spoils_a_connection(void **state) {
  (void)state;
  const struct {
    reply r;
    bool kept;
  } cases[] = {
      {{OK_2, KEEP, 0}, true},
      {{OK_2, CLOSE, 0}, false},
      {{OK_2, RESET, 0}, false},
      {{OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", KEEP, 0}, false},
      {{"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi", KEEP, 0}, false},
      {{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", KEEP, 0}, false},
      {{"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 2\r\n\r\nhi", KEEP, 0}, false},
      {{"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nhi\r\n0\r\n\r\n",
        KEEP, 0},
       true},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    const reply replies[] = {cases[i].r, {OK_2, KEEP, 0}};
    server s;
    start_server(&s, NULL, replies);
    ask(&s);
    if (!cases[i].kept) {
      while (lw_dial_count()) run_for(1); /* at once, or when its end has come */
    }
    lw_upstream_times times = ask(&s);
    assert_int_equal(times.reused, cases[i].kept);
    assert_false(times.retried);
    stop(&s);
  }
}

static void serve_late_speech(server *s, int fd) {
  for (int n = s->connections; read_request(s, fd); n = 0) {
    s->requests++;
    send_text(fd, OK_2);
    if (n != 1) continue;
    usleep(50000);
    send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  }
}

static void who_speaks_out_of_turn_is_left(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_late_speech, NULL);
  ask(&s);
  while (lw_dial_count()) run_for(1);
  assert_false(ask(&s).reused);
  stop(&s);
}

/* The loop has not seen it yet: nothing turns between. */
static void who_left_unseen_is_seen_before_use(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  ask(&s);
  usleep(200000);
  lw_upstream_times times = ask(&s);
  assert_true(!times.reused && !times.retried);
  assert_int_equal(s.requests, 2);
  stop(&s);
}

static void a_second_try_is_the_last(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {"", CLOSE, 0}, {"", CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  ask(&s);
  watched w;
  fire(&w, &s, 1000);
  lw_upstream_times times = await(&w, LW_CLOSED);
  assert_true(times.retried && !times.reused && times.connected);
  assert_int_equal(s.requests, 3);
  assert_int_equal(s.last_body, 1000);
  close_watched(&w);
  ask(&s);
  stop(&s);
}

/* It sits on the second request for a while. */
static void serve_and_leave_late(server *s, int fd) {
  for (int n = s->connections; read_request(s, fd); n = 0) {
    if (s->requests++ == 1) {
      usleep(300000);
      return;
    }
    send_text(fd, OK_2);
    if (n != 1) return;
  }
}

static void connecting_for_a_second_try_is_told_alone(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_and_leave_late, NULL);
  ask(&s);
  lw_upstream_times times = ask(&s);
  assert_true(times.retried && times.connect_s > 0);
  assert_true(times.connect_s < (double)(times.sent_ns - times.started_ns) / 1e9 - 0.29);
  stop(&s);
}

/* Without a line end one could wait for it for ever. */
static void who_speaks_something_else_is_told_at_once(void **state) {
  (void)state;
  const char *texts[] = {"\x15\x03\x01", "SSH-2.0-x", "HTTP/2", "h", " HTTP/1.1 200 OK"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(texts); i++) {
    const reply replies[] = {{texts[i], WAIT, 0}};
    server s;
    start_server(&s, NULL, replies);
    watched w;
    fire(&w, &s, 0);
    await(&w, LW_PROTOCOL);
    close_watched(&w);
    stop(&s);
  }
  const reply replies[] = {{"HTTP/1.1", CLOSE, 0}}; /* this might have become one */
  server s;
  start_server(&s, NULL, replies);
  watched w;
  fire(&w, &s, 0);
  await(&w, LW_CLOSED);
  close_watched(&w);
  stop(&s);
}

/* The answer is there before the request is: it counts, but the connection can't serve again. */
static void serve_hasty(server *s, int fd) {
  char scrap[1000];
  s->requests++;
  if (recv(fd, scrap, sizeof scrap, 0) > 0)
    send_text(fd, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
  usleep(300000);
}

static void an_answer_before_the_end_of_the_request(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_hasty, NULL);
  watched w;
  fire(&w, &s, 30 << 20);
  await(&w, LW_EOF);
  assert_int_equal(lw_upstream_status(w.u), 413);
  assert_int_equal(lw_dial_count(), 0);
  close_watched(&w);
  stop(&s);
}

static void many_at_once(void **state) {
  (void)state;
  enum {
    MANY = 60
  };
  static reply replies[4 * MANY];
  for (int i = 0; i < 4 * MANY; i++) replies[i] = (reply){OK_2, KEEP, 0};
  server s;
  start_server(&s, NULL, replies);
  for (int round = 0; round < 4; round++) {
    watched w[MANY];
    for (int i = 0; i < MANY; i++) fire(&w[i], &s, (size_t)i * 1000);
    for (int i = 0; i < MANY; i++) assert_int_equal(await(&w[i], LW_EOF).reused, round > 0);
    for (int i = 0; i < MANY; i++) close_watched(&w[i]);
  }
  assert_int_equal(s.connections, MANY);
  stop(&s);
}

static void closed_at_any_time(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {"HTTP/1.1 200 OK\r\n", WAIT, 0}, {"", WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  watched w;
  fire(&w, &s, 0); /* connecting */
  close_watched(&w);
  run_for(5);
  assert_int_equal(lw_dial_count(), 0);
  ask(&s);
  for (int i = 0; i < 2; i++) {
    fire(&w, &s, 10);
    while (s.requests < 2 + i) run_for(1);
    close_watched(&w);
    assert_int_equal(lw_dial_count(), 0);
    await_count(&s.drops, 1 + i);
  }
  stop(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(urls_that_take_it),
      cmocka_unit_test(urls_that_do_not),
      CASE(requests_as_they_go_out),
      CASE(the_last_used_serves_first),
      CASE(idle_ones_age),
      CASE(what_spoils_a_connection),
      CASE(who_speaks_out_of_turn_is_left),
      CASE(who_left_unseen_is_seen_before_use),
      CASE(a_second_try_is_the_last),
      CASE(connecting_for_a_second_try_is_told_alone),
      CASE(who_speaks_something_else_is_told_at_once),
      CASE(an_answer_before_the_end_of_the_request),
      CASE(many_at_once),
      CASE(closed_at_any_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

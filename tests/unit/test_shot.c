/* SPDX-License-Identifier: MIT
 * Shots at a server of this program: what is measured of good answers, how bad ones are named, and
 * that nothing is left of shots stopped at any time. */
#include "exchange/shot.h"

#include <math.h>

#include "calling.h"

typedef struct target {
  server s;
  lw_shot_plan *plan;
  lw_quantile *gaps;
  lw_list shots;
  lw_wake wake;
  int woken;
} target;

static target t;
static const char *host; /* its number takes the short way (exchange/lane), its name that of curl */

static void on_over(lw_wake *w) {
  (void)w;
  t.woken++;
  lw_loop_stop();
}

static void begin_with(void (*serve)(server *s, int fd), const reply *replies) {
  start_server(&t.s, serve, replies);
  t.plan = lw_shot_plan_new(LW_SPAN("POST"));
  t.gaps = lw_quantile_new();
  t.woken = 0;
  lw_shot_plan_note_gaps(t.plan, t.gaps);
  lw_list_init(&t.shots);
  lw_wake_init(&t.wake, on_over);
}

static void finish(void) {
  lw_shot_free_all(&t.shots);
  lw_wake_cancel(&t.wake);
  lw_shot_plan_free(t.plan);
  assert_int_equal(t.gaps->refs, 1);
  lw_quantile_unref(t.gaps);
  stop(&t.s);
}

static lw_shot *fire_at(const char *url) {
  return lw_shot_fire(t.plan, &t.shots, &t.wake, lw_span_of(url), NULL);
}

static lw_shot *fire(void) {
  char url[100];
  snprintf(url, sizeof url, "http://%s:%d/x", host, t.s.port);
  return fire_at(url);
}

/* What the shot has received, for the server's thread. */
static atomic_size_t taken;

static const lw_shot_result *await_shot(lw_shot *s) {
  while (lw_shot_wait(s) == LW_AGAIN) {
    run_for(1);
    taken = (size_t)lw_shot_look(s)->bytes;
  }
  return lw_shot_look(s);
}

static const lw_shot_result *expect(lw_shot *s, lw_shot_outcome outcome, const char *error) {
  const lw_shot_result *r = await_shot(s);
  if (r->outcome != (int)outcome || !strstr(lw_shot_error(s), error)) {
    fail_msg("outcome %d, \"%s\"", r->outcome, lw_shot_error(s));
  }
  if (outcome == LW_SHOT_OK) assert_string_equal(lw_shot_error(s), "");
  assert_true(r->started > 0 && r->ended >= r->started);
  return r;
}

static void expect_tail(lw_shot *s, const char *text) {
  lw_span tail = lw_shot_tail(s);
  assert_int_equal(tail.n, strlen(text));
  assert_memory_equal(tail.p, text, tail.n);
}

/* -- whole answers -- */

static void a_whole_answer(void **state) {
  (void)state;
  const reply replies[] = {
      {"HTTP/1.1 429 Slow\r\nretry-after: 7\r\nContent-Length: 5\r\n\r\nhello", KEEP, 0},
      {OK_2, KEEP, 0},
  };
  begin_with(NULL, replies);
  assert_int_equal(lw_shot_plan_header(t.plan, LW_SPAN("X-A"), LW_SPAN("1")), LW_OK);
  assert_int_equal(lw_shot_plan_header(t.plan, LW_SPAN("X A"), LW_SPAN("1")), LW_PROTOCOL);
  assert_int_equal(lw_shot_plan_header(t.plan, LW_SPAN("X-B"), LW_SPAN("1\r\n")), LW_PROTOCOL);
  for (int i = 0; i < 2; i++) {
    lw_shot *s = fire();
    const lw_shot_result *r = expect(s, LW_SHOT_OK, "");
    assert_true(r->sent >= r->started && r->head >= r->sent && r->first >= r->head);
    assert_true(r->last >= r->first && r->ended >= r->last);
    assert_int_equal(r->status, i == 0 ? 429 : 200);
    assert_int_equal(r->kind, LW_SHOT_WHOLE);
    assert_true(r->events == 1 && r->gaps == 0 && r->max_gap_s == 0);
    assert_true(r->bytes == (i == 0 ? 5 : 2));
    expect_tail(s, i == 0 ? "hello" : "hi");
    lw_span value;
    assert_int_equal(lw_shot_get_header(s, LW_SPAN("Retry-After"), &value), i == 0);
    assert_int_equal(value.n, i == 0);
    assert_int_equal(r->reused, i);
    assert_false(r->retried);
    assert_int_equal(r->connect_s > 0, i == 0);
    assert_true(r->tls_s == 0 && (i == 0 || r->dns_s == 0));
    assert_non_null(strstr(t.s.last, "POST /x HTTP/1.1\r\n"));
    assert_non_null(strstr(t.s.last, "X-A: 1\r\n"));
    assert_null(strstr(t.s.last, "X-B"));
    assert_int_equal(t.woken, i + 1); /* once, at the end */
    lw_shot_free(s);
  }
  finish();
}

static void an_empty_answer_has_no_event(void **state) {
  (void)state;
  const reply replies[] = {{"HTTP/1.1 204 No\r\n\r\n", KEEP, 0}};
  begin_with(NULL, replies);
  lw_shot *s = fire();
  const lw_shot_result *r = expect(s, LW_SHOT_OK, "");
  assert_true(r->head > 0 && r->first == 0 && r->last == 0 && r->events == 0 && r->bytes == 0);
  expect_tail(s, "");
  finish();
}

static void a_body_is_shared(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  begin_with(NULL, replies);
  char url[100];
  snprintf(url, sizeof url, "http://%s:%d/", host, t.s.port);
  lw_body *body = body_of(300000);
  for (int i = 0; i < 3; i++) {
    lw_shot *s = lw_shot_fire(t.plan, &t.shots, &t.wake, lw_span_of(url), body);
    assert_int_equal(body->refs, 2);
    expect(s, LW_SHOT_OK, "");
    assert_int_equal(body->refs, 1);
    assert_int_equal(t.s.last_body, 300000);
  }
  lw_body_unref(body);
  finish();
}

static void serve_long(server *s, int fd) {
  char text[30000];
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i % 23);
  static const int pieces[] = {1, 1000, 23, 5000, 12000, 11976};
  for (int n = 0; read_request(s, fd); n++) {
    size_t size = n == 0 ? 16384 : n == 1 ? 16385 : sizeof text;
    char head[100];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    if (!send_text(fd, head)) return;
    for (size_t i = 0, at = 0; at < size; i++) {
      size_t piece = LW_MIN((size_t)pieces[i], size - at);
      usleep(3000);
      if (!send_bytes(fd, text + at, piece)) return;
      at += piece;
    }
  }
}

static void the_end_of_a_long_body_is_kept(void **state) {
  (void)state;
  begin_with(serve_long, NULL);
  for (int n = 0; n < 3; n++) {
    size_t size = n == 0 ? 16384 : n == 1 ? 16385 : 30000;
    lw_shot *s = fire();
    while (lw_shot_wait(s) == LW_AGAIN) { /* looking at it on the way changes nothing */
      run_for(1);
      lw_span so_far = lw_shot_tail(s);
      assert_true(so_far.n <= 16384);
    }
    assert_true(lw_shot_look(s)->bytes == (double)size);
    lw_span tail = lw_shot_tail(s);
    assert_int_equal(tail.n, 16384);
    for (size_t i = 0; i < tail.n; i++) {
      assert_int_equal(tail.p[i], 'a' + (size - tail.n + i) % 23);
    }
    lw_shot_free(s);
  }
  finish();
}

/* -- streams: the text is cut at every `|`, where the server waits until all has been taken, and
 * then a little: so no gap is shorter than that, however late both are -- */

static const char *story, *story_type;
enum {
  BREATH_MS = 20
};

static void serve_story(server *s, int fd) {
  if (!read_request(s, fd)) return;
  char head[200];
  snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s\r\nTransfer-Encoding: chunked\r\n\r\n",
           story_type);
  if (!send_text(fd, head)) return;
  size_t sent = 0;
  for (const char *p = story, *end; *p; p = *end ? end + 1 : end) {
    end = strchrnul(p, '|');
    char size[20];
    for (int i = 0; taken < sent && i < PATIENCE_MS; i++) usleep(1000);
    usleep(BREATH_MS * 1000);
    sent += (size_t)(end - p);
    snprintf(size, sizeof size, "%x\r\n", (unsigned)(end - p));
    if (!send_text(fd, size) || !send_bytes(fd, p, (size_t)(end - p)) || !send_text(fd, "\r\n")) {
      return;
    }
  }
  send_text(fd, "0\r\n\r\n");
}

static const lw_shot_result *play(const char *type, const char *text, bool expected) {
  static lw_shot_result kept;
  story = text;
  story_type = type;
  taken = 0;
  begin_with(serve_story, NULL);
  if (expected) lw_shot_plan_expect_stream(t.plan);
  kept = *expect(fire(), LW_SHOT_OK, "");
  assert_int_equal(t.woken, 1);
  assert_int_equal(t.gaps->count, kept.gaps);
  assert_true(fabs((double)t.gaps->max_ns / 1e9 - kept.max_gap_s) < 1e-6 || kept.gaps == 0);
  return &kept;
}

static void events_over_pieces(void **state) {
  (void)state;
  const lw_shot_result *r =
      play("Content-Type: text/event-stream; charset=utf-8",
           "data: 1\n\n|data: 2\n|\nda|ta: 3\r\n\r\n|: ping\n\n|data: [DONE]\n\n", false);
  assert_int_equal(r->kind, LW_SHOT_SSE);
  assert_true(r->events == 3 && r->gaps == 2);
  /* the second event ends two pieces after the first, the third one later */
  assert_true(t.gaps->sum_ns >= 3 * BREATH_MS * 1e6 * 0.9);
  assert_true(r->max_gap_s >= 2 * BREATH_MS / 1e3 * 0.9);
  assert_true(r->last - r->first >= 5 * BREATH_MS / 1e3 * 0.9);
  finish();
}

static void events_that_come_together(void **state) {
  (void)state;
  const lw_shot_result *r = play("content-type: text/event-stream",
                                 "data: 1\n\ndata: 2\n\n|data: 3\n\ndata: 4\n\ndata: 5\n\n", false);
  assert_true(r->events == 5 && r->gaps == 4);
  assert_int_equal(t.gaps->counts[0], 3); /* one real gap; the others had none */
  assert_true(t.gaps->sum_ns >= BREATH_MS * 1e6 * 0.9);
  finish();
}

static void an_end_without_its_blank_line(void **state) {
  (void)state;
  const lw_shot_result *r = play("Content-Type: text/event-stream", "data: 1\n\n|data: 2", false);
  assert_true(r->events == 2 && r->gaps == 1);
  finish();
}

static void lines_of_json(void **state) {
  (void)state;
  const lw_shot_result *r =
      play("Content-Type: application/x-ndjson", "{\"a\":|1}\n|{}\n\n{}", false);
  assert_int_equal(r->kind, LW_SHOT_LINES);
  assert_true(r->events == 3 && r->gaps == 2);
  finish();
}

static void pieces_when_nothing_else_is_known(void **state) {
  (void)state;
  const lw_shot_result *r = play("Content-Type: text/plain", "one |two |three", true);
  assert_int_equal(r->kind, LW_SHOT_PIECES);
  assert_true(r->events == 3 && r->gaps == 2);
  finish();
  r = play("Content-Type: text/plain", "one |two |three", false);
  assert_int_equal(r->kind, LW_SHOT_WHOLE);
  assert_true(r->events == 1 && r->gaps == 0 && r->last - r->first >= BREATH_MS / 1e3);
  finish();
  r = play("Content-Type: application/json; charset=utf-8", "{\"a\":|1}", true);
  assert_int_equal(r->kind, LW_SHOT_WHOLE);
  assert_true(r->events == 1);
  finish();
  r = play("X-Nothing: said", "a|b", true);
  assert_int_equal(r->kind, LW_SHOT_PIECES);
  finish();
}

/* -- what goes wrong -- */

static void no_connection(void **state) {
  (void)state;
  begin_with(NULL, NULL);
  int port, fillers[4], closed = listen_somewhere(1, &port);
  close(closed);
  char url[100];
  snprintf(url, sizeof url, "http://%s:%d/", host, port);
  const lw_shot_result *r = expect(fire_at(url), LW_SHOT_CONNECT, "refused the connection");
  assert_true(r->sent == 0 && r->head == 0 && r->status == 0 && r->connect_s == 0);
  expect(fire_at("ftp://127.0.0.1/"), LW_SHOT_CONNECT, "can't be called");
  expect(fire_at(""), LW_SHOT_CONNECT, "can't be called");
  expect(fire_at("http://no-such-host.invalid/"), LW_SHOT_CONNECT, "can't be resolved");
  int listener = listen_full(&port, fillers);
  snprintf(url, sizeof url, "http://%s:%d/", host, port);
  lw_shot_plan_set_timeouts(t.plan, &(lw_upstream_timeouts){.connect_ms = 60});
  expect(fire_at(url), LW_SHOT_CONNECT, "did not connect within 60 ms");
  lw_shot_plan_set_timeouts(t.plan, &(lw_upstream_timeouts){.total_ms = 60});
  expect(fire_at(url), LW_SHOT_CONNECT, "did not connect within 60 ms");
  close(listener);
  for (int i = 0; i < 4; i++) close(fillers[i]);
  finish();
}

static void serve_no_tls(server *s, int fd) {
  char scrap[100];
  (void)s;
  if (recv(fd, scrap, sizeof scrap, 0) > 0) send_text(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
}

static void serve_silence(server *s, int fd) {
  (void)s;
  char scrap[1000];
  while (recv(fd, scrap, sizeof scrap, 0) > 0) continue;
}

static void no_handshake(void **state) {
  (void)state;
  char url[100];
  begin_with(serve_no_tls, NULL);
  snprintf(url, sizeof url, "https://127.0.0.1:%d/", t.s.port);
  const lw_shot_result *r = expect(fire_at(url), LW_SHOT_TLS, "");
  assert_true(r->sent == 0 && r->tls_s == 0);
  finish();
  begin_with(serve_silence, NULL);
  snprintf(url, sizeof url, "https://127.0.0.1:%d/", t.s.port);
  lw_shot_plan_set_timeouts(t.plan, &(lw_upstream_timeouts){.total_ms = 150});
  expect(fire_at(url), LW_SHOT_TLS, "");
  finish();
}

static void too_late(void **state) {
  (void)state;
  const reply replies[] = {
      {"", WAIT, 0},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", WAIT, 0},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", WAIT, 0},
  };
  begin_with(NULL, replies);
  lw_shot_plan_set_timeouts(t.plan, &(lw_upstream_timeouts){.first_byte_ms = 60});
  const lw_shot_result *r = expect(fire(), LW_SHOT_TIMEOUT, "");
  assert_true(r->sent > 0 && r->head == 0 && r->ended - r->started >= 0.06);
  lw_shot_plan_set_timeouts(t.plan, &(lw_upstream_timeouts){.idle_ms = 60});
  lw_shot *s = fire();
  r = expect(s, LW_SHOT_TIMEOUT, "");
  assert_true(r->status == 200 && r->bytes == 4 && r->events == 1);
  expect_tail(s, "half");
  lw_shot_plan_set_timeouts(t.plan, &(lw_upstream_timeouts){.total_ms = 60});
  expect(fire(), LW_SHOT_TIMEOUT, "");
  finish();
}

static void broken_off(void **state) {
  (void)state;
  const reply replies[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", CLOSE, 0},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", RESET, 0},
      {"", CLOSE, 0},
      {"HTTP/1.1 200 OK\r\nContent-Le", CLOSE, 0},
      {"what is this\r\n\r\n", CLOSE, 0},
  };
  begin_with(NULL, replies);
  for (int i = 0; i < 2; i++) {
    lw_shot *s = fire();
    const lw_shot_result *r = expect(s, LW_SHOT_BROKEN, "");
    assert_true(r->status == 200 && r->head > 0 && r->first > 0 && r->bytes == 4);
    expect_tail(s, "half");
  }
  assert_true(expect(fire(), LW_SHOT_BROKEN, "")->head == 0);
  expect(fire(), LW_SHOT_BROKEN, "");
  expect(fire(), LW_SHOT_PROTOCOL, "");
  finish();
}

static void a_second_try_is_told(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {"", CLOSE, 0}, {OK_2, KEEP, 0}};
  begin_with(NULL, replies);
  assert_false(expect(fire(), LW_SHOT_OK, "")->retried);
  const lw_shot_result *r = expect(fire(), LW_SHOT_OK, "");
  assert_true(r->retried && !r->reused && r->connect_s > 0);
  assert_int_equal(t.s.requests, 3);
  finish();
}

/* -- being stopped -- */

static void stopped_at_any_time(void **state) {
  (void)state;
  const char *texts[] = {NULL, "", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(texts); i++) {
    const reply replies[] = {{texts[i], WAIT, 0}, {texts[i], WAIT, 0}, {texts[i], WAIT, 0}};
    begin_with(NULL, replies);
    lw_shot *shots[3];
    for (int j = 0; j < 3; j++) shots[j] = fire();
    if (i > 0) {
      while (t.s.requests < 3) run_for(1);
      while (i == 2 && lw_shot_look(shots[2])->bytes == 0) run_for(1);
    }
    assert_int_equal(lw_shot_wait(shots[0]), LW_AGAIN);
    lw_shot_free(shots[0]);
    assert_int_equal(lw_upstream_open_count(), 2);
    lw_shot_cancel(shots[1]);
    lw_shot_cancel_all(&t.shots);
    assert_int_equal(lw_upstream_open_count(), 0);
    const lw_shot_result *r = lw_shot_look(shots[2]);
    assert_int_equal(lw_shot_wait(shots[2]), LW_OK);
    assert_int_equal(r->outcome, LW_SHOT_CANCELLED);
    assert_true(r->ended > r->started);
    assert_string_equal(lw_shot_error(shots[2]), "it was cancelled");
    if (i == 2) assert_true(r->bytes == 4 && r->status == 200);
    if (i == 2) expect_tail(shots[2], "half");
    lw_span value;
    assert_false(lw_shot_get_header(shots[2], LW_SPAN("Content-Length"), &value));
    finish();
  }
}

static void stopping_what_is_over_changes_nothing(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}};
  begin_with(NULL, replies);
  lw_shot *s = fire();
  await_shot(s);
  lw_shot_cancel(s);
  expect(s, LW_SHOT_OK, "");
  finish();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(a_whole_answer),
      CASE(an_empty_answer_has_no_event),
      CASE(a_body_is_shared),
      CASE(the_end_of_a_long_body_is_kept),
      CASE(events_over_pieces),
      CASE(events_that_come_together),
      CASE(an_end_without_its_blank_line),
      CASE(lines_of_json),
      CASE(pieces_when_nothing_else_is_known),
      CASE(no_connection),
      CASE(no_handshake),
      CASE(too_late),
      CASE(broken_off),
      CASE(a_second_try_is_told),
      CASE(stopped_at_any_time),
      CASE(stopping_what_is_over_changes_nothing),
  };
  host = "127.0.0.1";
  int failed = cmocka_run_group_tests_name("by the lane", tests, NULL, NULL);
  host = "localhost";
  return failed + cmocka_run_group_tests_name("by curl", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * What a call sends, when it is tried again, when it is given up, and what is made of every kind of
 * answer, good and bad. */
#include "calling.h"

/* -- what is sent -- */

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

/* -- trying again -- */

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
      {"GET", "localhost:1/x", "model localhost:1 can't be called: not an http, https or unix URL"},
      {"GET", "ftp://a:b@c/x", "model ftp://c can't be called: not an http, https or unix URL"},
      {"GET", "", "model  can't be called: not an http, https or unix URL"},
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

static void test_idle_deadline_moves(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_trickle, NULL);
  expect_late(&s, &(lw_upstream_timeouts){.idle_ms = 600, .total_ms = 1500},
              "did not finish its answer within 1.5 s");
  stop(&s);
}

static void serve_soon(server *s, int fd) {
  if (!read_request(s, fd)) return;
  s->requests++;
  usleep(100000);
  send_text(fd, OK_2);
}

/* If it was the loop that was late, an answer that came in time is taken. */
static void test_late_loop(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_soon, NULL);
  call c;
  open_call(&c, &s, "GET", "/");
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){.first_byte_ms = 1000});
  lw_upstream_start(c.u);
  while (s.requests == 0) run_for(1);
  usleep(1200000);
  assert_int_equal(await_end(&c), LW_EOF);
  close_call(&c);
  stop(&s);
}

static void test_connect_timeout(void **state) {
  (void)state;
  server s = {0};
  int fillers[4];
  int listener = listen_full(&s.port, fillers);
  expect_late(&s, &(lw_upstream_timeouts){.connect_ms = 100, .first_byte_ms = 60000},
              "did not connect within 100 ms");
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

/* -- bodies -- */

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

static void serve_head_first(server *s, int fd) {
  send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
  while (s->replies == NULL) usleep(1000);
  if (read_request(s, fd)) send_text(fd, "0\r\n\r\n");
}

/* An answer that begins before the request was read: its body is held as long as it is sent. */
static void test_body_is_held(void **state) {
  (void)state;
  enum {
    SIZE = 16 << 20
  };
  server s;
  start_server(&s, serve_head_first, NULL);
  lw_body *b = body_of(SIZE);
  call c;
  open_call(&c, &s, "POST", "/");
  lw_upstream_body(c.u, b, (lw_span){b->p, b->n});
  lw_upstream_start(c.u);
  while (c.got.size == 0) turn();
  assert_int_equal(b->refs, 2);
  static const reply go = {NULL, KEEP, 0};
  s.replies = &go;
  assert_int_equal(await_end(&c), LW_EOF);
  assert_int_equal(b->refs, 1);
  assert_int_equal(s.last_body, SIZE);
  assert_int_equal(s.last_byte, b->p[SIZE - 1]);
  close_call(&c);
  lw_body_unref(b);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(test_fields),
      CASE(test_methods),
      CASE(test_retry),
      CASE(test_retry_is_fresh),
      CASE(test_retry_once),
      CASE(test_no_retry_when_fresh),
      CASE(test_refused),
      CASE(test_bad_urls),
      CASE(test_first_byte_timeout),
      CASE(test_idle_timeout),
      CASE(test_total_timeout),
      CASE(test_connect_timeout),
      CASE(test_idle_deadline_moves),
      CASE(test_late_loop),
      CASE(test_bad_answers),
      CASE(test_head_limits),
      CASE(test_good_answers),
      CASE(test_answer_before_request_ends),
      CASE(test_body_is_let_go),
      CASE(test_body_is_held),
      CASE(test_unresolvable),
  };
  return cmocka_run_group_tests_name("upstream", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * The pump between a model's answer and a client's. Both ends are fakes of this file: an upstream
 * that holds what the test puts there, and a connection that is a buffer. */
#include "exchange/pipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "turn.h"

/* -- the model's side -- */

struct lw_upstream {
  lw_code head, ending;
  int status;
  bool has_length;
  uint64_t length;
  lw_headers headers;
  lw_buf in;
  int consumed;
};
static lw_upstream model;

lw_code lw_upstream_head(const lw_upstream *u) { return u->head; }
int lw_upstream_status(const lw_upstream *u) { return u->status; }
const lw_headers *lw_upstream_headers(const lw_upstream *u) { return &u->headers; }
lw_buf *lw_upstream_buf(lw_upstream *u) { return &u->in; }
void lw_upstream_consumed(lw_upstream *u) { u->consumed++; }
lw_code lw_upstream_ending(const lw_upstream *u) { return u->ending; }
bool lw_upstream_length(const lw_upstream *u, uint64_t *length) {
  if (u->has_length) *length = u->length;
  return u->has_length;
}

/* -- the client's side -- */

typedef struct lw_client {
  lw_buf out;
} lw_client;
lw_buf *lw_client_out(lw_client *c) { return &c->out; }
void lw_client_flush(lw_client *c) { (void)c; }

static lw_client client;
static lw_request request;
static lw_h1_parser *parser;
static char answer[65536];

static const char *taken(void) { /* all that the client has got so far */
  size_t n = strlen(answer);
  while (client.out.size) {
    lw_span s = lw_buf_peek(&client.out);
    assert_true(n + s.n < sizeof answer);
    memcpy(answer + n, s.p, s.n);
    n += s.n;
    lw_buf_consume(&client.out, s.n);
  }
  answer[n] = 0;
  return answer;
}
static const char *body(void) {
  const char *p = strstr(taken(), "\r\n\r\n");
  return p ? p + 4 : "";
}

/* -- between them -- */

static lw_pipe between;
static int done;
static lw_code result;

static void on_done(lw_pipe *p, lw_code code) {
  assert_ptr_equal(p, &between);
  assert_true(p->stopped);
  done++;
  result = code;
}

static void arrive(const char *head) {
  lw_h1_limits limits = LW_H1_LIMITS_DEFAULT;
  if (parser) lw_h1_free(parser);
  parser = lw_h1_new(&limits);
  assert_int_equal(lw_h1_feed(parser, head, strlen(head)), strlen(head));
  request.head = lw_h1_head_of(parser);
  request.keep_alive = true;
}

static int begin(void **state) {
  (void)state;
  lw_loop_init();
  model = (lw_upstream){.head = LW_AGAIN, .ending = LW_AGAIN, .status = 200};
  lw_headers_init(&model.headers);
  lw_buf_init(&model.in, 100, 1000, 0);
  lw_buf_init(&client.out, 50, 200, 0);
  lw_request_init(&request, &client);
  arrive("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
  lw_request_move(&request, LW_REQUEST_HEAD);
  lw_request_move(&request, LW_REQUEST_WAITING);
  answer[0] = 0;
  done = 0;
  lw_pipe_init(&between, on_done);
  assert_true(between.stopped);
  lw_pipe_start(&between, &model, &request);
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_pipe_stop(&between);
  lw_headers_fini(&model.headers);
  lw_buf_fini(&model.in);
  lw_buf_fini(&client.out);
  lw_headers_fini(&request.answer);
  lw_h1_free(parser);
  parser = NULL;
  lw_loop_fini();
  lw_buf_drop_spares();
  return 0;
}

static void wake(void) {
  lw_loop_wake(&between.wake);
  turn_for(0);
}
static void field(const char *name, const char *value) {
  lw_headers_add(&model.headers, lw_span_of(name), lw_span_of(value));
}
static void comes(const char *text) {
  model.head = LW_OK;
  lw_buf_add(&model.in, text, strlen(text));
  wake();
}

/* -- good answers -- */

static void nothing_is_sent_before_the_head(void **state) {
  (void)state;
  wake();
  assert_int_equal(client.out.size, 0);
  assert_false(between.head_sent);
  assert_int_equal(request.state, LW_REQUEST_WAITING);
  assert_int_equal(done, 0);
}

static void a_stream_passes_as_it_comes(void **state) {
  (void)state;
  field("Content-Type", "text/event-stream");
  comes("");
  assert_non_null(strstr(taken(), "HTTP/1.1 200 OK\r\n")); /* the head does not wait for bytes */
  assert_true(between.head_sent);
  comes("one");
  assert_string_equal(body(), "3\r\none\r\n");
  comes("two!");
  assert_string_equal(body(), "3\r\none\r\n4\r\ntwo!\r\n");
  assert_int_equal(model.consumed, 2);
  assert_int_equal(done, 0);
  model.ending = LW_EOF;
  wake();
  assert_string_equal(body(), "3\r\none\r\n4\r\ntwo!\r\n0\r\n\r\n");
  assert_int_equal(done, 1);
  assert_int_equal(result, LW_OK);
  assert_int_equal(request.state, LW_REQUEST_ENDED);
  assert_null(request.writer);
  wake();
  assert_int_equal(done, 1);
}

static void a_known_length_is_kept(void **state) {
  (void)state;
  model.has_length = true;
  model.length = 5;
  model.status = 404;
  model.ending = LW_EOF;
  comes("hello");
  assert_non_null(strstr(taken(), "HTTP/1.1 404 Not Found\r\n"));
  assert_non_null(strstr(answer, "\r\nContent-Length: 5\r\n"));
  assert_string_equal(body(), "hello");
  assert_int_equal(result, LW_OK);
}

static void an_answer_without_body(void **state) {
  (void)state;
  model.status = 204;
  model.ending = LW_EOF;
  comes("");
  assert_string_equal(body(), "");
  assert_int_equal(done, 1);
  assert_int_equal(request.state, LW_REQUEST_ENDED);
}

static void only_end_to_end_fields_pass(void **state) {
  (void)state;
  strcpy(request.id, "ours");
  field("X-Kept", "yes");
  field("Set-Cookie", "a=1");
  field("Set-Cookie", "b=2");
  field("Connection", "X-Named, close");
  field("X-Named", "no");
  field("Keep-Alive", "timeout=5");
  field("Transfer-Encoding", "chunked");
  field("Upgrade", "h2c");
  field("Content-Length", "77");
  field("x-request-id", "theirs");
  comes("x");
  taken();
  assert_non_null(strstr(answer, "\r\nX-Kept: yes\r\n"));
  assert_non_null(strstr(answer, "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"));
  assert_non_null(strstr(answer, "\r\nX-Request-Id: ours\r\n"));
  static const char *const dropped[] = {"X-Named", "Keep-Alive", "Upgrade",
                                        "77",      "theirs",     "close"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(dropped); i++) assert_null(strstr(answer, dropped[i]));
}

/* -- backpressure -- */

static void it_stops_taking_while_the_client_is_full(void **state) {
  (void)state;
  char much[301];
  memset(much, 'x', 300);
  much[300] = 0;
  comes(much);
  assert_int_equal(model.in.size, 0);
  assert_true(lw_response_is_full(&request));
  comes(much);
  comes(much);
  assert_int_equal(model.in.size, 600);
  assert_int_equal(model.consumed, 1);
  model.ending = LW_EOF;
  wake();
  assert_int_equal(done, 0); /* its end waits behind the bytes */
  taken();
  assert_ptr_equal(request.writer, &between.wake);
  wake(); /* as the connection does when there is room */
  assert_int_equal(model.in.size, 0);
  assert_int_equal(model.consumed, 2);
  assert_int_equal(done, 1);
  assert_int_equal(request.bytes_out, 900);
}

static void bytes_before_a_breakdown_are_delivered(void **state) {
  (void)state;
  char much[301];
  memset(much, 'x', 300);
  much[300] = 0;
  comes(much);
  comes("the last");
  model.ending = LW_CLOSED;
  wake();
  assert_int_equal(done, 0);
  taken();
  wake();
  assert_non_null(strstr(taken(), "the last"));
  assert_null(strstr(answer, "\r\n0\r\n\r\n"));
  assert_int_equal(result, LW_CLOSED);
  assert_int_equal(request.state, LW_REQUEST_CUT);
}

/* -- bad ones -- */

static void a_failure_before_the_head_is_the_owners(void **state) {
  (void)state;
  static const lw_code codes[] = {LW_IO, LW_CLOSED, LW_TIMEOUT, LW_PROTOCOL};
  for (size_t i = 0; i < LW_ARRAY_SIZE(codes); i++) {
    model.head = codes[i];
    lw_pipe_start(&between, &model, &request);
    turn_for(0);
    assert_int_equal(done, i + 1);
    assert_int_equal(result, codes[i]);
    assert_false(between.head_sent);
    assert_int_equal(request.state, LW_REQUEST_WAITING);
    assert_int_equal(client.out.size, 0);
  }
}

static void a_failure_after_the_head_cuts(void **state) {
  (void)state;
  comes("half");
  model.ending = LW_TIMEOUT;
  wake();
  assert_int_equal(done, 1);
  assert_int_equal(result, LW_TIMEOUT);
  assert_int_equal(request.state, LW_REQUEST_CUT);
  assert_string_equal(body(), "4\r\nhalf\r\n");
}

/* Whoever was told that the client left stops the pipe, or lets the model end its answer. */
static void after_the_client_left_bytes_are_dropped(void **state) {
  (void)state;
  comes("half");
  taken();
  lw_request_move(&request, LW_REQUEST_GONE);
  comes("more");
  assert_int_equal(model.in.size, 0);
  assert_int_equal(model.consumed, 2);
  assert_int_equal(done, 0);
  model.ending = LW_EOF;
  comes("the end");
  assert_int_equal(model.in.size, 0);
  assert_int_equal(done, 1);
  assert_int_equal(result, LW_OK);
  assert_string_equal(body(), "4\r\nhalf\r\n");
  assert_null(request.writer);
}

static void stopped_is_silent(void **state) {
  (void)state;
  model.head = LW_OK;
  model.ending = LW_EOF;
  lw_loop_wake(&between.wake);
  lw_pipe_stop(&between);
  turn_for(1);
  assert_int_equal(done, 0);
  assert_int_equal(client.out.size, 0);
  lw_pipe_stop(&between);
}

static void a_head_request_gets_the_length_without_bytes(void **state) {
  (void)state;
  arrive("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
  model.has_length = true;
  model.length = 500;
  model.ending = LW_EOF;
  comes("");
  assert_non_null(strstr(taken(), "\r\nContent-Length: 500\r\n"));
  assert_string_equal(body(), "");
  assert_int_equal(result, LW_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(nothing_is_sent_before_the_head),
      TEST(a_stream_passes_as_it_comes),
      TEST(a_known_length_is_kept),
      TEST(an_answer_without_body),
      TEST(only_end_to_end_fields_pass),
      TEST(it_stops_taking_while_the_client_is_full),
      TEST(bytes_before_a_breakdown_are_delivered),
      TEST(a_failure_before_the_head_is_the_owners),
      TEST(a_failure_after_the_head_cuts),
      TEST(after_the_client_left_bytes_are_dropped),
      TEST(stopped_is_silent),
      TEST(a_head_request_gets_the_length_without_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

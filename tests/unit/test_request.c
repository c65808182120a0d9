/* SPDX-License-Identifier: MIT
 * The state of one exchange and the answer written for it. The connection side is a buffer of this
 * file; the heads come from the real parser. */
#include "exchange/request.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "floor/log.h"
#include "lines.h"

/* What exchange/server has for each connection. */
typedef struct lw_client {
  lw_buf out;
  unsigned flushes;
} lw_client;
lw_buf *lw_client_out(lw_client *c) { return &c->out; }
void lw_client_flush(lw_client *c) { c->flushes++; }

static lw_client client;
static lw_request request;
static lw_h1_parser *parser;
static unsigned woken;
static lw_wake writer;

static void run_writer(lw_wake *w) {
  (void)w;
  woken++;
}

static void forget(void) {
  lw_buf_fini(&client.out);
  lw_headers_fini(&request.answer);
  lw_request_drop_body(&request);
  lw_h1_free(parser);
}

/* A request that has arrived, with this head. */
static void arrive(const char *head) {
  if (parser) forget();
  client.flushes = 0;
  lw_buf_init(&client.out, 100, 1000, 0);
  lw_request_init(&request, &client);
  lw_h1_limits limits = LW_H1_LIMITS_DEFAULT;
  parser = lw_h1_new(&limits);
  assert_int_equal(lw_h1_feed(parser, head, strlen(head)), strlen(head));
  assert_int_equal(lw_h1_state_of(parser), LW_H1_READY);
  request.head = lw_h1_head_of(parser);
  request.keep_alive = request.head->keep_alive;
  request.remote = "127.0.0.1:1";
  lw_request_move(&request, LW_REQUEST_HEAD);
  lw_request_move(&request, LW_REQUEST_WAITING);
}

static int begin(void **state) {
  (void)state;
  lw_loop_init();
  lw_wake_init(&writer, run_writer);
  woken = 0;
  arrive("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
  return 0;
}
static int end(void **state) {
  (void)state;
  forget();
  parser = NULL;
  lw_wake_cancel(&writer);
  lw_loop_fini();
  lw_buf_drop_spares();
  return 0;
}

/* What was written, without the Date line; valid until the next call. */
static const char *written(void) {
  static char text[65536];
  size_t n = 0;
  lw_buf *b = &client.out;
  while (b->size) {
    lw_span s = lw_buf_peek(b);
    assert_true(n + s.n < sizeof text);
    memcpy(text + n, s.p, s.n);
    n += s.n;
    lw_buf_consume(b, s.n);
  }
  text[n] = 0;
  char *date = strstr(text, "\r\nDate: ");
  if (date) {
    char *after = strstr(date + 2, "\r\n");
    memmove(date, after, strlen(after) + 1);
  }
  return text;
}

static void expect_head(const char *status_line, const char *const *fields, size_t n) {
  const char *text = written();
  if (strncmp(text, status_line, strlen(status_line)) != 0) fail_msg("%s", text);
  for (size_t i = 0; i < n; i++) {
    bool absent = fields[i][0] == '!';
    if ((strstr(text, fields[i] + absent) != NULL) == absent) fail_msg("%s: %s", fields[i], text);
  }
}
#define EXPECT(line, ...)                                                \
  do {                                                                   \
    const char *const fields[] = {__VA_ARGS__};                          \
    expect_head("HTTP/1.1 " line "\r\n", fields, LW_ARRAY_SIZE(fields)); \
  } while (0)

/* -- whole answers -- */

static void a_whole_answer(void **state) {
  (void)state;
  strcpy(request.id, "abc");
  lw_response_send(&request, 200, "text/plain", LW_SPAN("hello"));
  EXPECT("200 OK", "\r\nContent-Type: text/plain\r\n", "\r\nContent-Length: 5\r\n",
         "\r\nX-Request-Id: abc\r\n", "\r\n\r\nhello", "!Transfer-Encoding", "!Connection: close");
  assert_int_equal(request.state, LW_REQUEST_ENDED);
  assert_int_equal(request.status, 200);
  assert_int_equal(request.bytes_out, 5);
  assert_true(request.first_byte_ns > 0);
  assert_true(request.keep_alive);
  assert_true(client.flushes > 0);
}

static void an_empty_answer(void **state) {
  (void)state;
  lw_response_send(&request, 404, "text/plain", LW_SPAN(""));
  EXPECT("404 Not Found", "\r\nContent-Length: 0\r\n");
  assert_int_equal(request.bytes_out, 0);
  assert_int_equal(request.first_byte_ns, 0);
}

static void errors_are_json(void **state) {
  (void)state;
  lw_response_error(&request, 502, "model", "a \"quote\" and \n");
  EXPECT("502 Bad Gateway", "\r\nContent-Type: application/json\r\n",
         "\r\n\r\n{\"error\":\"a \\\"quote\\\" and \\n\",\"source\":\"model\"}");
  arrive("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  lw_response_error(&request, 404, NULL, "no");
  EXPECT("404 Not Found", "\r\n\r\n{\"error\":\"no\"}", "!Connection: close");
}

/* The worst that escaping makes of the longest text that is shown. */
static void long_errors_are_cut(void **state) {
  (void)state;
  static const char *const signs[] = {"\x01", "a", "\xc3\xa9", "\xf0\x9f\x98\x80", "\xff"};
  for (size_t k = 0; k < LW_ARRAY_SIZE(signs); k++) {
    char text[4001] = "";
    while (strlen(text) + strlen(signs[k]) < sizeof text) strcat(text, signs[k]);
    arrive("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    lw_response_error(&request, 500, "runtime", text);
    const char *body = strstr(written(), "\r\n\r\n");
    assert_non_null(body);
    assert_in_range(strlen(body), 240, 1700);
    char line[2048];
    snprintf(line, sizeof line, "%s\n", body + 4);
    assert_true(is_json_line(line));
  }
}

static void a_refusal_closes_the_connection(void **state) {
  (void)state;
  lw_response_refuse(&request, 400, "bad");
  EXPECT("400 Bad Request", "\r\nConnection: close\r\n", "{\"error\":\"bad\"}");
  assert_false(request.keep_alive);
}

static void own_fields_go_with_the_answer(void **state) {
  (void)state;
  lw_headers_add(&request.answer, LW_SPAN("Retry-After"), LW_SPAN("3"));
  lw_response_error(&request, 429, NULL, "busy");
  EXPECT("429 Too Many Requests", "\r\nRetry-After: 3\r\n");
}

/* -- streams -- */

static void a_stream_is_chunked(void **state) {
  (void)state;
  request.writer = &writer;
  lw_response_head(&request, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(&request, "one", 3);
  lw_response_body(&request, "", 0);
  lw_buf more;
  lw_buf_init(&more, 0, 10, 0);
  lw_buf_add(&more, "twothree", 8);
  lw_response_body_from(&request, &more, 3);
  assert_int_equal(more.size, 5);
  assert_int_equal(request.state, LW_REQUEST_ANSWERING);
  lw_response_end(&request);
  lw_buf_fini(&more);
  EXPECT("200 OK", "\r\nTransfer-Encoding: chunked\r\n",
         "\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", "!Content-Length");
  assert_int_equal(request.bytes_out, 6);
  assert_true(lw_list_linked(&writer.node)); /* told that the state changed */
}

static void a_stream_of_known_length_is_not(void **state) {
  (void)state;
  lw_response_head(&request, 200, 6);
  lw_response_body(&request, "onetwo", 6);
  lw_response_end(&request);
  EXPECT("200 OK", "\r\nContent-Length: 6\r\n", "\r\n\r\nonetwo", "!chunked");
}

static void an_old_client_gets_a_stream_until_the_end(void **state) {
  (void)state;
  arrive("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
  lw_response_head(&request, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(&request, "one", 3);
  lw_response_end(&request);
  EXPECT("200 OK", "!chunked", "!Content-Length", "!keep-alive", "\r\n\r\none");
  assert_false(request.keep_alive);
  assert_int_equal(request.framing, LW_H1_UNTIL_CLOSE);
}

static void statuses_without_a_body(void **state) {
  (void)state;
  static const int statuses[] = {204, 304};
  for (size_t i = 0; i < LW_ARRAY_SIZE(statuses); i++) {
    arrive("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    lw_response_head(&request, statuses[i], LW_LENGTH_UNKNOWN);
    lw_response_body(&request, "not sent", 8);
    lw_response_end(&request);
    const char *text = written();
    assert_null(strstr(text, "chunked"));
    assert_null(strstr(text, "Content-Length"));
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
    assert_int_equal(request.bytes_out, 0);
  }
}

static void a_head_request_gets_no_body(void **state) {
  (void)state;
  arrive("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_true(lw_request_is_head(&request));
  lw_response_send(&request, 200, "text/plain", LW_SPAN("hello"));
  const char *text = written();
  assert_non_null(strstr(text, "\r\nContent-Length: 5\r\n"));
  assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
  arrive("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
  lw_response_head(&request, 200, LW_LENGTH_UNKNOWN);
  lw_buf more;
  lw_buf_init(&more, 0, 10, 0);
  lw_buf_add(&more, "one", 3);
  lw_response_body_from(&request, &more, 3);
  assert_int_equal(more.size, 0); /* taken all the same: its filler waits for room */
  lw_response_end(&request);
  text = written();
  assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
  assert_int_equal(request.bytes_out, 0);
}

static void full_is_the_high_mark_of_the_connection(void **state) {
  (void)state;
  char piece[600] = "";
  lw_response_head(&request, 200, 1200);
  assert_false(lw_response_is_full(&request));
  lw_response_body(&request, piece, 600);
  lw_response_body(&request, piece, 600);
  assert_true(lw_response_is_full(&request));
  lw_buf_consume(&client.out, client.out.size);
  assert_false(lw_response_is_full(&request));
}

/* -- the end -- */

static void a_cut_is_no_clean_end(void **state) {
  (void)state;
  request.writer = &writer;
  lw_response_head(&request, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(&request, "half", 4);
  lw_response_cut(&request);
  lw_response_body(&request, "more", 4);
  lw_response_end(&request);
  EXPECT("200 OK", "\r\n4\r\nhalf\r\n", "!0\r\n\r\n", "!more");
  assert_int_equal(request.state, LW_REQUEST_CUT);
  assert_false(request.keep_alive);
  assert_true(lw_list_linked(&writer.node));
}

static void an_error_after_the_head_cuts(void **state) {
  (void)state;
  lw_response_head(&request, 200, LW_LENGTH_UNKNOWN);
  lw_response_error(&request, 500, "script", "too late");
  assert_int_equal(request.state, LW_REQUEST_CUT);
  EXPECT("200 OK", "!too late");
}

static void nothing_is_written_once_it_is_over(void **state) {
  (void)state;
  lw_request_move(&request, LW_REQUEST_GONE);
  lw_response_send(&request, 200, "text/plain", LW_SPAN("hello"));
  lw_response_error(&request, 500, NULL, "no");
  lw_response_refuse(&request, 500, "no");
  lw_response_head(&request, 200, 1);
  lw_response_cut(&request);
  lw_response_end(&request);
  lw_buf more;
  lw_buf_init(&more, 0, 10, 0);
  lw_buf_add(&more, "one", 3);
  lw_response_body_from(&request, &more, 3);
  assert_int_equal(more.size, 0);
  lw_buf_fini(&more);
  assert_int_equal(client.out.size, 0);
  assert_int_equal(request.state, LW_REQUEST_GONE);
  assert_false(lw_response_is_full(&request));
}

static void only_the_allowed_moves_are_made(void **state) {
  (void)state;
  static const char *const allowed[] = {
      [LW_REQUEST_IDLE] = ".HW....",    [LW_REQUEST_HEAD] = "..WA..G",
      [LW_REQUEST_WAITING] = "...A.CG", [LW_REQUEST_ANSWERING] = "....ECG",
      [LW_REQUEST_ENDED] = "I......",   [LW_REQUEST_CUT] = "I......",
      [LW_REQUEST_GONE] = "I......",
  };
  for (int from = LW_REQUEST_IDLE; from <= LW_REQUEST_GONE; from++) {
    for (int to = LW_REQUEST_IDLE; to <= LW_REQUEST_GONE; to++) {
      lw_request r = {.state = (lw_request_state)from};
      pid_t child = fork();
      if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        signal(SIGABRT, SIG_DFL);
        lw_request_move(&r, (lw_request_state)to);
        _exit(r.state == (lw_request_state)to ? 0 : 2);
      }
      int status;
      waitpid(child, &status, 0);
      bool moved = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      if (moved != (allowed[from][to] != '.')) fail_msg("from %d to %d", from, to);
    }
  }
}

static void the_memory_is_used_again(void **state) {
  (void)state;
  strcpy(request.id, "abc");
  request.body = lw_body_new();
  request.writer = &writer;
  request.bytes_in = 5;
  request.begun_ns = request.complete_ns = 1;
  lw_headers_add(&request.answer, LW_SPAN("X"), LW_SPAN("y"));
  lw_response_send(&request, 200, "text/plain", LW_SPAN("hello"));
  lw_wake_cancel(&writer);
  lw_request_reset(&request);
  assert_int_equal(request.state, LW_REQUEST_IDLE);
  assert_null(request.body);
  assert_null(request.head);
  assert_null(request.writer);
  assert_int_equal(request.answer.count, 0);
  assert_int_equal(request.status, 0);
  assert_string_equal(request.id, "");
  assert_true(request.bytes_in + request.bytes_out + request.begun_ns + request.complete_ns +
                  request.first_byte_ns ==
              0);
  assert_false(lw_list_linked(&writer.node)); /* the next one is not the old writer's */
}

/* -- identity and the log line -- */

static void take_id_of(const char *given) {
  char *head = lw_printf_dup("GET / HTTP/1.1\r\nHost: h\r\nx-request-ID: %s\r\n\r\n", given);
  arrive(head);
  lw_request_take_id(&request);
  free(head);
}

static void a_sane_id_is_kept(void **state) {
  (void)state;
  take_id_of("a.B-9_:/+=@");
  assert_string_equal(request.id, "a.B-9_:/+=@");
  char longest[LW_REQUEST_ID_MAX + 2];
  memset(longest, 'x', sizeof longest);
  longest[LW_REQUEST_ID_MAX] = 0;
  take_id_of(longest);
  assert_string_equal(request.id, longest);
}

static void other_ids_are_replaced(void **state) {
  (void)state;
  static const char *const bad[] = {"", "a b", "a\"b", "<x>", "\xc3\xa9", "a,b", "a\tb", "a%20b"};
  char seen[LW_ARRAY_SIZE(bad) + 1][LW_REQUEST_ID_MAX + 1];
  char longest[LW_REQUEST_ID_MAX + 2];
  memset(longest, 'x', sizeof longest - 1);
  longest[LW_REQUEST_ID_MAX + 1] = 0;
  for (size_t i = 0; i <= LW_ARRAY_SIZE(bad); i++) {
    take_id_of(i < LW_ARRAY_SIZE(bad) ? bad[i] : longest);
    assert_int_equal(strspn(request.id, "0123456789abcdef"), 16);
    assert_int_equal(strlen(request.id), 16);
    strcpy(seen[i], request.id);
    for (size_t k = 0; k < i; k++) assert_string_not_equal(seen[k], seen[i]);
  }
}

static const char *logged(const lw_request_note *note) {
  static char text[4096];
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  lw_log_setup(ends[1], LW_LOG_INFO, LW_LOG_JSON);
  lw_request_log(&request, note);
  lw_log_setup(STDERR_FILENO, LW_LOG_INFO, LW_LOG_TEXT);
  close(ends[1]);
  ssize_t n = read(ends[0], text, sizeof text - 1);
  close(ends[0]);
  text[n > 0 ? n : 0] = 0;
  assert_true(is_json_line(text));
  return text;
}
#define HAS(text, part)                                            \
  do {                                                             \
    if (!strstr(text, part)) fail_msg("%s not in %s", part, text); \
  } while (0)

static void the_log_line_says_all(void **state) {
  (void)state;
  strcpy(request.id, "abc");
  request.begun_ns = lw_now_ns();
  request.bytes_in = 7;
  lw_response_send(&request, 200, "text/plain", LW_SPAN("hello"));
  lw_request_note note = {.route = "/r", .outcome = "success", .workload = 12.5, .queue_ms = 3};
  const char *line = logged(&note);
  HAS(line,
      "\"level\":\"info\",\"message\":\"request\",\"method\":\"GET\",\"route\":\"/"
      "r\",\"status\":200,"
      "\"outcome\":\"success\",\"workload\":12.5,\"queue_ms\":3,\"first_byte_ms\":");
  HAS(line, "\"bytes_in\":7,\"bytes_out\":5,\"request_id\":\"abc\",\"remote\":\"127.0.0.1:1\"}");
}

static void the_log_line_of_failures(void **state) {
  (void)state;
  lw_request_note none = {.workload = -1, .queue_ms = -1};
  lw_request_move(&request, LW_REQUEST_GONE);
  const char *line = logged(&none);
  HAS(line, "\"route\":\"/x\",\"status\":499,\"outcome\":\"none\"");
  assert_null(strstr(line, "workload"));
  assert_null(strstr(line, "queue_ms"));
  assert_null(strstr(line, "first_byte_ms"));
  arrive("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  lw_response_head(&request, 200, 9);
  lw_response_cut(&request);
  lw_request_note failed = {.workload = -1, .queue_ms = -1, .source = "model", .error = "it broke"};
  line = logged(&failed);
  HAS(line, "\"level\":\"warn\"");
  HAS(line, "\"ending\":\"cut\",\"source\":\"model\",\"error\":\"it broke\"}");
}

/* A refusal of what is not even a head. */
static void the_log_line_without_a_head(void **state) {
  (void)state;
  lw_request_note none = {.workload = -1, .queue_ms = -1};
  request.head = NULL;
  request.remote = NULL;
  lw_response_refuse(&request, 400, "bad");
  const char *line = logged(&none);
  HAS(line, "\"method\":\"-\",\"route\":\"-\",\"status\":400");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_whole_answer),
      TEST(an_empty_answer),
      TEST(errors_are_json),
      TEST(long_errors_are_cut),
      TEST(a_refusal_closes_the_connection),
      TEST(own_fields_go_with_the_answer),
      TEST(a_stream_is_chunked),
      TEST(a_stream_of_known_length_is_not),
      TEST(an_old_client_gets_a_stream_until_the_end),
      TEST(statuses_without_a_body),
      TEST(a_head_request_gets_no_body),
      TEST(full_is_the_high_mark_of_the_connection),
      TEST(a_cut_is_no_clean_end),
      TEST(an_error_after_the_head_cuts),
      TEST(nothing_is_written_once_it_is_over),
      TEST(only_the_allowed_moves_are_made),
      TEST(the_memory_is_used_again),
      TEST(a_sane_id_is_kept),
      TEST(other_ids_are_replaced),
      TEST(the_log_line_says_all),
      TEST(the_log_line_of_failures),
      TEST(the_log_line_without_a_head),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * Health checks against a model server on this same loop that answers as the test says: the first
 * good one, failures, recovery, doubt without a URL, and the watchdog. Waits pass 50 times as fast
 * as in earnest, stall timeouts are set short. */
#include "worker/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exchange/server.h"
#include "exchange/upstream.h"
#include "floor/log.h"
#include "turn.h"
#include "worker/pace.h"

/* -- the model: one answer for checks, a stream that the test feeds -- */

static lw_server *server;
static int status, asked; /* 0: the check is not answered */
static char url[100], base_url[50];
static lw_request *held[8], *stream;
static size_t held_n;

static uint64_t on_head(void *owner, lw_request *r) {
  (void)owner;
  (void)r;
  return 1000;
}
static void on_complete(void *owner, lw_request *r) {
  (void)owner;
  if (lw_span_eq(r->head->path, LW_SPAN("/stream"))) {
    stream = r;
    lw_response_head(r, 200, -1);
    return;
  }
  asked++;
  if (!status) {
    assert_true(held_n < LW_ARRAY_SIZE(held));
    held[held_n++] = r;
    return;
  }
  lw_response_send(r, status, "text/plain", LW_SPAN("so it is"));
  lw_request_release(r);
}
static void on_gone(void *owner, lw_request *r) {
  (void)owner;
  for (size_t i = 0; i < held_n; i++) {
    if (held[i] == r) held[i] = held[--held_n];
  }
  if (stream == r) stream = NULL;
  lw_request_release(r);
}

/* -- who listens -- */

static lw_account *account;
static int firsts, faileds, wells;
static char why[700];
static void on_first(void) { firsts++; }
static void on_failed(const char *text) {
  faileds++;
  snprintf(why, sizeof why, "%s", text);
}
static void on_well(void) { wells++; }
static const lw_health_events events = {on_first, on_failed, on_well};

static void start_health(const char *with_url, double stall_s, bool is_well) {
  lw_health_settings s = {with_url, base_url, stall_s, is_well};
  lw_health_start(&s, &events, account);
}

static int begin(void **state) {
  (void)state;
  static const lw_server_events server_events = {on_head, on_complete, on_gone, NULL};
  static const lw_server_limits limits = {.h1 = LW_H1_LIMITS_DEFAULT,
                                          .max_connections = 100,
                                          .header_timeout_ms = 60000,
                                          .body_timeout_ms = 60000,
                                          .idle_timeout_ms = 60000,
                                          .write_timeout_ms = 60000};
  const char *problem;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  server = lw_server_open("127.0.0.1", 0, &limits, &server_events, NULL, &problem);
  snprintf(base_url, sizeof base_url, "http://127.0.0.1:%d", lw_server_port(server));
  snprintf(url, sizeof url, "%s/health", base_url);
  account = lw_account_new();
  status = 200;
  asked = firsts = faileds = wells = 0;
  why[0] = 0;
  lw_pace_set(50);
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_health_stop();
  lw_health_stop(); /* also when it is done */
  assert_int_equal(lw_upstream_open_count(), 0);
  lw_pace_set(1);
  if (server) {
    lw_server_stop(server, NULL);
    lw_upstream_shutdown();
    TURN_UNTIL(lw_server_is_idle(server));
    lw_server_free(server);
  } else {
    lw_upstream_shutdown();
  }
  lw_account_free(account);
  turn_for(1);
  lw_loop_fini();
  lw_buf_drop_spares();
  return 0;
}

static void the_first_200_is_told_once(void **state) {
  (void)state;
  status = 503;
  start_health(url, 0, false);
  TURN_UNTIL(asked >= 3);
  assert_non_null(strstr(lw_health_last(), "503"));
  assert_int_equal(firsts + faileds + wells, 0);
  status = 204; /* a 200 is asked for */
  int before = asked;
  TURN_UNTIL(asked >= before + 2);
  assert_int_equal(firsts, 0);
  status = 200;
  TURN_UNTIL(firsts);
  before = asked;
  TURN_UNTIL(asked >= before + 2); /* it goes on looking */
  assert_int_equal(firsts, 1);
  assert_int_equal(faileds + wells, 0);
}

static void a_failure_is_told_and_its_end(void **state) {
  (void)state;
  start_health(url, 0, true);
  TURN_UNTIL(asked >= 2);
  status = 500;
  TURN_UNTIL(faileds);
  assert_non_null(strstr(why, "/health"));
  assert_non_null(strstr(why, "500"));
  int before = asked;
  TURN_UNTIL(asked >= before + 3);
  assert_int_equal(faileds, 1); /* the same reason is told once */
  status = 418;
  TURN_UNTIL(faileds == 2);
  assert_non_null(strstr(why, "418"));
  status = 200;
  TURN_UNTIL(wells);
  assert_int_equal(wells, 1);
  assert_int_equal(firsts, 0);
  status = 500;
  TURN_UNTIL(faileds == 3);
}

static void no_first_for_long_is_an_error_that_clears(void **state) {
  (void)state;
  status = 503;
  lw_pace_set(3000); /* 300 s are 100 ms */
  start_health(url, 0, false);
  TURN_UNTIL(faileds);
  assert_non_null(strstr(why, "within 300 s"));
  assert_non_null(strstr(why, "503"));
  status = 200;
  TURN_UNTIL(firsts);
  assert_int_equal(wells, 0);
}

static void without_url_nothing_is_asked_until_in_doubt(void **state) {
  (void)state;
  status = 404; /* any answer shows life */
  start_health(NULL, 0, true);
  turn_for(300);
  assert_int_equal(asked, 0);
  lw_health_probe();
  lw_health_probe(); /* one at a time */
  TURN_UNTIL(asked);
  turn_for(300);
  assert_int_equal(asked, 1);
  assert_int_equal(firsts + faileds + wells, 0);
}

static void without_url_a_dead_model_is_noticed_and_its_return(void **state) {
  (void)state;
  int port = lw_server_port(server);
  lw_server_stop(server, NULL);
  TURN_UNTIL(lw_server_is_idle(server));
  lw_server_free(server);
  turn_for(1);
  start_health(NULL, 0, true);
  lw_health_probe();
  TURN_UNTIL(faileds);
  assert_non_null(strstr(why, base_url));
  uint64_t before = lw_health_checks(), bad = lw_health_failures();
  TURN_UNTIL(lw_health_checks() >= before + 3); /* it asks by itself now */
  assert_true(lw_health_failures() > bad);
  assert_int_equal(faileds, 1);
  static const lw_server_events server_events = {on_head, on_complete, on_gone, NULL};
  static const lw_server_limits limits = {.h1 = LW_H1_LIMITS_DEFAULT,
                                          .max_connections = 100,
                                          .header_timeout_ms = 60000,
                                          .body_timeout_ms = 60000,
                                          .idle_timeout_ms = 60000,
                                          .write_timeout_ms = 60000};
  const char *problem;
  server = lw_server_open("127.0.0.1", port, &limits, &server_events, NULL, &problem);
  assert_non_null(server);
  TURN_UNTIL(wells);
  before = lw_health_checks();
  turn_for(300);
  assert_int_equal(lw_health_checks(), before); /* and none when all is well again */
}

/* -- requests at work -- */

static lw_record work;
static lw_upstream *call;
static lw_wake call_wake;
static void run_call(lw_wake *w) {
  (void)w;
  lw_buf *in = lw_upstream_buf(call);
  lw_buf_consume(in, in->size);
  lw_upstream_consumed(call);
}

static void open_stream(void) {
  char target[120];
  snprintf(target, sizeof target, "%s/stream", base_url);
  lw_wake_init(&call_wake, run_call);
  call = lw_upstream_open(LW_SPAN("GET"), lw_span_of(target), &call_wake);
  lw_upstream_set_role(call, "model");
  lw_upstream_start(call);
  lw_account_receive(account, &work, LW_RECORD_REQUEST, 1, 1, 1);
  lw_account_working(account, &work);
  TURN_UNTIL(stream);
}

static void close_stream(void) {
  lw_upstream_close(call);
  lw_wake_cancel(&call_wake);
  lw_account_end(account, &work, LW_CANCELLED_OUTCOME);
  TURN_UNTIL(!stream);
}

static void silence_at_work_calls_for_a_check(void **state) {
  (void)state;
  open_stream();
  start_health(NULL, 0.1, true);
  TURN_UNTIL(asked >= 2); /* it answers: no error, and it is asked again only after so long */
  assert_int_equal(faileds, 0);
  close_stream();
}

static void nothing_at_work_is_no_silence(void **state) {
  (void)state;
  lw_record queued;
  lw_account_receive(account, &queued, LW_RECORD_REQUEST, 1, 1, 1); /* waits for its turn */
  start_health(NULL, 0.05, true);
  turn_for(400);
  assert_int_equal(asked, 0);
  lw_account_end(account, &queued, LW_CANCELLED_OUTCOME);
}

/* Bytes now and then, the longest pause shorter than the timeout. */
static void a_slow_stream_raises_no_alarm(void **state) {
  (void)state;
  open_stream();
  uint64_t before = lw_upstream_model_bytes();
  start_health(NULL, 2, true);
  uint64_t until = lw_now_ms() + 5000;
  while (lw_now_ms() < until) {
    lw_response_body(stream, "x", 1);
    turn_for(100);
  }
  assert_true(lw_upstream_model_bytes() > before);
  assert_int_equal(asked, 0);
  close_stream();
}

static void silence_and_no_answer_is_an_error(void **state) {
  (void)state;
  open_stream();
  start_health(NULL, 0.1, true);
  status = 0;
  TURN_UNTIL(held_n);
  while (held_n) lw_response_cut(held[0]), lw_request_release(held[0]), held[0] = held[--held_n];
  TURN_UNTIL(faileds);
  assert_non_null(strstr(why, "no byte"));
  status = 200;
  TURN_UNTIL(wells);
  close_stream();
}

static void events_may_start_it_anew(void **state);
static bool restarted;
static void on_first_restart(void) {
  static const lw_health_events plain = {on_first, on_failed, on_well};
  lw_health_settings s = {url, base_url, 0, true};
  restarted = true;
  lw_health_start(&s, &plain, account);
}
static void events_may_start_it_anew(void **state) {
  (void)state;
  static const lw_health_events own = {on_first_restart, on_failed, on_well};
  lw_health_settings s = {url, base_url, 0, false};
  lw_health_start(&s, &own, account);
  TURN_UNTIL(restarted && asked >= 3);
  assert_int_equal(firsts, 0);
}

static void stopping_in_every_state(void **state) {
  (void)state;
  lw_health_probe(); /* before it ever started */
  lw_health_stop();
  start_health(url, 1, false);
  lw_health_stop(); /* before the loop ran */
  status = 0;
  start_health(url, 1, false);
  TURN_UNTIL(held_n == 1);
  lw_health_stop(); /* waiting for an answer */
  TURN_UNTIL(held_n == 0);
  status = 500;
  start_health(url, 1, false);
  TURN_UNTIL(asked >= 3);
  lw_health_stop(); /* waiting for the next */
  int before = asked;
  turn_for(300);
  assert_int_equal(asked, before);
  assert_int_equal(firsts + faileds + wells, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_first_200_is_told_once),
      TEST(a_failure_is_told_and_its_end),
      TEST(no_first_for_long_is_an_error_that_clears),
      TEST(without_url_nothing_is_asked_until_in_doubt),
      TEST(without_url_a_dead_model_is_noticed_and_its_return),
      TEST(silence_at_work_calls_for_a_check),
      TEST(nothing_at_work_is_no_silence),
      TEST(a_slow_stream_raises_no_alarm),
      TEST(silence_and_no_answer_is_an_error),
      TEST(events_may_start_it_anew),
      TEST(stopping_in_every_state),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

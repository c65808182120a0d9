/* SPDX-License-Identifier: MIT
 * Fetching the public key from autoscalers on this loop: good answers, all kinds of bad ones, the
 * next address, the next attempt. Waits of seconds are real; the longer ones are not waited for. */
#include "worker/pubkey.h"

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

/* -- an autoscaler: answers as told, one answer after the other -- */

typedef struct reply {
  int status;
  const char *body; /* NULL: none at all, the connection is cut; status 0: not even that */
} reply;

typedef struct autoscaler {
  lw_server *server;
  reply replies[8]; /* the last one is repeated */
  int count, asked;
  char path[64];
} autoscaler;
static autoscaler one, two;

static uint64_t on_head(void *owner, lw_request *r) {
  (void)owner;
  (void)r;
  return 1000;
}
static void on_complete(void *owner, lw_request *r) {
  autoscaler *a = owner;
  snprintf(a->path, sizeof a->path, "%.*s %.*s", (int)r->head->method_text.n,
           r->head->method_text.p, (int)r->head->path.n, r->head->path.p);
  reply *reply = &a->replies[LW_MIN(a->asked, a->count - 1)];
  a->asked++;
  if (!reply->status) return;
  if (reply->body) {
    lw_response_send(r, reply->status, "text/plain", lw_span_of(reply->body));
  } else {
    lw_response_head(r, reply->status, 100);
    lw_response_body(r, "half", 4);
    lw_response_cut(r);
  }
  lw_request_release(r);
}
static void on_gone(void *owner, lw_request *r) {
  (void)owner;
  lw_request_release(r);
}

static char *open_autoscaler(autoscaler *a) {
  static const lw_server_events events = {on_head, on_complete, on_gone, NULL};
  static const lw_server_limits limits = {.h1 = LW_H1_LIMITS_DEFAULT,
                                          .max_connections = 10,
                                          .header_timeout_ms = 60000,
                                          .body_timeout_ms = 60000,
                                          .idle_timeout_ms = 60000,
                                          .write_timeout_ms = 60000};
  const char *why;
  *a = (autoscaler){.server = lw_server_open("127.0.0.1", 0, &limits, &events, a, &why)};
  assert_non_null(a->server);
  return lw_printf_dup("http://127.0.0.1:%d", lw_server_port(a->server));
}
static void says(autoscaler *a, int status, const char *body) {
  a->replies[a->count++] = (reply){status, body};
}

static lw_auth *auth;
static char *first_url, *second_url, *pem;
static int keys;
static void on_key(void) { keys++; }

static unsigned failures, retries;
static char failure[500];
static void on_failure(const char *error_msg) {
  failures++;
  snprintf(failure, sizeof failure, "%s", error_msg);
}
static void on_retry(const char *why) {
  assert_true(*why != 0);
  retries++;
}
static const lw_pubkey_events events = {on_key, on_retry, on_failure};

static int make_key(void **state) {
  (void)state;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_signer *signer = lw_signer_new(2048);
  pem = lw_signer_public_pem(signer);
  lw_signer_free(signer);
  return 0;
}
static int drop_key(void **state) {
  (void)state;
  free(pem);
  return 0;
}

static int begin(void **state) {
  (void)state;
  lw_loop_init();
  auth = lw_auth_new();
  first_url = open_autoscaler(&one);
  second_url = open_autoscaler(&two);
  keys = 0;
  failures = retries = 0;
  return 0;
}
static int end(void **state) {
  (void)state;
  lw_pubkey_stop();
  lw_pubkey_stop(); /* also when it is done */
  lw_pace_set(1);
  assert_int_equal(lw_upstream_open_count(), 0);
  lw_server_stop(one.server, NULL);
  lw_server_stop(two.server, NULL);
  lw_upstream_shutdown();
  TURN_UNTIL(lw_server_is_idle(one.server) && lw_server_is_idle(two.server));
  lw_server_free(one.server);
  lw_server_free(two.server);
  lw_loop_fini();
  lw_buf_drop_spares();
  lw_auth_free(auth);
  free(first_url);
  free(second_url);
  return 0;
}

/* format: where the first and the second stand in the list of addresses. */
#define FETCH_FROM(format)                                          \
  do {                                                              \
    char *addresses = lw_printf_dup(format, first_url, second_url); \
    lw_pubkey_start(addresses, auth, &events);                      \
    free(addresses);                                                \
  } while (0)

static void the_key_is_taken(void **state) {
  (void)state;
  says(&one, 200, pem);
  lw_pubkey_start(first_url, auth, &events);
  TURN_UNTIL(keys);
  turn_for(20);
  assert_int_equal(keys, 1);
  assert_int_equal(one.asked, 1);
  assert_string_equal(one.path, "GET /pubkey/");
  assert_true(lw_auth_has_key(auth));
  assert_int_equal(failures, 0);
}

static void slashes_and_blanks_do_no_harm(void **state) {
  (void)state;
  says(&one, 200, pem);
  FETCH_FROM(" , %s// ,%s");
  TURN_UNTIL(keys);
  assert_string_equal(one.path, "GET /pubkey/");
  assert_int_equal(two.asked, 0);
}

static void bad_answers_lead_to_the_next_address(void **state) {
  (void)state;
  static const reply bad[] = {{404, "no"}, {500, ""},   {200, "no key"},
                              {200, ""},   {200, NULL}, {503, NULL}};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    one.asked = one.count = two.asked = two.count = keys = 0;
    says(&one, bad[i].status, bad[i].body);
    says(&two, 200, pem);
    FETCH_FROM("%s,%s");
    TURN_UNTIL(keys);
    assert_int_equal(one.asked, 1);
    assert_int_equal(two.asked, 1);
    lw_pubkey_stop();
  }
}

static void a_key_of_megabytes_is_none(void **state) {
  (void)state;
  char *much = lw_calloc(1, 2000001);
  memset(much, 'x', 2000000);
  says(&one, 200, much);
  says(&two, 200, pem);
  FETCH_FROM("%s,%s");
  TURN_UNTIL(keys);
  free(much);
}

static void an_address_without_a_server_is_passed_over(void **state) {
  (void)state;
  says(&two, 200, pem);
  FETCH_FROM("http://127.0.0.1:1,nonsense://%.0s,%s");
  TURN_UNTIL(keys);
}

static void it_asks_again_after_a_while(void **state) {
  (void)state;
  says(&one, 500, "not yet");
  says(&one, 200, "still not");
  says(&one, 200, pem);
  uint64_t begun = lw_now_ms();
  lw_pubkey_start(first_url, auth, &events);
  TURN_UNTIL(one.asked == 1);
  turn_for(300);
  int asked = one.asked;
  if (lw_now_ms() - begun < 1000) assert_int_equal(asked, 1); /* not at once */
  TURN_UNTIL(keys);
  assert_int_equal(one.asked, 3);
  assert_true(lw_now_ms() - begun >= 3000); /* 1 s, then 2 s */
  assert_int_equal(failures, 0);            /* an error only after the fifth attempt */
}

static void a_key_that_does_not_come_is_an_error_until_it_does(void **state) {
  (void)state;
  lw_pace_set(10); /* 1.5 s for five, of the 6 that are given */
  says(&one, 404, "not here");
  lw_pubkey_start(first_url, auth, &events);
  TURN_UNTIL(failures);
  assert_int_equal(one.asked, 5);
  assert_int_equal(retries, 5);
  assert_non_null(strstr(failure, "Failed to get Serverless public key"));
  assert_non_null(strstr(failure, first_url));
  assert_non_null(strstr(failure, "404"));
  TURN_UNTIL(one.asked == 6); /* it goes on */
  one.replies[0] = (reply){200, pem};
  TURN_UNTIL(keys);
  assert_int_equal(failures, 1);
}

static void an_autoscaler_that_never_answers_is_an_error_as_well(void **state) {
  (void)state;
  lw_pace_set(600);
  says(&one, 0, NULL);
  says(&one, 0, NULL);
  lw_pubkey_start(first_url, auth, &events);
  TURN_UNTIL(failures); /* 60 s: long before the call's own end */
  assert_int_equal(retries, 0);
  assert_non_null(strstr(failure, "no answer yet"));
  turn_for(300);
  assert_int_equal(failures, 1);
}

static void stopping_ends_a_call_and_a_wait(void **state) {
  (void)state;
  lw_pubkey_stop(); /* before it ever started */
  says(&one, 200, pem);
  lw_pubkey_start(first_url, auth, &events);
  lw_pubkey_stop();
  turn_for(50);
  assert_int_equal(keys, 0);
  says(&two, 500, "");
  lw_pubkey_start(second_url, auth, &(lw_pubkey_events){0});
  TURN_UNTIL(two.asked == 1);
  turn_for(20);
  lw_pubkey_stop();
  turn_for(1200);
  assert_int_equal(two.asked, 1);
  assert_false(lw_auth_has_key(auth));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_key_is_taken),
      TEST(slashes_and_blanks_do_no_harm),
      TEST(bad_answers_lead_to_the_next_address),
      TEST(a_key_of_megabytes_is_none),
      TEST(an_address_without_a_server_is_passed_over),
      TEST(it_asks_again_after_a_while),
      TEST(a_key_that_does_not_come_is_an_error_until_it_does),
      TEST(an_autoscaler_that_never_answers_is_an_error_as_well),
      TEST(stopping_ends_a_call_and_a_wait),
  };
  return cmocka_run_group_tests(tests, make_key, drop_key);
}

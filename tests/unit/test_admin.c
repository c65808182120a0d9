/* SPDX-License-Identifier: MIT
 * The internal port: what it answers in each state of the worker, and that whoever waits at /drain
 * is answered once, whatever happens meanwhile. */
#include "worker/admin.h"

#include "walk.h"
#include "worker/ready.h"

enum {
  RUNNING = 2 /* one request counts twice: the model of these tests is a server of this process */
};
static peer person;
static int drains, closed;

static void on_drain(void) { drains++; }
static void on_closed(void) { closed++; }
static void add_status(lw_body *b) { lw_put(b, ",\"more\":1"); }

static int open_admin(void **state) {
  begin(state);
  const lw_admin_settings settings = {"127.0.0.1", 0, &limits, on_drain, add_status};
  const char *why = NULL;
  drains = closed = 0;
  lw_ready_init(NULL);
  assert_true(lw_admin_open(&settings, &why));
  peer_open(&person, lw_admin_port());
  return 0;
}

static int close_admin(void **state) {
  peer_close(&person, false);
  if (!closed) lw_admin_close(on_closed);
  TURN_UNTIL(closed == 1);
  return end(state);
}

static void get(const char *path) {
  char *request = lw_printf_dup("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
  peer_clear(&person);
  peer_send(&person, request);
  free(request);
}
static void drain(peer *p, const char *query) {
  char *request =
      lw_printf_dup("POST /drain%s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", query);
  peer_send(p, request);
  free(request);
}

static void readiness_turns(void **state) {
  (void)state;
  get("/livez");
  ANSWERED(&person, "200 OK", "\r\n\r\nok\n");
  get("/readyz");
  ANSWERED(&person, "200 OK", "{\"ready\":true,");
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "for \"%s\"", "loaded");
  get("/readyz");
  ANSWERED(&person, "503 ", "{\"ready\":false,");
  assert_non_null(strstr(person.text, "{\"name\":\"log\",\"state\":\"waiting\",\"since\":"));
  assert_non_null(strstr(person.text, ",\"why\":\"for \\\"loaded\\\"\"}"));
  lw_ready_set(LW_GATE_LOG, LW_GATE_FAILED, "CUDA is out of memory");
  get("/status");
  ANSWERED(&person, "200 OK", "\"error\":\"CUDA is out of memory\"");
  lw_ready_set(LW_GATE_LOG, LW_GATE_PASSED, "%s", "");
  get("/readyz");
  ANSWERED(&person, "200 OK", "{\"ready\":true,");
}

static void the_other_paths(void **state) {
  (void)state;
  get("/status");
  ANSWERED(&person, "200 OK", ",\"more\":1}\n");
  get("/metrics");
  ANSWERED(&person, "200 OK", "\nluaworker_ready 1\n");
  assert_non_null(strstr(person.text, "Content-Type: text/plain; version=0.0.4; charset=utf-8"));
  get("/go"); /* the script's routes are not here */
  ANSWERED(&person, "404 ", "no such path");
  get("/drain");
  ANSWERED(&person, "405 ", "\r\nAllow: POST\r\n");
  peer_clear(&person);
  peer_send(&person, "HEAD /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
  ANSWERED(&person, "200 OK", "\r\n\r\n");
  assert_null(strstr(person.text, "gates"));
}

static void draining_an_idle_worker(void **state) {
  (void)state;
  drain(&person, "");
  ANSWERED(&person, "200 OK", "{\"drained\":true,\"in_flight\":0,");
  assert_int_equal(drains, 1);
  assert_true(lw_service_get()->draining);
  get("/readyz");
  ANSWERED(&person, "503 ", "\"draining\":true");
  ask(&client, "/go");
  ANSWERED(&client, "503 ", "\r\nRetry-After: ");
  assert_int_equal(model.count, 0);
}

static void draining_waits_for_the_last(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count == 1);
  peer second;
  peer_open(&second, lw_admin_port());
  drain(&person, "");
  drain(&second, "?timeout=60");
  TURN_UNTIL(lw_request_count() == RUNNING + 2);
  turn_for(120);
  assert_false(peer_has(&person, "drained") || peer_has(&second, "drained"));
  assert_int_equal(drains, 1);
  model_answers(200, "{}");
  ANSWERED(&person, "200 OK", "{\"drained\":true,\"in_flight\":0,");
  ANSWERED(&second, "200 OK", "{\"drained\":true,\"in_flight\":0,");
  ANSWERED(&client, "200 OK", "{}");
  peer_close(&second, false);
}

static void draining_for_so_long(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count == 1);
  drain(&person, "?a=b&timeout=0.1");
  ANSWERED(&person, "202 ", "{\"drained\":false,\"in_flight\":2,");
  peer_clear(&person);
  drain(&person, "?timeout=0");
  ANSWERED(&person, "202 ", "{\"drained\":false,\"in_flight\":2,");
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
}

static void timeouts_that_are_none(void **state) {
  (void)state;
  const char *const wrong[] = {"?timeout=",
                               "?timeout=x",
                               "?timeout=-1",
                               "?timeout=nan",
                               "?timeout=1e99",
                               "?timeout=1s",
                               "?timeout=00000000000000000000000000000000000001"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(wrong); i++) {
    peer_clear(&person);
    drain(&person, wrong[i]);
    ANSWERED(&person, "400 ", "timeout is a number");
  }
  assert_false(lw_service_get()->draining);
}

static void who_waits_may_leave(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count == 1);
  drain(&person, "");
  TURN_UNTIL(lw_request_count() == RUNNING + 1);
  peer_close(&person, true);
  TURN_UNTIL(lw_request_count() == RUNNING);
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
}

static void closing_answers_who_waits(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count == 1);
  drain(&person, "");
  TURN_UNTIL(lw_request_count() == RUNNING + 1);
  lw_admin_close(on_closed);
  ANSWERED(&person, "202 ", "{\"drained\":false,\"in_flight\":2,");
  TURN_UNTIL(closed == 1);
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
}

static void cutting_breaks_it_off(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count == 1);
  drain(&person, "");
  TURN_UNTIL(lw_request_count() == RUNNING + 1);
  lw_admin_cut();
  TURN_UNTIL(peer_ended(&person));
  assert_string_equal(person.text, "");
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
}

static void a_port_that_is_taken(void **state) {
  (void)state;
  int taken = lw_admin_port();
  lw_admin_close(on_closed);
  TURN_UNTIL(closed == 1);
  lw_admin_close(on_closed); /* once more: it is told again, nothing else */
  assert_int_equal(closed, 2);
  closed = 1;
  const char *why = NULL;
  lw_server_events none = lw_service_events;
  lw_server *other = lw_server_open("127.0.0.1", taken, &limits, &none, &site, &why);
  assert_non_null(other);
  const lw_admin_settings settings = {"127.0.0.1", taken, &limits, NULL, NULL};
  assert_false(lw_admin_open(&settings, &why));
  assert_non_null(strstr(why, "in use"));
  lw_admin_cut();
  lw_server_stop(other, NULL);
  lw_server_free(other);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_admin, close_admin)
  const struct CMUnitTest tests[] = {
      TEST(readiness_turns),         TEST(the_other_paths),
      TEST(draining_an_idle_worker), TEST(draining_waits_for_the_last),
      TEST(draining_for_so_long),    TEST(timeouts_that_are_none),
      TEST(who_waits_may_leave),     TEST(closing_answers_who_waits),
      TEST(cutting_breaks_it_off),   TEST(a_port_that_is_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

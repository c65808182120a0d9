/* SPDX-License-Identifier: MIT
 * Who answers at a port: builtins before routes, by path and method; late answers; clients that
 * leave before one; what is refused on the head alone. */
#include "walk.h"

#include <stdlib.h>

static lw_request *late;
static unsigned answered, gone;

static void answer_now(lw_request *r) {
  answered++;
  char text[64];
  int n = snprintf(text, sizeof text, "now %zu", r->body->n);
  lw_response_send(r, 200, "text/plain", (lw_span){text, (size_t)n});
}
static void answer_late(lw_request *r) {
  assert_null(late);
  late = r;
}
static void on_late_gone(lw_request *r) {
  assert_ptr_equal(late, r);
  assert_int_equal(r->state, LW_REQUEST_GONE);
  late = NULL;
  gone++;
}

static const lw_builtin now = {LW_H1_POST, "/now", answer_now, NULL};
static const lw_builtin get_now = {LW_H1_GET, "/now", answer_now, NULL};
static const lw_builtin look = {LW_H1_GET, "/look", answer_now, NULL};
static const lw_builtin wait = {LW_H1_POST, "/wait", answer_late, on_late_gone};
static const lw_builtin over_route = {LW_H1_POST, "/go", answer_now, NULL};

static int begin_site(void **state) {
  static const lw_builtin *const all[] = {&now, &look, &wait, &over_route, NULL};
  begin(state);
  site.builtins = all;
  late = NULL;
  answered = gone = 0;
  return 0;
}
static int end_site(void **state) {
  assert_null(late);
  site.builtins = NULL;
  lw_service_get()->draining = false;
  return end(state);
}
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin_site, end_site)

static void send_head(const char *line, const char *fields) {
  peer_clear(&client);
  char *text = lw_printf_dup("%s HTTP/1.1\r\nHost: h\r\n%s\r\n", line, fields);
  peer_send(&client, text);
  free(text);
}

static void builtins_answer_before_routes(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    peer_clear(&client);
    send_post(&client, i == 1 ? "/go" : "/now", "12345");
    ANSWERED(&client, "200 OK", "now 5");
  }
  assert_int_equal(answered, 3);
  peer_clear(&client);
  ask(&client, "/serial"); /* and routes all the rest */
  model_answers(200, "model");
  ANSWERED(&client, "200 OK", "model");
  assert_int_equal(model.gone, 0);
}

static void without_a_body_they_answer_too(void **state) {
  (void)state;
  send_head("POST /now", "");
  ANSWERED(&client, "200 OK", "now 0");
  send_head("POST /serial", "");
  ANSWERED(&client, "411 ", "Content-Length");
}

static void other_methods(void **state) {
  (void)state;
  static const struct {
    const char *line, *status, *text;
  } cases[] = {
      {"GET /now", "405 ", "\r\nAllow: POST\r\n"},
      {"DELETE /look", "405 ", "\r\nAllow: GET, HEAD\r\n"},
      {"GET /look", "200 OK", "now 0"},
      {"HEAD /look", "200 OK", "\r\nContent-Length: 5\r\n"},
      {"POST /nowhere", "404 ", "no such path"},
      {"GET /now/", "404 ", "no such path"},
      {"GET /go", "405 ", "\r\nAllow: POST\r\n"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    send_head(cases[i].line, "");
    TURN_UNTIL(peer_has(&client, "\r\n\r\n"));
    if (!strstr(client.text, cases[i].status) || !strstr(client.text, cases[i].text)) {
      fail_msg("%s: %s", cases[i].line, client.text);
    }
    TURN_UNTIL(lw_request_count() == 0);
    turn_for(2); /* the rest of a body */
    if (strstr(client.text, "onnection: close")) {
      peer_close(&client, false);
      peer_open(&client, lw_server_port(server));
    }
  }
}

static void one_path_by_two_methods(void **state) {
  (void)state;
  static const lw_builtin *const both[] = {&now, &get_now, NULL};
  site.builtins = both;
  send_head("GET /now", "");
  ANSWERED(&client, "200 OK", "now 0");
  peer_clear(&client);
  send_post(&client, "/now", "12");
  ANSWERED(&client, "200 OK", "now 2");
}

static void a_port_without_routes(void **state) {
  (void)state;
  static const lw_builtin *const few[] = {&look, NULL};
  lw_site bare = {NULL, few};
  const char *why = NULL;
  lw_server *s = lw_server_open("127.0.0.1", 0, &limits, &lw_service_events, &bare, &why);
  peer p;
  peer_open(&p, lw_server_port(s));
  peer_send(&p, "GET /look HTTP/1.1\r\nHost: h\r\n\r\n");
  ANSWERED(&p, "200 OK", "now 0");
  peer_clear(&p);
  send_post(&p, "/go", "{}");
  ANSWERED(&p, "404 ", "no such path");
  peer_close(&p, false);
  lw_server_stop(s, NULL);
  TURN_UNTIL(lw_server_is_idle(s));
  lw_server_free(s);
}

static void a_late_answer(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    peer_clear(&client);
    send_post(&client, "/wait", "{}");
    TURN_UNTIL(late);
    assert_int_equal(lw_request_count(), 1);
    lw_request *r = late;
    late = NULL;
    lw_response_send(r, 200, "text/plain", LW_SPAN("at last"));
    lw_builtin_done(r);
    ANSWERED(&client, "200 OK", "at last");
    assert_int_equal(lw_request_count(), 0);
  }
}

static void leaving_before_a_late_answer(void **state) {
  (void)state;
  for (unsigned i = 1; i <= 2; i++) {
    send_post(&client, "/wait", "{}");
    TURN_UNTIL(late);
    peer_close(&client, i == 1);
    TURN_UNTIL(gone == i);
    assert_int_equal(lw_request_count(), 0);
    peer_open(&client, lw_server_port(server));
  }
}

static void leaving_in_the_middle_of_the_body(void **state) {
  (void)state;
  peer_send(&client, "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{");
  turn_for(5);
  peer_close(&client, true);
  TURN_UNTIL(lw_server_connections(server) == 0);
  assert_true(!late && gone == 0);
}

static void what_is_refused_on_the_head(void **state) {
  (void)state;
  send_head("POST /now", "Content-Encoding: gzip\r\nContent-Length: 1\r\n");
  ANSWERED(&client, "415 ", "must not be compressed");
  peer_close(&client, false);
  peer_open(&client, lw_server_port(server));
  send_head("POST /now", "Content-Length: 262145\r\n");
  ANSWERED(&client, "413 ", "error");
  assert_int_equal(answered, 0);
}

static void a_small_limit_holds_for_builtins_too(void **state) {
  (void)state;
  lw_service_get()->max_body = 10;
  peer_clear(&client);
  send_post(&client, "/now", "1234567890");
  ANSWERED(&client, "200 OK", "now 10");
  send_head("POST /now", "Content-Length: 11\r\n");
  ANSWERED(&client, "413 ", "error");
}

static void draining_refuses_new_work_only(void **state) {
  (void)state;
  lw_service_get()->draining = true;
  peer_clear(&client);
  send_post(&client, "/now", "1");
  ANSWERED(&client, "200 OK", "now 1");
  send_head("GET /health", "");
  model_answers(200, "well");
  ANSWERED(&client, "200 OK", "well");
  peer_clear(&client);
  ask(&client, "/serial");
  ANSWERED(&client, "503 ", "{\"error\":\"the worker is draining\"}");
  assert_non_null(strstr(client.text, "\r\nRetry-After: 1\r\n"));
  expect_counts(0, 0, 0, 0);
}

/* The routes change between a request's head and its end. */
static void a_route_that_is_gone_when_the_body_is_there(void **state) {
  (void)state;
  static const char body[] = ENVELOPE("{}");
  char *head = lw_printf_dup("POST /serial HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n",
                             sizeof body - 1);
  peer_send(&client, head);
  free(head);
  turn_for(5);
  lw_router *old = site.router;
  site.router = lw_router_new();
  site.router->retire = on_retire;
  lw_router_unref(old);
  peer_send(&client, body);
  ANSWERED(&client, "404 ", "no such path");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(builtins_answer_before_routes),
      TEST(without_a_body_they_answer_too),
      TEST(other_methods),
      TEST(one_path_by_two_methods),
      TEST(a_port_without_routes),
      TEST(a_late_answer),
      TEST(leaving_before_a_late_answer),
      TEST(leaving_in_the_middle_of_the_body),
      TEST(what_is_refused_on_the_head),
      TEST(a_small_limit_holds_for_builtins_too),
      TEST(draining_refuses_new_work_only),
      TEST(a_route_that_is_gone_when_the_body_is_there),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

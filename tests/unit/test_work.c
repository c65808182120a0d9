/* SPDX-License-Identifier: MIT
 * One request's walk through C: what the client gets, what the model gets, what is counted, in
 * every way a request can end. With scripts: test_work_hooks.c. */
#include "walk.h"

/* -- the short way: all in C -- */

static void the_payload_goes_to_the_model_as_it_came(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count);
  assert_string_equal(model.last, "POST /go {\"a\": 1.50}");
  lw_span type;
  assert_true(lw_headers_get(&model.held[0]->head->headers, LW_SPAN("content-type"), &type));
  assert_true(lw_span_eq(type, LW_SPAN("application/json")));
  lw_account *a = lw_service_get()->account;
  assert_int_equal(lw_account_in_flight(a), 1);
  assert_int_equal(lw_account_queued(a), 0);
  assert_true(lw_account_load(a) == 100);
  model_answers(200, "{\"b\":2}");
  ANSWERED(&client, "200 OK", "{\"b\":2}");
  assert_true(peer_has(&client, model.id));
  expect_counts(1, 0, 0, 0);
}

static void the_next_request_of_a_connection_is_a_new_one(void **state) {
  (void)state;
  for (unsigned i = 1; i <= 3; i++) {
    peer_clear(&client);
    ask(&client, i % 2 ? "/go" : "/serial");
    model_answers(200, "{}");
    ANSWERED(&client, "200 OK", "{}");
    expect_counts(i, 0, 0, 0);
  }
}

static void forwarding_takes_the_query_along(void **state) {
  (void)state;
  peer_send(&client,
            "GET /health?x=1&y HTTP/1.1\r\nHost: h\r\nX-Other: z\r\nX-Request-Id: mine\r\n\r\n");
  TURN_UNTIL(model.count);
  assert_string_equal(model.last, "GET /health?x=1&y ");
  assert_string_equal(model.id, "mine");
  lw_span other;
  assert_true(lw_headers_get(&model.held[0]->head->headers, LW_SPAN("x-other"), &other));
  model_answers(503, "not yet");
  ANSWERED(&client, "503 Service Unavailable", "not yet");
  expect_counts(0, 0, 0, 0);
}

static void forwarding_a_head_request(void **state) {
  (void)state;
  peer_send(&client, "HEAD /health HTTP/1.1\r\nHost: h\r\n\r\n");
  TURN_UNTIL(model.count);
  assert_string_equal(model.last, "HEAD /health ");
  model_answers(200, "12345");
  ANSWERED(&client, "200 OK", "\r\nContent-Length: 5\r\n");
  assert_false(peer_has(&client, "12345"));
}

/* -- refusals -- */

static void what_is_refused_before_it_is_counted(void **state) {
  (void)state;
  static const struct {
    const char *body, *status, *answer;
  } cases[] = {
      {"nonsense", "422 ", "{\"error\":\"invalid JSON\"}"},
      {"{}", "422 ", "{\"auth_data\":\"field missing\",\"payload\":\"field missing\"}"},
      {"{\"auth_data\":{},\"payload\":{}}", "422 ", "\"signature\":\"missing parameter\""},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    peer_clear(&client);
    send_post(&client, "/go", cases[i].body);
    TURN_UNTIL(peer_has(&client, cases[i].answer));
    assert_non_null(strstr(client.text, cases[i].status));
  }
  expect_counts(0, 0, 0, 0);
  assert_int_equal(lw_account_totals(lw_service_get()->account)->received, 0);
}

static void an_unknown_session_is_gone(void **state) {
  (void)state;
  char *body = lw_printf_dup("%.*s,\"session_id\":\"abc\"}", (int)strlen(ENVELOPE("{}")) - 1,
                             ENVELOPE("{}"));
  send_post(&client, "/go", body);
  free(body);
  ANSWERED(&client, "410 Gone", "{\"error\":\"invalid session\"}");
  expect_counts(0, 0, 0, 0);
}

static void heads_that_no_route_takes(void **state) {
  (void)state;
  static const struct {
    const char *request, *status, *field;
  } cases[] = {
      {"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 404 ", "no such path"},
      {"GET /go HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405 ", "\r\nAllow: POST\r\n"},
      {"DELETE /ping HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405 ", "\r\nAllow: GET, HEAD\r\n"},
      {"POST /go HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 411 ", "Content-Length"},
      {"POST /go HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
       "HTTP/1.1 415 ", "compressed"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    peer p;
    peer_open(&p, lw_server_port(server));
    peer_send(&p, cases[i].request);
    TURN_UNTIL(peer_has(&p, cases[i].status) && peer_has(&p, cases[i].field));
    peer_close(&p, false);
  }
  assert_int_equal(model.count, 0);
}

static void signatures(void **state) {
  (void)state;
  lw_service *s = lw_service_get();
  s->unsecured = false;
  ask(&client, "/go"); /* there is no key yet */
  ANSWERED(&client, "401 Unauthorized", "{\"error\":\"invalid signature\"}");
  lw_signer *signer = lw_signer_new(2048);
  char *pem = lw_signer_public_pem(signer);
  const char *why;
  assert_int_equal(lw_auth_set_key(s->auth, lw_span_of(pem), &why), LW_OK);
  peer_clear(&client);
  ask(&client, "/go");
  ANSWERED(&client, "401 Unauthorized", "invalid signature");
  expect_counts(0, 0, 0, 2);
  char *signature = lw_signer_sign(signer, LW_SPAN("{\n    \"url\": \"http://u\"\n}"));
  char *body = lw_printf_dup(
      "{\"auth_data\":{\"cost\":50,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,"
      "\"signature\":\"%s\",\"url\":\"http://u\"},\"payload\":{}}",
      signature);
  peer_clear(&client);
  send_post(&client, "/go", body);
  model_answers(200, "signed");
  ANSWERED(&client, "200 OK", "signed");
  expect_counts(1, 0, 0, 2);
  assert_int_equal(started, 0);
  free(body);
  free(signature);
  free(pem);
  lw_signer_free(signer);
}

/* No script sees a request whose signature was not verified. */
static void hooks_never_see_a_bad_signature(void **state) {
  (void)state;
  lw_service_get()->unsecured = false;
  ask(&client, "/hooked");
  ANSWERED(&client, "401 Unauthorized", "invalid signature");
  assert_int_equal(started, 0);
}

/* -- models that fail -- */

static void a_failing_model_is_an_error(void **state) {
  (void)state;
  ask(&client, "/go");
  model_answers(500, "{\"it\":\"broke\"}");
  ANSWERED(&client, "500 Internal Server Error", "{\"it\":\"broke\"}");
  expect_counts(0, 1, 0, 0);
  peer_clear(&client);
  ask(&client, "/go");
  model_answers(400, "your fault");
  ANSWERED(&client, "400 Bad Request", "your fault");
  expect_counts(1, 1, 0, 0);
}

static void point_elsewhere(const char *url) {
  assert_int_equal(lw_router_set_text(site.router, "model_server_url", lw_span_of(url)), LW_OK);
  lw_router_seal(site.router);
}

static void a_model_that_is_not_there(void **state) {
  (void)state;
  point_elsewhere("http://127.0.0.1:1");
  ask(&client, "/go");
  ANSWERED(&client, "502 Bad Gateway", "\"source\":\"model\"}");
  assert_true(peer_has(&client, "{\"error\":\"the model refused the connection\","));
  expect_counts(0, 1, 0, 0);
}

static void a_silent_model(void **state) {
  (void)state;
  set(route("/go"), "first_byte", 0.05);
  ask(&client, "/go");
  ANSWERED(&client, "504 Gateway Timeout", "\"source\":\"model\"}");
  expect_counts(0, 1, 0, 0);
  TURN_UNTIL(model.gone == 1);
}

static void a_model_that_breaks_off(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count);
  lw_request *r = model.held[0];
  forget_held(r);
  lw_response_head(r, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(r, "half", 4);
  TURN_UNTIL(peer_has(&client, "half"));
  lw_response_cut(r);
  lw_request_release(r);
  TURN_UNTIL(peer_ended(&client));
  assert_false(peer_has(&client, "\r\n0\r\n\r\n"));
  expect_counts(0, 1, 0, 0);
}

/* -- the queue -- */

static void one_at_a_time_in_their_order(void **state) {
  (void)state;
  peer second, third;
  peer_open(&second, lw_server_port(server));
  peer_open(&third, lw_server_port(server));
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  ask(&second, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  ask(&third, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 2);
  assert_int_equal(lw_account_queued(lw_service_get()->account), 2);
  turn_for(10);
  assert_int_equal(model.count, 1);
  model_answers(200, "first");
  ANSWERED(&client, "200 OK", "first");
  model_answers(200, "second");
  ANSWERED(&second, "200 OK", "second");
  model_answers(200, "third");
  ANSWERED(&third, "200 OK", "third");
  expect_counts(3, 0, 0, 0);
  peer_close(&second, false);
  peer_close(&third, false);
}

static void parallel_ones_pass_the_queue(void **state) {
  (void)state;
  peer second;
  peer_open(&second, lw_server_port(server));
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  ask(&second, "/go");
  TURN_UNTIL(model.count == 2);
  model_answers(200, "a");
  model_answers(200, "b");
  ANSWERED(&second, "200 OK", "b");
  peer_close(&second, false);
}

static void a_full_queue_refuses(void **state) {
  (void)state;
  peer more[3];
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  for (int i = 0; i < 3; i++) {
    peer_open(&more[i], lw_server_port(server));
    ask(&more[i], "/serial");
    if (i < 2) TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == (unsigned)i + 1);
  }
  ANSWERED(&more[2], "429 Too Many Requests", "\r\nRetry-After: ");
  expect_counts(0, 0, 0, 1);
  for (int i = 0; i < 3; i++) model_answers(200, "done");
  for (int i = 0; i < 2; i++) ANSWERED(&more[i], "200 OK", "done");
  for (int i = 0; i < 3; i++) peer_close(&more[i], false);
  expect_counts(3, 0, 0, 1);
}

static void too_long_an_estimate_refuses(void **state) {
  (void)state;
  peer second;
  peer_open(&second, lw_server_port(server));
  measured(10);
  set(route("/go"), "max_queue_time", 3);
  ask(&client, "/go"); /* nothing is in flight: no wait */
  TURN_UNTIL(model.count == 1);
  ask(&second, "/go"); /* 100 / 10 = 10 s */
  ANSWERED(&second, "429 Too Many Requests", "\r\nRetry-After: 7\r\n");
  expect_counts(0, 0, 0, 1);
  assert_true(lw_account_load(lw_service_get()->account) == 100);
  model_answers(200, "done");
  ANSWERED(&client, "200 OK", "done");
  peer_close(&second, false);
}

static void waiting_too_long_is_refused(void **state) {
  (void)state;
  peer second;
  peer_open(&second, lw_server_port(server));
  set(route("/serial"), "max_queue_time", 0.05);
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  ask(&second, "/serial");
  ANSWERED(&second, "429 Too Many Requests", "\r\nRetry-After: ");
  assert_int_equal(lw_queue_waiting(lw_service_get()->queue), 0);
  model_answers(200, "done");
  ANSWERED(&client, "200 OK", "done");
  expect_counts(1, 0, 0, 1);
  peer_close(&second, false);
}

/* -- clients that leave -- */

static void leaving_stops_the_model(void **state) {
  (void)state;
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  peer_close(&client, false);
  TURN_UNTIL(model.gone == 1);
  expect_counts(0, 0, 1, 0);
  peer_open(&client, lw_server_port(server)); /* and the slot is free */
  ask(&client, "/serial");
  model_answers(200, "next");
  ANSWERED(&client, "200 OK", "next");
}

static void leaving_the_queue(void **state) {
  (void)state;
  peer second, third;
  peer_open(&second, lw_server_port(server));
  peer_open(&third, lw_server_port(server));
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  ask(&second, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  ask(&third, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 2);
  peer_close(&second, false);
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  expect_counts(0, 0, 1, 0);
  model_answers(200, "first");
  model_answers(200, "third");
  ANSWERED(&third, "200 OK", "third");
  expect_counts(2, 0, 1, 0);
  peer_close(&third, false);
}

static void leaving_mid_stream(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count);
  lw_response_head(model.held[0], 200, LW_LENGTH_UNKNOWN);
  lw_response_body(model.held[0], "one", 3);
  TURN_UNTIL(peer_has(&client, "one"));
  peer_close(&client, true);
  TURN_UNTIL(model.gone == 1);
  expect_counts(0, 0, 1, 0);
}

/* -- other worlds -- */

static void a_worker_without_a_model_says_so(void **state) {
  (void)state;
  lw_router_unref(site.router);
  free(model_url);
  model_url = NULL;
  make_router();
  ask(&client, "/go");
  ANSWERED(&client, "500 ", "the worker has no model_server_url");
  peer_clear(&client);
  peer_send(&client, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  ANSWERED(&client, "500 ", "the worker has no model_server_url");
}

static void a_request_ends_on_the_routes_it_began_with(void **state) {
  (void)state;
  ask(&client, "/go");
  TURN_UNTIL(model.count);
  lw_router_unref(site.router);
  make_router();
  turn_for(1);
  assert_int_equal(retired, 0);
  model_answers(200, "old");
  ANSWERED(&client, "200 OK", "old");
  TURN_UNTIL(retired == 1);
}

/* on_disconnect = "drain": the model is let to the end of its answer, and only then the next. */
static void leaving_lets_the_model_end_where_it_is_asked_for(void **state) {
  (void)state;
  peer second;
  peer_open(&second, lw_server_port(server));
  set(route("/serial"), "drain_on_disconnect", 1);
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  lw_response_head(model.held[0], 200, LW_LENGTH_UNKNOWN);
  lw_response_body(model.held[0], "one", 3);
  TURN_UNTIL(peer_has(&client, "one"));
  ask(&second, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  peer_close(&client, true);
  turn_for(30);
  assert_int_equal(model.gone, 0);
  assert_int_equal(model.count, 1);
  lw_request *r = model.held[0];
  forget_held(r);
  lw_response_body(r, "two", 3);
  lw_response_end(r);
  lw_request_release(r);
  model_answers(200, "second");
  ANSWERED(&second, "200 OK", "second");
  expect_counts(1, 0, 1, 0);
  peer_close(&second, false);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_payload_goes_to_the_model_as_it_came),
      TEST(the_next_request_of_a_connection_is_a_new_one),
      TEST(forwarding_takes_the_query_along),
      TEST(forwarding_a_head_request),
      TEST(what_is_refused_before_it_is_counted),
      TEST(an_unknown_session_is_gone),
      TEST(heads_that_no_route_takes),
      TEST(signatures),
      TEST(hooks_never_see_a_bad_signature),
      TEST(a_failing_model_is_an_error),
      TEST(a_model_that_is_not_there),
      TEST(a_silent_model),
      TEST(a_model_that_breaks_off),
      TEST(one_at_a_time_in_their_order),
      TEST(parallel_ones_pass_the_queue),
      TEST(a_full_queue_refuses),
      TEST(too_long_an_estimate_refuses),
      TEST(waiting_too_long_is_refused),
      TEST(leaving_stops_the_model),
      TEST(leaving_the_queue),
      TEST(leaving_mid_stream),
      TEST(leaving_lets_the_model_end_where_it_is_asked_for),
      TEST(a_worker_without_a_model_says_so),
      TEST(a_request_ends_on_the_routes_it_began_with),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

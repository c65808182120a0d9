/* SPDX-License-Identifier: MIT
 * What clients get from /session/create, get, health and end: each status and body, in the order of
 * the checks. */
#include "sessions.h"
#include "wire/doc.h"

#define CREATE(payload) "{\"auth_data\":" AUTH ",\"payload\":" payload "}"

/* The answer's body, and nothing else. */
static const char *answer_to(const char *path, const char *body, const char *status) {
  peer_clear(&client);
  send_post(&client, path, body);
  char *line = lw_printf_dup("HTTP/1.1 %s", status);
  TURN_UNTIL(peer_has(&client, "\r\n\r\n") && peer_has(&client, "}"));
  if (strncmp(client.text, line, strlen(line)) != 0) fail_msg("%s: %s", body, client.text);
  free(line);
  return strstr(client.text, "\r\n\r\n") + 4;
}

static void expect(const char *path, const char *body, const char *status, const char *wanted) {
  const char *got = answer_to(path, body, status);
  if (strcmp(got, wanted) != 0) fail_msg("%s %.200s: got %s, want %s", path, body, got, wanted);
}

static void expect_about(const char *path, const char *id, const char *auth, const char *status,
                         const char *wanted) {
  char *body = lw_printf_dup("{\"session_auth\":%s,\"session_id\":\"%s\"}", auth, id);
  expect(path, body, status, wanted);
  free(body);
}

/* Creates one and gives its id, good until the next. */
static const char *create(const char *body) {
  static char id[LW_SESSION_ID_SIZE + 1];
  const char *got = answer_to("/session/create", body, "201 Created");
  lw_doc *d = lw_doc_parse_copy(got, strlen(got));
  const lw_json *j = &d->json;
  assert_null(j->error);
  assert_int_equal(j->nodes[0].count, 2);
  lw_span s = lw_json_string(j, lw_json_member(j, 0, LW_SPAN("session_id")));
  assert_int_equal(s.n, LW_SESSION_ID_SIZE);
  memcpy(id, s.p, s.n);
  const lw_json_node *n = &j->nodes[lw_json_member(j, 0, LW_SPAN("expiration"))];
  double expiration = n->kind == LW_JSON_INT ? (double)n->integer : n->number;
  assert_true(expiration == lw_session_find(lw_span_of(id))->expiration);
  lw_doc_unref(d);
  return id;
}

/* -- create -- */

static void bodies_that_are_refused(void **state) {
  (void)state;
  static const char no_json[] = "{\"error\":\"invalid JSON\"}";
  expect("/session/create", "", "422", no_json);
  expect("/session/create", "{", "422", no_json);
  expect("/session/create", "{}", "422",
         "{\"auth_data\":\"field missing\",\"payload\":\"field missing\"}");
  expect("/session/create", "{\"auth_data\":" AUTH "}", "422", "{\"payload\":\"field missing\"}");
  answer_to("/session/create", "{\"auth_data\":{\"url\":\"u\"},\"payload\":{}}", "422");
  assert_non_null(strstr(client.text, "\"signature\":\"missing parameter\""));
  assert_int_equal(lw_account_totals(lw_service_get()->account)->received, 0);
  static const char *const paths[] = {"/session/get", "/session/health", "/session/end"};
  for (int i = 0; i < 3; i++) {
    static const char no_id[] = "{\"error\":\"missing session_id\"}";
    expect(paths[i], "", "422", no_json);
    expect(paths[i], "nonsense", "422", no_json);
    expect(paths[i], "{}", "422", no_id);
    expect(paths[i], "[]", "422", no_id);
    expect(paths[i], "{\"session_id\":5}", "422", no_id);
    expect(paths[i], "{\"session_id\":null}", "422", no_id);
  }
}

static void payloads_that_are_refused(void **state) {
  (void)state;
  static const char *const lifetimes[] = {
      "0",    "-1",   "\"60\"", "true",      "[]",
      "{}",   "1e99", "-0.0",   "2592000.5", "18446744073709551615",
      "1e999"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(lifetimes); i++) {
    char *body =
        lw_printf_dup("{\"auth_data\":" AUTH ",\"payload\":{\"lifetime\":%s}}", lifetimes[i]);
    answer_to("/session/create", body, "422");
    assert_non_null(strstr(client.text, "{\"payload\":{\"lifetime\":\""));
    free(body);
  }
  static const char *const routes[] = {
      "\"\"",         "\"bye\"",  "\"http://h/bye\"", "5",  "\"/a b\"", "\"/a\\n\"",
      "\"/\\u00e9\"", "\"/a#b\"", "\"/\\u0000\"",     "[]", "\"@h/\"",  "\"/\\u007f\""};
  for (size_t i = 0; i < LW_ARRAY_SIZE(routes); i++) {
    char *body =
        lw_printf_dup("{\"auth_data\":" AUTH ",\"payload\":{\"on_close_route\":%s}}", routes[i]);
    answer_to("/session/create", body, "422");
    assert_non_null(strstr(client.text, "{\"payload\":{\"on_close_route\":\""));
    free(body);
  }
  assert_int_equal(lw_sessions_count(), 0);
  assert_int_equal(lw_account_totals(lw_service_get()->account)->received, 0);
}

static void texts_that_are_too_long(void **state) {
  (void)state;
  char *text = lw_alloc(LW_SESSION_TEXT_MAX + 1);
  memset(text, 'x', LW_SESSION_TEXT_MAX);
  text[LW_SESSION_TEXT_MAX] = 0;
  char *body =
      lw_printf_dup("{\"auth_data\":" AUTH ",\"payload\":{\"on_close_payload\":\"%s\"}}", text);
  expect("/session/create", body, "422",
         "{\"payload\":{\"on_close_payload\":\"longer than 65536 bytes\"}}");
  free(body);
  body = lw_printf_dup("{\"auth_data\":{\"x\":\"%s\",%s,\"payload\":{}}", text, AUTH + 1);
  expect("/session/create", body, "422", "{\"auth_data\":\"longer than 65536 bytes\"}");
  free(body);
  text[LW_SESSION_TEXT_MAX - 2] = 0; /* with its quotes it just fits */
  body = lw_printf_dup("{\"auth_data\":" AUTH ",\"payload\":{\"on_close_payload\":\"%s\"}}", text);
  create(body);
  free(body);
  free(text);
  peer_send(&client, "POST /session/get HTTP/1.1\r\nHost: h\r\nContent-Length: 262145\r\n\r\n");
  ANSWERED(&client, "413 ", "error");
}

static void signatures_come_before_the_payload(void **state) {
  (void)state;
  lw_service_get()->unsecured = false;
  expect("/session/create", CREATE("{\"lifetime\":0}"), "401", "{\"error\":\"invalid signature\"}");
  expect_counts(0, 0, 0, 1);
  assert_true(lw_account_totals(lw_service_get()->account)->rejected_workload == 0);
}

static void one_too_many(void **state) {
  (void)state;
  lw_account *a = lw_service_get()->account;
  lw_account_keep_ended(a, true);
  site.router->max_sessions = 1;
  create(CREATE("{}"));
  expect("/session/create", CREATE("{}"), "429", "{\"error\":\"too many sessions are open\"}");
  assert_non_null(strstr(client.text, "\r\nRetry-After: "));
  expect_counts(0, 0, 0, 1);
  lw_ended ended;
  assert_int_equal(lw_account_ended(a, &ended, 1), 1);
  assert_true(ended.request_idx == 9 && ended.outcome == LW_REJECTED);
}

static void a_draining_worker_takes_none(void **state) {
  (void)state;
  lw_service_get()->draining = true;
  expect("/session/create", CREATE("{}"), "503", "{\"error\":\"the worker is draining\"}");
  lw_service_get()->draining = false;
  const char *id = create(CREATE("{}"));
  lw_service_get()->draining = true; /* what is open goes on */
  expect_about("/session/health", id, AUTH, "200", "{\"ok\":true}");
  lw_service_get()->draining = false;
}

/* -- get -- */

static void values_come_back_as_they_were_written(void **state) {
  (void)state;
  static const struct {
    const char *payload, *wanted;
  } cases[] = {
      {"{}", "\"lifetime\":60,%s\"on_close_route\":null,\"on_close_payload\":null}"},
      {"{\"lifetime\":null,\"on_close_route\":null,\"on_close_payload\":null}",
       "\"lifetime\":60,%s\"on_close_route\":null,\"on_close_payload\":null}"},
      {"{\"lifetime\":60.0,\"on_close_route\":\"\\/a\\u0062?c=%20\",\"on_close_payload\":{ \"x\" : "
       "1.50,\"x\":[ ]}}",
       "\"lifetime\":60.0,%s\"on_close_route\":\"/ab?c=%20\",\"on_close_payload\":{ \"x\" : "
       "1.50,\"x\":[ ]}}"},
      {"{\"lifetime\":1e-3,\"on_close_payload\":9007199254740993}",
       "\"lifetime\":1e-3,%s\"on_close_route\":null,\"on_close_payload\":9007199254740993}"},
      {"{\"lifetime\":10.000000000000000000000000000000000}", "\"lifetime\":10,%s"},
      {"{\"lifetime\":2592000}", "\"lifetime\":2592000,%s"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char *body = lw_printf_dup("{\"auth_data\":" AUTH ",\"payload\":%s}", cases[i].payload);
    const char *id = create(body);
    free(body);
    lw_session *s = lw_session_find(lw_span_of(id));
    char expiration[32] = "", created_at[32] = "", times[120];
    lw_json_number_text(expiration, s->expiration);
    lw_json_number_text(created_at, s->created_at);
    snprintf(times, sizeof times, "\"expiration\":%s,\"created_at\":%s,", expiration, created_at);
    char *wanted = lw_printf_dup("{\"session_id\":\"%s\",\"auth_data\":" AUTH ",", id);
    const char *gap = strstr(cases[i].wanted, "%s");
    char *whole = lw_printf_dup("%s%.*s%s%s", wanted, (int)(gap - cases[i].wanted), cases[i].wanted,
                                times, gap + 2);
    body = lw_printf_dup("{\"session_id\":\"%s\",\"session_auth\":" AUTH "}", id);
    const char *got = answer_to("/session/get", body, "200 OK");
    if (strncmp(got, whole, strlen(whole)) != 0) fail_msg("got %s, want %s", got, whole);
    lw_doc *d = lw_doc_parse_copy(got, strlen(got));
    assert_null(d->json.error);
    lw_doc_unref(d);
    free(body), free(whole), free(wanted);
  }
}

/* -- who may ask -- */

static void the_credentials_are_compared_as_values(void **state) {
  (void)state;
  char id[LW_SESSION_ID_SIZE + 1];
  strcpy(id, create(CREATE("{}")));
  static const char *const good[] = {
      AUTH,
      "{\"url\":\"http:\\/\\/u\",\"signature\":\"s\",\"request_idx\":9.0,\"reqnum\":7e0,"
      "\"endpoint\":\"\\u0065\",\"cost\":5e1}",
      "{\"cost\":1,\"cost\":50,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,\"signature\":"
      "\"s\","
      "\"url\":\"http://u\"}",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(good); i++) {
    expect_about("/session/health", id, good[i], "200", "{\"ok\":true}");
  }
  static const char *const bad[] = {
      "null",
      "{}",
      "\"s\"",
      "[" AUTH "]",
      "{\"cost\":50}",
      "{\"cost\":50,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,\"signature\":\"t\","
      "\"url\":\"http://u\"}",
      "{\"cost\":50,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,\"signature\":\"s\","
      "\"url\":\"http://u\",\"more\":1}",
  };
  static const char *const paths[] = {"/session/get", "/session/health", "/session/end"};
  static const char differs[] = "{\"error\":\"session_auth is not valid\"}";
  for (size_t i = 0; i < 3 * LW_ARRAY_SIZE(bad); i++) {
    expect_about(paths[i % 3], id, bad[i / 3], "401", differs);
  }
  char *body = lw_printf_dup("{\"session_id\":\"%s\"}", id);
  for (int i = 0; i < 3; i++) expect(paths[i], body, "401", differs);
  free(body);
  assert_int_equal(lw_sessions_count(), 1);
}

static void unknown_ones(void **state) {
  (void)state;
  static const char *const ids[] = {"", "x", "0123456789abc", "0123456789abcd"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(ids); i++) {
    expect_about("/session/get", ids[i], AUTH, "400", "{\"error\":\"session does not exist\"}");
    expect_about("/session/end", ids[i], AUTH, "400", "{\"error\":\"session does not exist\"}");
    expect_about("/session/health", ids[i], AUTH, "200", "{\"ok\":false}");
  }
}

/* -- end -- */

static char *ended(const char *id) {
  return lw_printf_dup("{\"ended\":true,\"removed_session\":\"%s\"}", id);
}

static void ending_one_that_tells_nobody(void **state) {
  (void)state;
  const char *id = create(CREATE("{\"on_close_payload\":{\"a\":1}}"));
  char *wanted = ended(id);
  expect_about("/session/end", id, AUTH, "200", wanted);
  expect_about("/session/end", id, AUTH, "400", "{\"error\":\"session does not exist\"}");
  expect_about("/session/health", id, AUTH, "200", "{\"ok\":false}");
  free(wanted);
  turn_for(10);
  assert_int_equal(model.count, 0);
  expect_counts(1, 0, 0, 0);
}

static void the_answer_waits_for_the_model_server(void **state) {
  (void)state;
  peer other;
  peer_open(&other, lw_server_port(server));
  const char *id = create(CREATE("{\"on_close_route\":\"/bye\"}"));
  char *wanted = ended(id);
  ask_about(&other, "/session/end", id, AUTH);
  TURN_UNTIL(model.count);
  expect_about("/session/end", id, AUTH, "410", "{\"error\":\"session already closed\"}");
  expect_about("/session/end", id, "{}", "401", "{\"error\":\"session_auth is not valid\"}");
  expect_about("/session/get", id, AUTH, "400", "{\"error\":\"session does not exist\"}");
  expect_about("/session/health", id, AUTH, "200", "{\"ok\":false}");
  assert_false(peer_has(&other, "HTTP"));
  model_answers(503, "not a reason to fail");
  ANSWERED(&other, "200 OK", wanted);
  expect_about("/session/end", id, AUTH, "400", "{\"error\":\"session does not exist\"}");
  expect_counts(1, 0, 0, 0);
  free(wanted);
  peer_clear(&other); /* and the connection is good for more */
  ask_about(&other, "/session/health", id, AUTH);
  ANSWERED(&other, "200 OK", "{\"ok\":false}");
  peer_close(&other, false);
}

static void its_client_leaves_meanwhile(void **state) {
  (void)state;
  const char *id = create(CREATE("{\"on_close_route\":\"/bye\"}"));
  ask_about(&client, "/session/end", id, AUTH);
  TURN_UNTIL(model.count);
  peer_close(&client, true);
  TURN_UNTIL(lw_server_connections(server) == 0);
  assert_int_equal(model.gone, 0); /* the model server is told all the same */
  model_answers(200, "");
  TURN_UNTIL(!lw_session_find(lw_span_of(id)));
}

static void the_worker_stops_meanwhile(void **state) {
  (void)state;
  const char *id = create(CREATE("{\"on_close_route\":\"/bye\"}"));
  char *wanted = ended(id);
  peer_clear(&client);
  ask_about(&client, "/session/end", id, AUTH);
  TURN_UNTIL(model.count);
  lw_sessions_stop();
  ANSWERED(&client, "200 OK", wanted);
  TURN_UNTIL(model.gone == 1);
  free(wanted);
}

/* 32 sessions hold all calls; the client of the next shall not wait for as long as they do. */
static void patience_has_an_end(void **state) {
  (void)state;
  int fd = open_abyss();
  site.router->max_sessions = 0;
  for (int i = 0; i < 32; i++) assert_true(lw_session_close(open_one("/bye", NULL)));
  const char *id = create(CREATE("{\"on_close_route\":\"/bye\"}"));
  char *wanted = ended(id);
  peer_clear(&client);
  ask_about(&client, "/session/end", id, AUTH);
  TURN_UNTIL(lw_session_find(lw_span_of(id))->ender);
  lw_sessions_expire(clock_s() + 9);
  turn_for(5);
  assert_false(peer_has(&client, "HTTP"));
  lw_sessions_expire(clock_s() + 11);
  assert_null(lw_session_find(lw_span_of(id))->ender);
  ANSWERED(&client, "200 OK", wanted);
  free(wanted);
  close(fd);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(bodies_that_are_refused),
      TEST(payloads_that_are_refused),
      TEST(texts_that_are_too_long),
      TEST(signatures_come_before_the_payload),
      TEST(one_too_many),
      TEST(a_draining_worker_takes_none),
      TEST(values_come_back_as_they_were_written),
      TEST(the_credentials_are_compared_as_values),
      TEST(unknown_ones),
      TEST(ending_one_that_tells_nobody),
      TEST(the_answer_waits_for_the_model_server),
      TEST(its_client_leaves_meanwhile),
      TEST(the_worker_stops_meanwhile),
      TEST(patience_has_an_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

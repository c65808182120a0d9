/* SPDX-License-Identifier: MIT
 * The life of sessions: their ids, their time by a clock that the test sets, what becomes of the
 * requests in them, the calls to the model server when they end, and all that is bounded. */
#include "sessions.h"

/* -- opening -- */

static void ids_are_13_letters_and_digits(void **state) {
  (void)state;
  static bool seen[256];
  char ids[300][LW_SESSION_ID_SIZE + 1];
  site.router->max_sessions = 0;
  for (int i = 0; i < 300; i++) {
    strcpy(ids[i], open_one(NULL, NULL)->id);
    assert_int_equal(strlen(ids[i]), 13);
    for (int k = 0; k < 13; k++) seen[(unsigned char)ids[i][k]] = true;
    for (int k = 0; k < i; k++) assert_string_not_equal(ids[i], ids[k]);
  }
  for (int c = 0; c < 256; c++) {
    bool sign = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (seen[c] != sign) fail_msg("%c: %d", c, seen[c]);
  }
  assert_int_equal(lw_sessions_count(), 300);
  for (int i = 0; i < 300; i++) {
    lw_session *s = lw_session_find(lw_span_of(ids[i]));
    assert_string_equal(s->id, ids[i]);
    if (i % 2) assert_false(lw_session_close(s));
  }
  for (int i = 0; i < 300; i++) {
    assert_true(!lw_session_find(lw_span_of(ids[i])) == (i % 2 == 1));
  }
  assert_null(lw_session_find(LW_SPAN("")));
  assert_null(lw_session_find(LW_SPAN("0123456789abc0")));
}

static void it_is_one_request_in_flight(void **state) {
  (void)state;
  lw_account *a = lw_service_get()->account;
  lw_session *s = open_one(NULL, NULL);
  assert_int_equal(lw_account_in_flight(a), 1);
  assert_int_equal(lw_account_told(a), 1);
  assert_int_equal(lw_account_queued(a), 0);
  assert_true(lw_account_load(a) == 50 && lw_account_wait_load(a) == 0);
  assert_true(s->record.request_idx == 9 && s->record.reqnum == 7);
  assert_false(lw_session_close(s));
  assert_int_equal(lw_account_in_flight(a), 0);
  expect_counts(1, 0, 0, 0);
}

static void max_sessions_are_open_at_once(void **state) {
  (void)state;
  lw_session_terms t = terms(NULL, NULL);
  const char *why = NULL;
  site.router->max_sessions = 2;
  lw_session *s = open_one(NULL, NULL);
  open_one(NULL, NULL);
  assert_null(lw_session_open(&t, &why));
  assert_string_equal(why, "too many sessions are open");
  lw_session_close(s);
  open_one(NULL, NULL);
  assert_null(lw_session_open(&t, &why));
  site.router->max_sessions = 0;
  for (int i = 0; i < 50; i++) open_one(NULL, NULL);
  assert_int_equal(lw_sessions_count(), 52);
}

static void without_a_limit_there_is_one(void **state) {
  (void)state;
  enum {
    MOST_SESSIONS = 100000
  };
  lw_session_terms t = terms(NULL, NULL);
  const char *why = NULL;
  site.router->max_sessions = 0;
  for (int i = 0; i < MOST_SESSIONS; i++) open_one(NULL, NULL);
  assert_null(lw_session_open(&t, &why));
  assert_non_null(why);
  lw_sessions_expire(clock_s() + MINUTE + 1);
  assert_int_equal(lw_sessions_count(), 0);
  expect_counts(MOST_SESSIONS, 0, 0, 0);
  open_one(NULL, NULL);
}

static void what_is_kept_of_texts_is_bounded(void **state) {
  (void)state;
  static char payload[LW_SESSION_TEXT_MAX + 1];
  memset(payload, ' ', LW_SESSION_TEXT_MAX);
  payload[0] = '1';
  lw_session_terms t = terms("/bye", payload);
  const char *why = NULL;
  int opened = 0;
  site.router->max_sessions = 0;
  while (lw_session_open(&t, &why)) opened++;
  assert_true(opened > 4000 && opened < 4096); /* 256 MB */
  lw_sessions_stop();
  lw_sessions_start(&site);
  open_one("/bye", payload);
}

/* -- time -- */

static void it_expires_when_its_time_is_over(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  char id[sizeof s->id];
  strcpy(id, s->id);
  double due = s->due_s;
  assert_true(s->expiration == s->created_at + MINUTE);
  lw_sessions_expire(due - 0.1);
  assert_non_null(lw_session_find(lw_span_of(id)));
  lw_sessions_expire(due);
  assert_null(lw_session_find(lw_span_of(id)));
  expect_counts(1, 0, 0, 0);
}

static void each_request_in_it_gives_it_another_lifetime(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  double due = s->due_s, expiration = s->expiration;
  for (int i = 1; i <= 3; i++) {
    peer_clear(&client);
    ask_in(&client, "/go", s->id);
    model_answers(200, "{}");
    ANSWERED(&client, "200 OK", "{}");
    assert_true(s->due_s == due + i * MINUTE && s->expiration == expiration + i * MINUTE);
    TURN_UNTIL(lw_list_empty(&s->requests));
  }
  lw_sessions_expire(due + 2 * MINUTE);
  assert_int_equal(lw_sessions_count(), 1);
  lw_sessions_expire(due + 3 * MINUTE);
  assert_int_equal(lw_sessions_count(), 0);
}

static void the_look_comes_by_itself(void **state) {
  (void)state;
  lw_session_terms t = terms(NULL, NULL);
  const char *why;
  t.lifetime = 0.01;
  assert_non_null(lw_session_open(&t, &why));
  TURN_UNTIL(lw_sessions_count() == 0);
}

/* -- requests in it -- */

static void they_weigh_but_are_not_told(void **state) {
  (void)state;
  lw_account *a = lw_service_get()->account;
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/go", s->id);
  TURN_UNTIL(model.count);
  assert_int_equal(lw_account_in_flight(a), 2);
  assert_int_equal(lw_account_told(a), 1);
  assert_true(lw_account_load(a) == 150 && lw_account_wait_load(a) == 0);
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
  TURN_UNTIL(lw_account_in_flight(a) == 1);
}

/* Closes the only session by time. */
static void close_it(void) { lw_sessions_expire(clock_s() + 100 * MINUTE); }

static void dropped_while_the_model_is_silent(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/go", s->id);
  TURN_UNTIL(model.count);
  close_it();
  ANSWERED(&client, "410 Gone", "{\"error\":\"the session was closed\"}");
  TURN_UNTIL(model.gone == 1);
  expect_counts(1, 0, 1, 0);
  peer_clear(&client);
  ask(&client, "/go"); /* the connection goes on */
  model_answers(200, "next");
  ANSWERED(&client, "200 OK", "next");
}

static void dropped_in_the_middle_of_a_stream(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/go", s->id);
  TURN_UNTIL(model.count);
  lw_response_head(model.held[0], 200, LW_LENGTH_UNKNOWN);
  lw_response_body(model.held[0], "one", 3);
  TURN_UNTIL(peer_has(&client, "one"));
  close_it();
  TURN_UNTIL(peer_ended(&client));
  assert_false(peer_has(&client, "\r\n0\r\n\r\n"));
  TURN_UNTIL(model.gone == 1);
  expect_counts(1, 0, 1, 0);
}

static void dropped_in_the_queue(void **state) {
  (void)state;
  peer second, third;
  peer_open(&second, lw_server_port(server));
  peer_open(&third, lw_server_port(server));
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  lw_session *s = open_one(NULL, NULL);
  ask_in(&second, "/serial", s->id);
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  ask(&third, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 2);
  close_it();
  ANSWERED(&second, "410 Gone", "session was closed");
  assert_int_equal(lw_queue_waiting(lw_service_get()->queue), 1);
  model_answers(200, "first");
  ANSWERED(&client, "200 OK", "first");
  model_answers(200, "third");
  ANSWERED(&third, "200 OK", "third");
  expect_counts(3, 0, 1, 0);
  peer_close(&second, false);
  peer_close(&third, false);
}

static void dropped_with_the_slot_in_hand(void **state) {
  (void)state;
  peer second;
  peer_open(&second, lw_server_port(server));
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/serial", s->id);
  TURN_UNTIL(model.count == 1);
  ask(&second, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  close_it();
  ANSWERED(&client, "410 Gone", "session was closed");
  TURN_UNTIL(model.gone == 1);
  model_answers(200, "second");
  ANSWERED(&second, "200 OK", "second");
  expect_counts(2, 0, 1, 0);
  peer_close(&second, false);
}

static void dropped_while_a_script_is_at_work(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/hooked", s->id);
  TURN_UNTIL(started == 1);
  assert_ptr_equal(task.work->session, s);
  lw_account_keep_ended(lw_service_get()->account, true);
  close_it();
  ANSWERED(&client, "410 Gone", "session was closed");
  assert_int_equal(task.cancelled, 1);
  assert_null(task.work->session);
  assert_int_equal(lw_work_admit(task.work, 5), LW_CANCELLED); /* it looks once more */
  lw_work_fail(task.work, 500, "script", "cancelled", (lw_span){0, 0});
  lw_work_task_done(task.work);
  TURN_UNTIL(lw_request_count() == 0);
  expect_counts(1, 0, 1, 0);
  lw_ended told[2]; /* the session alone */
  assert_int_equal(lw_account_ended(lw_service_get()->account, told, 2), 1);
}

static void dropped_while_a_script_reads_the_model(void **state) {
  (void)state;
  lw_wake wake;
  lw_wake_init(&wake, lw_wake_cancel);
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/answered", s->id);
  TURN_UNTIL(started == 1);
  lw_upstream *u = lw_work_call(task.work, &wake);
  lw_upstream_start(u);
  TURN_UNTIL(model.count);
  close_it();
  ANSWERED(&client, "410 Gone", "session was closed");
  assert_false(lw_work_drain(task.work, u));
  lw_upstream_close(u);
  u = lw_work_call(task.work, &wake); /* it tries again, in vain: its record is closed */
  lw_upstream_close(u);
  lw_wake_cancel(&wake);
  lw_work_task_done(task.work);
  TURN_UNTIL(model.gone >= 1);
  expect_counts(1, 0, 1, 0);
}

static void one_that_has_its_answer_is_left_alone(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/answered", s->id);
  TURN_UNTIL(started == 1);
  lw_response_send(task.request, 200, "text/plain", LW_SPAN("done"));
  ANSWERED(&client, "200 OK", "done");
  close_it();
  assert_int_equal(task.cancelled, 0);
  lw_work_task_done(task.work);
  expect_counts(2, 0, 0, 0);
}

static void a_model_that_is_let_to_its_end_is_stopped(void **state) {
  (void)state;
  set(route("/go"), "drain_on_disconnect", 1);
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/go", s->id);
  TURN_UNTIL(model.count);
  peer_close(&client, true);
  turn_for(20);
  assert_int_equal(model.gone, 0);
  close_it();
  TURN_UNTIL(model.gone == 1);
  expect_counts(1, 0, 1, 0);
}

static void its_client_leaves_before_it_is_closed(void **state) {
  (void)state;
  lw_session *s = open_one(NULL, NULL);
  ask_in(&client, "/go", s->id);
  TURN_UNTIL(model.count);
  peer_close(&client, false);
  TURN_UNTIL(model.gone == 1 && lw_list_empty(&s->requests));
  assert_int_equal(lw_sessions_count(), 1);
  close_it();
  expect_counts(1, 0, 1, 0);
}

static void many_at_once(void **state) {
  (void)state;
  enum {
    MANY = 10
  };
  peer peers[MANY];
  lw_session *s = open_one(NULL, NULL);
  for (int i = 0; i < MANY; i++) {
    peer_open(&peers[i], lw_server_port(server));
    ask_in(&peers[i], "/go", s->id);
  }
  TURN_UNTIL(model.count == MANY);
  close_it();
  for (int i = 0; i < MANY; i++) {
    ANSWERED(&peers[i], "410 Gone", "session was closed");
    peer_close(&peers[i], false);
  }
  TURN_UNTIL(model.gone == MANY);
  expect_counts(1, 0, MANY, 0);
}

/* -- the call when it ends -- */

static void what_the_model_server_is_told(void **state) {
  (void)state;
  static const struct {
    const char *payload, *before, *after;
  } cases[] = {
      {NULL, "{\"session_id\":\"", "\"}"},
      {"{}", "{\"session_id\":\"", "\"}"},
      {"{ \"a\": 1.50 }", "{ \"a\": 1.50 ,\"session_id\":\"", "\"}"},
      {"[1, 2]", "{\"payload\":[1, 2],\"session_id\":\"", "\"}"},
      {"\"x\"", "{\"payload\":\"x\",\"session_id\":\"", "\"}"},
      {"false", "{\"payload\":false,\"session_id\":\"", "\"}"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    lw_session *s = open_one("/bye?x=1", cases[i].payload);
    char *wanted = lw_printf_dup("POST /bye?x=1 %s%s%s", cases[i].before, s->id, cases[i].after);
    assert_true(lw_session_close(s));
    TURN_UNTIL(model.count);
    assert_string_equal(model.last, wanted);
    free(wanted);
    model_answers(i % 2 ? 200 : 500, "whatever");
    TURN_UNTIL(lw_upstream_open_count() == 0);
  }
  lw_session_close(open_one("/bye", "{\"session_id\":5}"));
  TURN_UNTIL(model.count);
  assert_string_equal(model.last, "POST /bye {\"session_id\":5}");
  model_answers(200, "");
  TURN_UNTIL(lw_upstream_open_count() == 0);
}

static void closed_it_is_here_until_the_model_was_told(void **state) {
  (void)state;
  lw_session *s = open_one("/bye", NULL);
  char id[sizeof s->id];
  strcpy(id, s->id);
  assert_true(lw_session_close(s));
  assert_int_equal(lw_sessions_count(), 0);
  assert_true(lw_session_find(lw_span_of(id))->closed);
  ask_in(&client, "/go", id);
  ANSWERED(&client, "410 Gone", "{\"error\":\"invalid session\"}");
  close_it(); /* once is enough */
  model_answers(200, "");
  TURN_UNTIL(!lw_session_find(lw_span_of(id)));
  expect_counts(1, 0, 0, 0);
}

static void a_model_server_that_fails(void **state) {
  (void)state;
  assert_int_equal(
      lw_router_set_text(site.router, "model_server_url", LW_SPAN("http://127.0.0.1:1/")), LW_OK);
  assert_true(lw_session_close(open_one("/bye", NULL)));
  TURN_UNTIL(lw_upstream_open_count() == 0);
  free(site.router->model_server_url);
  site.router->model_server_url = NULL;
  assert_false(lw_session_close(open_one("/bye", NULL)));
}

static void few_calls_at_once_and_a_line_that_ends(void **state) {
  (void)state;
  enum {
    CALLS = 32,
    LINE = 1000
  };
  int fd = open_abyss();
  site.router->max_sessions = 0;
  for (int i = 0; i < CALLS + LINE; i++) assert_true(lw_session_close(open_one("/bye", NULL)));
  assert_int_equal(lw_upstream_open_count(), CALLS);
  assert_false(lw_session_close(open_one("/bye", NULL)));
  assert_int_equal(lw_sessions_count(), 0);
  lw_sessions_stop(); /* with all of that under way */
  assert_int_equal(lw_upstream_open_count(), 0);
  expect_counts(CALLS + LINE + 1, 0, 0, 0);
  close(fd);
}

/* -- the end of all -- */

static void stopping_closes_all_without_a_call(void **state) {
  (void)state;
  lw_session *s = open_one("/bye", NULL);
  open_one(NULL, NULL);
  ask_in(&client, "/go", s->id);
  TURN_UNTIL(model.count);
  lw_sessions_stop();
  lw_sessions_stop();
  ANSWERED(&client, "410 Gone", "session was closed");
  TURN_UNTIL(model.gone == 1);
  turn_for(20);
  assert_int_equal(model.count, 0);
  expect_counts(2, 0, 1, 0);
  lw_session_terms t = terms(NULL, NULL);
  const char *why = NULL;
  assert_null(lw_session_open(&t, &why));
  assert_non_null(why);
  lw_sessions_expire(1e18);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(ids_are_13_letters_and_digits),
      TEST(it_is_one_request_in_flight),
      TEST(max_sessions_are_open_at_once),
      TEST(without_a_limit_there_is_one),
      TEST(what_is_kept_of_texts_is_bounded),
      TEST(it_expires_when_its_time_is_over),
      TEST(each_request_in_it_gives_it_another_lifetime),
      TEST(the_look_comes_by_itself),
      TEST(they_weigh_but_are_not_told),
      TEST(dropped_while_the_model_is_silent),
      TEST(dropped_in_the_middle_of_a_stream),
      TEST(dropped_in_the_queue),
      TEST(dropped_with_the_slot_in_hand),
      TEST(dropped_while_a_script_is_at_work),
      TEST(dropped_while_a_script_reads_the_model),
      TEST(one_that_has_its_answer_is_left_alone),
      TEST(a_model_that_is_let_to_its_end_is_stopped),
      TEST(its_client_leaves_before_it_is_closed),
      TEST(many_at_once),
      TEST(what_the_model_server_is_told),
      TEST(closed_it_is_here_until_the_model_was_told),
      TEST(a_model_server_that_fails),
      TEST(few_calls_at_once_and_a_line_that_ends),
      TEST(stopping_closes_all_without_a_call),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * One request's walk when scripts take part, played through the functions of work.h in the order in
 * which a script would call them, and in wrong ones. */
#include "walk.h"

/* -- scripts -- */

static void ask_hook(const char *path) {
  int before = started;
  ask(&client, path);
  TURN_UNTIL(started == before + 1);
}

static void a_hook_admits_and_forwards(void **state) {
  (void)state;
  ask_hook("/hooked");
  assert_int_equal(task.job, 3);
  assert_non_null(task.work->doc);
  assert_true(lw_span_eq(task.work->payload, LW_SPAN("{\"a\": 1.50}")));
  lw_work_set_model_body(task.work, LW_SPAN("{\"old\":1}"));
  lw_work_set_model_body(task.work, LW_SPAN("{\"made\":1}"));
  assert_int_equal(lw_work_admit(task.work, 33), LW_OK);
  assert_int_equal(lw_work_admit(task.work, 44), LW_OK); /* asked once */
  assert_true(lw_account_load(lw_service_get()->account) == 33);
  lw_work_forward(task.work);
  lw_work_task_done(task.work);
  TURN_UNTIL(model.count);
  assert_string_equal(model.last, "POST /hooked {\"made\":1}");
  model_answers(200, "done");
  ANSWERED(&client, "200 OK", "done");
  expect_counts(1, 0, 0, 0);
}

static void a_hook_refuses_the_payload(void **state) {
  (void)state;
  ask_hook("/hooked");
  assert_int_equal(lw_work_invalid(task.work, LW_SPAN("{\"payload\":{\"a\":\"no\"}}")), LW_OK);
  assert_int_equal(lw_work_invalid(task.work, LW_SPAN("{}")), LW_MISUSE);
  lw_work_task_done(task.work);
  ANSWERED(&client, "422 ", "{\"payload\":{\"a\":\"no\"}}");
  assert_int_equal(lw_account_totals(lw_service_get()->account)->received, 0);
}

static void a_hook_waits_for_its_turn(void **state) {
  (void)state;
  peer first;
  peer_open(&first, lw_server_port(server));
  ask(&first, "/serial");
  TURN_UNTIL(model.count);
  ask_hook("/hooked");
  assert_int_equal(lw_work_admit(task.work, 1), LW_AGAIN);
  assert_int_equal(lw_work_admit(task.work, 1), LW_AGAIN);
  assert_int_equal(task.woken, 0);
  model_answers(200, "first");
  TURN_UNTIL(task.woken);
  assert_int_equal(lw_work_admit(task.work, 1), LW_OK);
  lw_work_forward(task.work);
  lw_work_task_done(task.work);
  model_answers(200, "second");
  ANSWERED(&client, "200 OK", "second");
  peer_close(&first, false);
}

static void a_hook_is_refused_admission(void **state) {
  (void)state;
  measured(1);
  set(route("/hooked"), "max_queue_time", 1);
  peer first;
  peer_open(&first, lw_server_port(server));
  ask(&first, "/go");
  TURN_UNTIL(model.count);
  ask_hook("/hooked");
  assert_int_equal(lw_work_admit(task.work, 1), LW_BUSY);
  assert_int_equal(lw_work_admit(task.work, 1), LW_BUSY);
  lw_work_task_done(task.work);
  ANSWERED(&client, "429 Too Many Requests", "\r\nRetry-After: ");
  model_answers(200, "first");
  TURN_UNTIL(peer_has(&first, "first"));
  expect_counts(1, 0, 0, 1);
  peer_close(&first, false);
}

static void a_hook_whose_client_leaves(void **state) {
  (void)state;
  peer first;
  peer_open(&first, lw_server_port(server));
  ask(&first, "/serial");
  TURN_UNTIL(model.count);
  ask_hook("/hooked");
  assert_int_equal(lw_work_admit(task.work, 1), LW_AGAIN);
  peer_close(&client, false);
  TURN_UNTIL(task.cancelled);
  assert_int_equal(task.cancelled, 1);
  expect_counts(0, 0, 1, 0);
  assert_int_equal(lw_queue_waiting(lw_service_get()->queue), 0);
  assert_int_equal(lw_request_count(), 3); /* the task still holds it; one more is the model's */
  assert_int_equal(lw_work_admit(task.work, 1), LW_CANCELLED);
  lw_work_forward(task.work); /* comes too late */
  lw_work_task_done(task.work);
  model_answers(200, "first");
  TURN_UNTIL(peer_has(&first, "first"));
  TURN_UNTIL(lw_request_count() == 0);
  peer_close(&first, false);
  peer_open(&client, lw_server_port(server));
}

/* There would be two answers; and whoever has one has no need of a place in the queue. */
static void a_hook_that_answers_before_the_model(void **state) {
  (void)state;
  ask_hook("/hooked");
  assert_int_equal(lw_work_admit(task.work, 1), LW_OK);
  lw_response_head(task.request, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(task.request, "early", 5);
  lw_work_forward(task.work);
  lw_work_task_done(task.work); /* begun, so it is cut */
  TURN_UNTIL(peer_has(&client, "early"));
  TURN_UNTIL(peer_ended(&client));
  peer_close(&client, false);
  assert_int_equal(model.count, 0);
  expect_counts(0, 1, 0, 0);
  peer_open(&client, lw_server_port(server));
  ask_hook("/hooked");
  lw_response_send(task.request, 200, "text/plain", LW_SPAN("all"));
  assert_int_equal(lw_work_admit(task.work, 1), LW_CANCELLED);
  lw_work_forward(task.work);
  lw_work_task_done(task.work);
  ANSWERED(&client, "200 OK", "all");
  assert_int_equal(lw_queue_waiting(lw_service_get()->queue), 0);
  expect_counts(0, 1, 0, 0);
}

static void a_hook_that_fails(void **state) {
  (void)state;
  ask_hook("/hooked");
  assert_int_equal(lw_work_admit(task.work, 1), LW_OK);
  lw_work_fail(task.work, 500, "script", "it \"broke\"", LW_SPAN("traceback"));
  lw_work_task_done(task.work);
  ANSWERED(&client, "500 ", "{\"error\":\"it \\\"broke\\\"\",\"source\":\"script\"}");
  expect_counts(0, 1, 0, 0);
}

/* A failure after the request was handed over: the client gets one answer, and nothing is left. */
static void a_hook_that_fails_after_forwarding(void **state) {
  (void)state;
  ask_hook("/hooked");
  assert_int_equal(lw_work_admit(task.work, 1), LW_OK);
  lw_work_forward(task.work);
  lw_work_fail(task.work, 500, "script", "too late", (lw_span){0, 0});
  lw_work_task_done(task.work);
  turn_for(20);
  if (model.count) model_answers(200, "done");
  TURN_UNTIL(lw_request_count() == 0 && lw_upstream_open_count() == 0);
}

static void a_script_that_gives_no_answer(void **state) {
  (void)state;
  ask_hook("/hooked");
  lw_work_task_done(task.work);
  ANSWERED(&client, "500 ", "\"source\":\"script\"}");
  expect_counts(0, 1, 0, 0);
  peer_clear(&client);
  ask_hook("/answered");
  lw_response_head(task.request, 200, LW_LENGTH_UNKNOWN);
  lw_response_body(task.request, "half", 4);
  lw_work_task_done(task.work);
  TURN_UNTIL(peer_ended(&client));
  assert_false(peer_has(&client, "\r\n0\r\n\r\n"));
  expect_counts(0, 2, 0, 0);
}

static void a_plain_handler(void **state) {
  (void)state;
  peer_send(&client, "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n");
  TURN_UNTIL(started == 1);
  assert_int_equal(task.job, 5);
  lw_response_send(task.request, 200, "text/plain", LW_SPAN("pong"));
  TURN_UNTIL(peer_has(&client, "pong")); /* though its task goes on */
  assert_int_equal(lw_request_count(), 1);
  lw_work_task_done(task.work);
  turn_for(1);
  assert_int_equal(lw_request_count(), 0);
  expect_counts(0, 0, 0, 0);
}

/* -- a script's own call to the model -- */

static lw_wake task_wake;
static void run_task(lw_wake *w) { (void)w; }

static lw_upstream *call(void) {
  lw_wake_init(&task_wake, run_task);
  lw_upstream *u = lw_work_call(task.work, &task_wake);
  lw_upstream_start(u);
  TURN_UNTIL(model.count);
  return u;
}

static void a_response_hook_answers(void **state) {
  (void)state;
  ask_hook("/answered");
  assert_int_equal(task.job, 4);
  lw_upstream *u = call();
  assert_string_equal(model.last, "POST /answered {\"a\": 1.50}");
  model_answers(200, "raw");
  TURN_UNTIL(lw_upstream_ending(u) == LW_EOF);
  lw_work_note_model(task.work, lw_upstream_status(u), LW_OK, NULL);
  lw_upstream_close(u);
  lw_response_send(task.request, 201, "text/plain", LW_SPAN("made of it"));
  lw_work_task_done(task.work);
  ANSWERED(&client, "201 Created", "made of it");
  expect_counts(1, 0, 0, 0);
  lw_wake_cancel(&task_wake);
}

static void a_model_error_counts_whatever_the_script_says(void **state) {
  (void)state;
  ask_hook("/answered");
  lw_upstream *u = call();
  model_answers(500, "raw");
  TURN_UNTIL(lw_upstream_ending(u) == LW_EOF);
  lw_work_note_model(task.work, 500, LW_OK, NULL);
  lw_upstream_close(u);
  lw_response_send(task.request, 200, "text/plain", LW_SPAN("all is well"));
  lw_work_task_done(task.work);
  ANSWERED(&client, "200 OK", "all is well");
  expect_counts(0, 1, 0, 0);
  lw_wake_cancel(&task_wake);
}

static void an_answer_is_passed_on_from_where_it_is(void **state) {
  (void)state;
  ask_hook("/answered");
  lw_upstream *u = call();
  lw_work_forward_answer(task.work, u);
  lw_work_task_done(task.work);
  model_answers(200, "raw");
  ANSWERED(&client, "200 OK", "raw");
  expect_counts(1, 0, 0, 0);
  lw_wake_cancel(&task_wake);
}

static void the_slot_is_free_when_the_model_is_done(void **state) {
  (void)state;
  peer second;
  peer_open(&second, lw_server_port(server));
  set(route("/serial"), "response_hook", 1);
  ask_hook("/serial");
  lw_upstream *u = call();
  model_answers(200, "raw");
  TURN_UNTIL(lw_upstream_ending(u) == LW_EOF);
  lw_work *first = task.work;
  ask(&second, "/serial");
  TURN_UNTIL(lw_queue_waiting(lw_service_get()->queue) == 1);
  lw_work_model_done(first);
  TURN_UNTIL(started == 2); /* though the first one's script is still at work */
  lw_upstream_close(u);
  lw_response_send(task.request, 200, "text/plain", LW_SPAN("second"));
  lw_work_task_done(task.work);
  ANSWERED(&second, "200 OK", "second");
  lw_response_send(first->request, 200, "text/plain", LW_SPAN("first"));
  lw_work_task_done(first);
  ANSWERED(&client, "200 OK", "first");
  lw_wake_cancel(&task_wake);
  peer_close(&second, false);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_hook_admits_and_forwards),
      TEST(a_hook_refuses_the_payload),
      TEST(a_hook_waits_for_its_turn),
      TEST(a_hook_is_refused_admission),
      TEST(a_hook_whose_client_leaves),
      TEST(a_hook_that_answers_before_the_model),
      TEST(a_hook_that_fails),
      TEST(a_script_that_gives_no_answer),
      TEST(a_plain_handler),
      TEST(a_response_hook_answers),
      TEST(a_model_error_counts_whatever_the_script_says),
      TEST(an_answer_is_passed_on_from_where_it_is),
      TEST(the_slot_is_free_when_the_model_is_done),
      TEST(a_hook_that_fails_after_forwarding),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

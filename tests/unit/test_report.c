/* SPDX-License-Identifier: MIT
 * Reports, field by field and post by post: when they are sent, what resets what, where they go. */
#include "autoscalers.h"

/* -- worker_status -- */

static void test_first_report(void **state) {
  (void)state;
  start_reports_to(false, 1);
  lw_record queued, working;
  lw_account_receive(account, &queued, LW_RECORD_REQUEST, 5, 77, 12.5);
  lw_account_receive(account, &working, LW_RECORD_REQUEST, 6, 78, 2);
  lw_account_working(account, &working);
  await_posts(&one.status, 1);
  parse(&one.status, 0);
  static const char *const numbers[][2] = {
      {"id", "4711"},           {"loadtime", "0"},
      {"new_load", "14.5"},     {"cur_load", "14.5"},
      {"rej_load", "0"},        {"max_perf", "0"},
      {"cur_perf", "0"},        {"num_requests_working", "2"},
      {"cur_capacity", "0"},    {"num_requests_recieved", "2"},
      {"max_capacity", "0"},    {"working_request_idxs", "[77,78]"},
      {"version", "\"1.1.0\""}, {"mtoken", "\"to\\\"ken\""},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(numbers); i++) assert_text(0, numbers[i][0], numbers[i][1]);
  assert_string(0, "url", "http://1.2.3.4:40001");
  assert_string(0, "error_msg", "");
  number_of(0, "additional_disk_usage");
  assert_true(number_of(0, "disk_usage") > 0);
  assert_int_equal(doc.nodes[0].count, 18);
  lw_account_end(account, &queued, LW_CANCELLED_OUTCOME);
  lw_account_end(account, &working, LW_SUCCESS);
}

static void test_loaded_and_error(void **state) {
  (void)state;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  run_for(100); /* until that answer is here */
  lw_report_loaded(3.25, 1000);
  await_posts(&one.status, 2);
  parse(&one.status, 1);
  assert_text(0, "loadtime", "3.25");
  assert_text(0, "max_perf", "1000");
  lw_report_error("it \"burns\"");
  await_posts(&one.status, 3);
  parse(&one.status, 2);
  assert_string(0, "error_msg", "it \"burns\"");
  assert_text(0, "loadtime", "3.25");
  lw_report_error("it \"burns\""); /* no news */
  lw_report_error("");
  await_posts(&one.status, 4);
  parse(&one.status, 3);
  assert_string(0, "error_msg", "");
  run_for(2500); /* nothing changes, so two ticks pass without a report */
  assert_int_equal(one.status.count, 4);
}

static void test_reset_only_when_taken(void **state) {
  (void)state;
  static const int statuses[] = {500, 302, 404, CUT, 0};
  one.status.statuses = statuses;
  end_one(1, LW_SUCCESS, 3);
  end_one(2, LW_CANCELLED_OUTCOME, 4);
  end_one(3, LW_REJECTED, 5);
  start_reports_to(false, 1);
  await_posts(&one.status, 4);
  for (int i = 0; i < 4; i++) assert_sums(&one.status, i, 3, 5, 3);
  run_for(100); /* the fourth was taken: its 200 counts, though the answer broke off */
  assert_int_equal(lw_report_failures(), 3);
  end_one(4, LW_SUCCESS, 0.5);
  await_posts(&one.status, 5);
  assert_sums(&one.status, 4, 0.5, 0, 0.5);
  assert_int_equal(two.status.count, 0);
}

static void test_next_address(void **state) {
  (void)state;
  static const int statuses[] = {503, 503, 503, 0};
  one.status.statuses = statuses;
  start_reports_to(false, 2);
  await_posts(&two.status, 1);
  assert_int_equal(one.status.count, 3);
  run_for(100);
  lw_report_loaded(1, 1); /* each round begins at the first address */
  await_posts(&one.status, 4);
  run_for(100);
  assert_int_equal(two.status.count, 1); /* and the first that takes it ends the round */
}

static void test_news_do_not_wait(void **state) {
  (void)state;
  static const int statuses[] = {500, 500, 500, 500, 0};
  one.status.statuses = statuses;
  start_reports_to(false, 2);
  await_posts(&one.status, 1);
  run_for(100); /* now it waits for its second attempt */
  lw_report_loaded(2, 2);
  await_posts(&two.status, 1); /* after three attempts of a round anew, not after the two left */
  assert_int_equal(one.status.count, 4);
  parse(&one.status, 1);
  assert_text(0, "loadtime", "2");
}

static void test_news_during_a_post(void **state) {
  (void)state;
  start_reports_to(false, 1);
  run_a_little();
  lw_report_loaded(2, 2); /* the first post may be under way or done */
  lw_report_loaded(4, 4);
  await_posts(&one.status, 2);
  run_for(200);
  parse(&one.status, one.status.count - 1);
  assert_text(0, "loadtime", "4");
}

static void test_stop_in_every_state(void **state) {
  (void)state;
  static const int silent[] = {SILENT, 0}, refused[] = {500, 0};
  start_reports_to(false, 1);
  lw_report_stop(); /* before the loop ran */
  one.status.statuses = silent;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  lw_report_stop(); /* waiting for an answer */
  two.status.statuses = refused;
  char address[100];
  snprintf(address, sizeof address, "http://127.0.0.1:%d", two.port);
  start_reports(address, false);
  await_posts(&two.status, 1);
  run_for(100);
  lw_report_stop(); /* waiting for the next attempt */
  lw_report_stop();
  lw_report_loaded(1, 1);
  lw_report_error("too late");
  run_for(100);
  assert_int_equal(one.status.count + two.status.count, 2);
}

/* -- delete_requests -- */

static void test_ended(void **state) {
  (void)state;
  static const int statuses[] = {500, 0};
  static const char *const names[] = {"", "Success", "Error", "Cancelled", "Rejected"};
  one.deleted.statuses = statuses;
  start_reports_to(false, 1);
  double before = lw_wall_s();
  for (int i = 0; i < 1200; i++) end_one(i, LW_SUCCESS + i % 4, 1);
  await_posts(&one.deleted, 1);
  run_for(200);
  await_ended(1200); /* refused, so nothing is dropped */
  await_ended(0);
  assert_int_equal(one.deleted.count, 4);
  assert_int_equal(one.deleted.posts[0].n, one.deleted.posts[1].n);
  assert_memory_equal(one.deleted.posts[0].body, one.deleted.posts[1].body, one.deleted.posts[0].n);
  int seen = 0;
  for (int post = 1; post < 4; post++) {
    parse(&one.deleted, post);
    assert_text(0, "worker_id", "4711");
    assert_string(0, "mtoken", "to\"ken");
    uint32_t list = member_of(0, "requests");
    assert_int_equal(doc.nodes[list].count, post < 3 ? 500 : 200);
    for (uint32_t at = list + 1; at < doc.nodes[list].next; at = doc.nodes[at].next, seen++) {
      lw_outcome outcome = LW_SUCCESS + seen % 4;
      assert_int_equal(number_of(at, "request_idx"), seen + 1000);
      assert_string(at, "status", names[outcome]);
      bool good = outcome == LW_SUCCESS || outcome == LW_CANCELLED_OUTCOME;
      assert_text(at, "success", good ? "true" : "false");
      double entered = number_of(at, "entered_queue_at"), work = number_of(at, "work_started_at");
      double completed = number_of(at, "work_completed_at");
      assert_true(before <= entered && entered <= completed && completed <= lw_wall_s());
      assert_true(outcome == LW_SUCCESS ? entered <= work && work <= completed : work == 0);
    }
  }
  assert_int_equal(seen, 1200);
}

static void assert_v1(int post, bool success, const char *idxs) {
  parse(&one.deleted, post);
  assert_text(0, "success", success ? "true" : "false");
  assert_text(0, "request_idxs", idxs);
}

static void test_ended_v1(void **state) {
  (void)state;
  static const int statuses[] = {200, 500, 0};
  one.deleted.statuses = statuses;
  start_reports_to(true, 1);
  for (int i = 0; i < 4; i++) end_one(i, LW_SUCCESS + i, 1);
  await_ended(0);
  assert_int_equal(one.deleted.count, 3);
  assert_v1(0, true, "[1000,1002]");
  assert_v1(1, false, "[1001,1003]"); /* refused */
  assert_v1(2, false, "[1001,1003]");
  end_one(10, LW_ERROR, 1);
  await_ended(0);
  assert_v1(3, false, "[1010]");
  end_one(11, LW_SUCCESS, 1);
  await_ended(0);
  assert_v1(4, true, "[1011]");
  assert_int_equal(one.deleted.count, 5);
}

static void test_cloud_is_not_told(void **state) {
  (void)state;
  start_reports("https://cloud.vast.ai/api/v0/", false);
  end_one(1, LW_SUCCESS, 1);
  /* Not even kept. The loop does not turn here, so nothing is sent to that host. */
  await_ended(0);
  lw_report_stop();
  start_reports("https://cloud.vast.ai/api/v0, http://127.0.0.1:1", false);
  end_one(1, LW_SUCCESS, 1);
  lw_ended e;
  assert_int_equal(lw_account_ended(account, &e, 1), 1);
}

/* -- the log -- */

static int count_of(const char *text, const char *word) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, word)); at++) n++;
  return n;
}

static void test_log(void **state) {
  (void)state;
  static const int statuses[] = {500, 500, 500, 500, 500, 500, 0};
  FILE *f = tmpfile();
  lw_log_setup(fileno(f), LW_LOG_DEBUG, LW_LOG_TEXT);
  one.status.statuses = statuses;
  start_reports_to(false, 1);
  await_posts(&one.status, 7);
  run_for(100);
  lw_log_setup(2, LW_LOG_OFF, LW_LOG_TEXT);
  char text[8192];
  rewind(f);
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  fclose(f);
  assert_int_equal(count_of(text, "no address of REPORT_ADDR takes"), 1);
  assert_int_equal(count_of(text, "is taken again"), 1);
  assert_int_equal(count_of(text, "answered with status 500; trying on"), 1);
  assert_int_equal(count_of(text, "ken\""), 0);
  assert_int_equal(count_of(text, "to\\"), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  lw_log_setup(2, LW_LOG_OFF, LW_LOG_TEXT);
  lw_json_init(&doc);
  const struct CMUnitTest tests[] = {
      CASE(test_first_report),
      CASE(test_loaded_and_error),
      CASE(test_reset_only_when_taken),
      CASE(test_next_address),
      CASE(test_news_do_not_wait),
      CASE(test_news_during_a_post),
      CASE(test_stop_in_every_state),
      CASE(test_ended),
      CASE(test_ended_v1),
      CASE(test_cloud_is_not_told),
      CASE(test_log),
  };
  int failed = cmocka_run_group_tests_name("report", tests, NULL, NULL);
  lw_json_fini(&doc);
  return failed;
}

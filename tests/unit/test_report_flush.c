/* SPDX-License-Identifier: MIT
 * The last reports at shutdown, and reports over a long outage. */
#include "autoscalers.h"

/* -- the last posts -- */

static int flushed;
static void on_flushed(void) { flushed++; }

static void await_flushed(void) {
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  while (!flushed && lw_now_ms() < until) run_a_little();
  assert_int_equal(flushed, 1);
}

static void test_flush_without_reports(void **state) {
  (void)state;
  flushed = 0;
  lw_report_flush(on_flushed);
  assert_int_equal(flushed, 1);
}

static void test_flush_with_no_news(void **state) {
  (void)state;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  run_for(100);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 1);
}

static void test_flush_tells_all(void **state) {
  (void)state;
  start_reports_to(true, 1);
  await_posts(&one.status, 1);
  run_for(100);
  for (int i = 0; i < 1200; i++) end_one(i, LW_SUCCESS + i % 4, 1);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 2);
  assert_sums(&one.status, 1, 600, 300, 300); /* successes and errors are new load */
  assert_int_equal(one.deleted.count, 6);     /* three batches, each in two parts */
  end_one(5000, LW_SUCCESS, 1);
  run_for(1500);
  assert_int_equal(one.status.count, 2); /* nothing any more */
}

static void test_flush_does_not_retry(void **state) {
  (void)state;
  static const int bad[] = {500, 500, 500, 500, 500, 0};
  start_reports_to(false, 2);
  await_posts(&one.status, 1);
  run_for(100);
  one.status.statuses = one.deleted.statuses = two.status.statuses = two.deleted.statuses = bad;
  end_one(1, LW_SUCCESS, 1);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 2);
  assert_int_equal(one.deleted.count, 1);
  assert_int_equal(two.status.count, 1); /* the next address has its chance */
  assert_int_equal(two.deleted.count, 1);
}

static void test_flush_is_bounded(void **state) {
  (void)state;
  static const int silent[] = {SILENT, SILENT, SILENT, 0};
  one.status.statuses = silent;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  flushed = 0;
  lw_report_flush(on_flushed); /* while a post is under way */
  await_flushed();             /* long before that post's own 10 s */
  assert_int_equal(one.status.count, 1);
}

static void test_flush_while_waiting_for_a_retry(void **state) {
  (void)state;
  static const int bad[] = {500, 0};
  one.status.statuses = one.deleted.statuses = bad;
  end_one(1, LW_SUCCESS, 3);
  start_reports_to(false, 1);
  end_one(2, LW_SUCCESS, 4);
  await_posts(&one.status, 1);
  await_posts(&one.deleted, 1);
  run_for(100);
  flushed = 0;
  lw_report_flush(on_flushed);
  await_flushed();
  assert_int_equal(one.status.count, 2);
  assert_sums(&one.status, 1, 7, 0, 7);
  assert_int_equal(one.deleted.count, 2);
}

static void test_stop_within_a_flush(void **state) {
  (void)state;
  static const int silent[] = {SILENT, 0};
  one.status.statuses = silent;
  start_reports_to(false, 1);
  await_posts(&one.status, 1);
  flushed = 0;
  lw_report_flush(on_flushed);
  lw_report_stop();
  run_for(100);
  assert_int_equal(flushed, 0);
}

/* Over all reports from that one on. */
static double sum_of(const char *name, int from) {
  double sum = 0;
  for (int i = from; i < one.status.count; i++) {
    parse(&one.status, i);
    sum += number_of(0, name);
  }
  return sum;
}

/* An autoscaler that is away for as long as 60 reports take, in each of its ways: what is told in
 * the end is what happened, once. */
static void test_a_long_outage(void **state) {
  (void)state;
  static int bad[MOST_POSTS];
  static const int ways[] = {500, 302, 404, 503};
  for (int i = 0; i < 60; i++) bad[i] = ways[i % 4];
  bad[60] = 0;
  one.status.statuses = one.deleted.statuses = bad;
  lw_pace_set(100);
  start_reports_to(false, 1);
  int n = 0;
  uint64_t until = lw_now_ms() + PATIENCE_MS;
  while ((one.status.count < 60 || one.deleted.count < 60) && lw_now_ms() < until) {
    if (n < 4000) end_one(n, LW_SUCCESS, 1), n++;
    run_a_little();
  }
  await_ended(0);
  until = lw_now_ms() + PATIENCE_MS;
  while (sum_of("new_load", 60) < n && lw_now_ms() < until) run_a_little();
  lw_pace_set(1);
  run_for(200);
  assert_float_equal(sum_of("new_load", 60), n, 1e-6);
  assert_float_equal(sum_of("cur_perf", 60), n, 1e-6);
  uint32_t told = 0;
  for (int i = 60; i < one.deleted.count; i++) {
    parse(&one.deleted, i);
    told += doc.nodes[member_of(0, "requests")].count;
  }
  assert_int_equal(told, n);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  lw_log_setup(2, LW_LOG_OFF, LW_LOG_TEXT);
  lw_json_init(&doc);
  const struct CMUnitTest tests[] = {
      CASE(test_flush_without_reports), CASE(test_flush_with_no_news),
      CASE(test_flush_tells_all),       CASE(test_flush_does_not_retry),
      CASE(test_flush_is_bounded),      CASE(test_flush_while_waiting_for_a_retry),
      CASE(test_stop_within_a_flush),   CASE(test_a_long_outage),
  };
  int failed = cmocka_run_group_tests_name("report_flush", tests, NULL, NULL);
  lw_json_fini(&doc);
  return failed;
}

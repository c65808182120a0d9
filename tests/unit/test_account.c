/* SPDX-License-Identifier: MIT
 * The books: every counter after every event, the sums of a report whose answer comes late, the set
 * of reqnums, the ring of ended requests, and a random walk against sums made anew each time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "floor/log.h"
#include "worker/account.h"

static void assert_close(double got, double want) {
  if (fabs(got - want) > 1e-9 * fmax(1, fabs(want))) fail_msg("got %.17g, want %.17g", got, want);
}

static void one_request_from_received_to_success(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r;
  memset(&r, 0xff, sizeof(r));
  double before = lw_wall_s();
  lw_account_receive(a, &r, LW_RECORD_REQUEST, 7, 70, 12.5);
  assert_int_equal(r.outcome, LW_RUNNING);
  assert_false(r.working);
  assert_true(r.received_at >= before - 1 && r.working_at == 0 && r.ended_at == 0);
  assert_int_equal(r.reqnum, 7);
  assert_int_equal(r.request_idx, 70);
  assert_true(r.workload == 12.5 && lw_account_load(a) == 12.5);
  assert_int_equal(lw_account_in_flight(a), 1);
  assert_int_equal(lw_account_queued(a), 1);
  assert_true(lw_account_consistent(a));
  lw_account_working(a, &r);
  lw_account_working(a, &r);
  assert_true(r.working && r.working_at > 0);
  assert_int_equal(lw_account_in_flight(a), 1);
  assert_int_equal(lw_account_queued(a), 0);
  assert_true(lw_account_consistent(a));
  lw_account_end(a, &r, LW_SUCCESS);
  assert_int_equal(r.outcome, LW_SUCCESS);
  assert_true(r.ended_at > 0);
  assert_int_equal(lw_account_in_flight(a), 0);
  assert_int_equal(lw_account_queued(a), 0);
  assert_true(lw_account_load(a) == 0);
  const lw_totals *t = lw_account_totals(a);
  assert_int_equal(t->received, 1);
  assert_int_equal(t->success, 1);
  assert_int_equal(t->error + t->cancelled + t->rejected, 0);
  assert_true(t->received_workload == 12.5 && t->success_workload == 12.5);
  assert_true(lw_account_consistent(a));
  lw_account_free(a);
}

static void each_outcome_has_its_own_counters(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  const lw_outcome outcomes[] = {LW_SUCCESS, LW_ERROR, LW_CANCELLED_OUTCOME, LW_REJECTED};
  for (int i = 0; i < 4; i++) {
    for (int k = 0; k <= i; k++) {
      lw_record r;
      lw_account_receive(a, &r, LW_RECORD_REQUEST, i * 10 + k, -1, 1 << i);
      if (k) lw_account_working(a, &r);
      lw_account_end(a, &r, outcomes[i]);
      assert_int_equal(lw_account_queued(a), 0);
    }
  }
  const lw_totals *t = lw_account_totals(a);
  assert_int_equal(t->received, 10);
  assert_int_equal(t->success, 1);
  assert_int_equal(t->error, 2);
  assert_int_equal(t->cancelled, 3);
  assert_int_equal(t->rejected, 4);
  assert_true(t->success_workload == 1 && t->error_workload == 4);
  assert_true(t->cancelled_workload == 12 && t->rejected_workload == 32);
  assert_true(t->received_workload == 49);
  assert_true(lw_account_consistent(a));
  lw_account_free(a);
}

static void names(void **state) {
  (void)state;
  assert_string_equal(lw_outcome_name(LW_RUNNING), "running");
  assert_string_equal(lw_outcome_name(LW_SUCCESS), "success");
  assert_string_equal(lw_outcome_name(LW_REJECTED), "rejected");
  assert_string_equal(lw_outcome_wire_name(LW_SUCCESS), "Success");
  assert_string_equal(lw_outcome_wire_name(LW_ERROR), "Error");
  assert_string_equal(lw_outcome_wire_name(LW_CANCELLED_OUTCOME), "Cancelled");
  assert_string_equal(lw_outcome_wire_name(LW_REJECTED), "Rejected");
}

static void a_rejected_workload_counts_in_rej_load_alone(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record refused, late;
  lw_account_reject(a, &refused, 1, 10, 100);
  assert_int_equal(refused.outcome, LW_REJECTED);
  assert_true(refused.received_at > 0 && refused.ended_at == refused.received_at);
  assert_int_equal(lw_account_in_flight(a), 0);
  lw_account_receive(a, &late, LW_RECORD_REQUEST, 2, 20, 30);
  assert_true(lw_account_sums(a).new_load == 30);
  lw_account_end(a, &late, LW_REJECTED);
  lw_report_sums sums = lw_account_sums(a);
  assert_true(sums.new_load == 0 && sums.rej_load == 130 && sums.cur_perf == 0);
  assert_int_equal(lw_account_totals(a)->received, 2);
  assert_int_equal(lw_account_totals(a)->rejected, 2);
  assert_int_equal(lw_account_distinct_reqnums(a), 2);
  assert_true(lw_account_consistent(a));
  lw_account_free(a);
}

static void sums_stay_until_a_report_was_taken(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r[4];
  lw_account_receive(a, &r[0], LW_RECORD_REQUEST, 0, -1, 10);
  lw_account_receive(a, &r[1], LW_RECORD_REQUEST, 1, -1, 20);
  lw_account_end(a, &r[0], LW_SUCCESS);
  lw_report_sums first = lw_account_sums(a);
  assert_true(first.new_load == 30 && first.cur_perf == 10 && first.rej_load == 0);
  /* The report fails: the next one carries the same. Then events come while it is under way. */
  lw_report_sums second = lw_account_sums(a);
  assert_true(second.new_load == 30 && second.changes == first.changes);
  lw_account_receive(a, &r[2], LW_RECORD_REQUEST, 2, -1, 5);
  lw_account_end(a, &r[1], LW_SUCCESS);
  lw_account_reject(a, &r[3], 3, -1, 7);
  assert_true(lw_account_sums(a).changes > second.changes);
  lw_account_reported(a, &second);
  lw_report_sums third = lw_account_sums(a);
  assert_close(third.new_load, 5);
  assert_close(third.cur_perf, 20);
  assert_close(third.rej_load, 7);
  lw_account_reported(a, &third);
  lw_report_sums none = lw_account_sums(a);
  assert_true(none.new_load == 0 && none.cur_perf == 0 && none.rej_load == 0);
  assert_int_equal(none.changes, third.changes);
  lw_account_end(a, &r[2], LW_ERROR);
  assert_true(lw_account_sums(a).cur_perf == 0);
  lw_account_free(a);
}

static void new_load_is_not_below_0_and_owes_nothing_to_the_next_report(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r[3];
  lw_account_receive(a, &r[0], LW_RECORD_REQUEST, 0, -1, 100);
  lw_report_sums sums = lw_account_sums(a);
  lw_account_reported(a, &sums);
  lw_account_end(a, &r[0], LW_CANCELLED_OUTCOME);
  sums = lw_account_sums(a);
  assert_true(sums.new_load == 0);
  lw_account_receive(a, &r[1], LW_RECORD_REQUEST, 1, -1, 40); /* while that report is under way */
  lw_account_reported(a, &sums);
  assert_close(lw_account_sums(a).new_load, 40);
  lw_account_end(a, &r[1], LW_CANCELLED_OUTCOME);
  assert_close(lw_account_sums(a).new_load, 0);
  lw_account_receive(a, &r[2], LW_RECORD_REQUEST, 2, -1, 50); /* received − cancelled: 90 − 40 */
  assert_close(lw_account_sums(a).new_load, 50);
  lw_account_end(a, &r[2], LW_SUCCESS);
  lw_account_free(a);
}

static void every_event_moves_changes(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r, other;
  uint64_t last = lw_account_sums(a).changes, next;
#define ASSERT_MOVED(event)                                  \
  do {                                                       \
    event;                                                   \
    assert_true((next = lw_account_sums(a).changes) > last); \
    last = next;                                             \
  } while (0)
  ASSERT_MOVED(lw_account_receive(a, &r, LW_RECORD_REQUEST, 1, 1, 1));
  ASSERT_MOVED(lw_account_reweigh(a, &r, 2));
  ASSERT_MOVED(lw_account_working(a, &r));
  ASSERT_MOVED(lw_account_end(a, &r, LW_SUCCESS));
  ASSERT_MOVED(lw_account_reject(a, &other, 2, 2, 1));
#undef ASSERT_MOVED
  lw_account_free(a);
}

static void a_reweighed_request_counts_with_its_new_workload_everywhere(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r, other;
  lw_account_receive(a, &r, LW_RECORD_REQUEST, 0, -1, 0);
  lw_account_receive(a, &other, LW_RECORD_REQUEST, 1, -1, 3);
  lw_account_reweigh(a, &r, 80);
  assert_true(r.workload == 80 && lw_account_load(a) == 83);
  assert_true(lw_account_sums(a).new_load == 83);
  lw_account_reweigh(a, &r, 20);
  assert_true(lw_account_load(a) == 23 && lw_account_sums(a).new_load == 23);
  assert_true(lw_account_consistent(a));
  lw_account_end(a, &r, LW_SUCCESS);
  assert_true(lw_account_sums(a).cur_perf == 20 && lw_account_totals(a)->received_workload == 23);
  assert_true(lw_account_consistent(a));
  lw_account_end(a, &other, LW_ERROR);
  lw_account_free(a);
}

static void a_senseless_workload_spoils_no_sum(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  const double senseless[] = {NAN, -5, -INFINITY, INFINITY, 1e300};
  const double counted[] = {0, 0, 0, 1e15, 1e15};
  for (size_t i = 0; i < LW_ARRAY_SIZE(senseless); i++) {
    lw_record r, steady;
    lw_account_receive(a, &steady, LW_RECORD_REQUEST, -1, -1, 0.1);
    lw_account_receive(a, &r, LW_RECORD_REQUEST, -1, -1, senseless[i]);
    assert_true(r.workload == counted[i]);
    lw_account_reweigh(a, &r, senseless[i]);
    lw_account_end(a, &r, LW_SUCCESS);
    assert_true(lw_account_load(a) == 0.1); /* the large one took nothing of the small one along */
    lw_account_end(a, &steady, LW_SUCCESS);
    assert_true(lw_account_consistent(a));
  }
  lw_account_free(a);
}

static void the_load_does_not_drift(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  enum {
    N = 50
  };
  lw_record r[N], steady;
  lw_account_receive(a, &steady, LW_RECORD_REQUEST, -1, -1,
                     1e-3); /* in flight throughout: nothing is ever reset */
  srand(7);
  for (int i = 0; i < N; i++) lw_account_receive(a, &r[i], LW_RECORD_REQUEST, -1, -1, 0.1 * rand());
  for (int step = 0; step < 200000; step++) {
    int i = rand() % N;
    lw_account_end(a, &r[i], LW_SUCCESS);
    lw_account_receive(a, &r[i], LW_RECORD_REQUEST, -1, -1, 0.1 * rand());
  }
  for (int i = 0; i < N; i++) lw_account_end(a, &r[i], LW_SUCCESS);
  assert_true(fabs(lw_account_load(a) - 1e-3) < 1e-12);
  assert_true(lw_account_consistent(a));
  lw_account_end(a, &steady, LW_SUCCESS);
  assert_true(lw_account_load(a) == 0);
  lw_account_free(a);
}

static void see(lw_account *a, int64_t reqnum) {
  lw_record r;
  lw_account_receive(a, &r, LW_RECORD_REQUEST, reqnum, -1, 1);
  lw_account_end(a, &r, LW_SUCCESS);
}

static void distinct_reqnums(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  see(a, -1);
  assert_int_equal(lw_account_distinct_reqnums(a), 0);
  see(a, 0);
  see(a, 0);
  see(a, INT64_MAX);
  see(a, 5);
  see(a, 4); /* an outlier closes nothing; order does not matter */
  see(a, INT64_MAX);
  assert_int_equal(lw_account_distinct_reqnums(a), 4);

  /* Upwards, each number three times, the last repeat 8,000 numbers late; one number always. */
  uint64_t distinct = 4;
  for (int64_t i = 10; i < 100000; i++) {
    see(a, i * 1000);
    if (i >= 10 + 100) see(a, (i - 100) * 1000);
    if (i >= 10 + 8000) see(a, (i - 8000) * 1000);
    if (i % 1000 == 0) see(a, 5);
    distinct++;
    if (i % 10000 == 0) assert_int_equal(lw_account_distinct_reqnums(a), distinct);
  }
  assert_int_equal(lw_account_distinct_reqnums(a), distinct);
  lw_account_free(a);
}

static void reqnums_are_remembered_as_long_as_promised(void **state) {
  (void)state;
  enum {
    GENERATION = 16384
  };
  for (int64_t phase = 0; phase < GENERATION; phase += 1489) {
    lw_account *a = lw_account_new();
    int64_t next = 0;
    while (next < phase) see(a, next++);
    const int64_t old = next++;
    see(a, old);
    for (int i = 0; i < GENERATION - 1; i++) see(a, next++);
    see(a, old);
    assert_int_equal(lw_account_distinct_reqnums(a), next);
    /* Longer ago than the set remembers: counts again, which is the promised error. */
    for (int i = 0; i < 2 * GENERATION; i++) see(a, next++);
    see(a, old);
    assert_int_equal(lw_account_distinct_reqnums(a), next + 1);
    lw_account_free(a);
  }
}

static void idxs_of_those_in_flight(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r[4];
  const int64_t idxs[] = {11, -1, 0, 13};
  for (int i = 0; i < 4; i++) lw_account_receive(a, &r[i], LW_RECORD_REQUEST, -1, idxs[i], 1);
  int64_t out[4] = {-7, -7, -7, -7};
  assert_int_equal(lw_account_working_idxs(a, out, 4), 3);
  assert_true(out[0] == 11 && out[1] == 0 && out[2] == 13 && out[3] == -7);
  out[2] = -7;
  assert_int_equal(lw_account_working_idxs(a, out, 2), 2);
  assert_true(out[2] == -7);
  lw_account_end(a, &r[0], LW_SUCCESS);
  assert_int_equal(lw_account_working_idxs(a, out, 4), 2);
  assert_true(out[0] == 0 && out[1] == 13);
  for (int i = 1; i < 4; i++) lw_account_end(a, &r[i], LW_SUCCESS);
  lw_account_free(a);
}

static void end_with_idx(lw_account *a, int64_t idx, lw_outcome outcome) {
  lw_record r;
  lw_account_receive(a, &r, LW_RECORD_REQUEST, -1, idx, 1);
  lw_account_working(a, &r);
  lw_account_end(a, &r, outcome);
}

static void ended_requests_wait_to_be_told(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_ended out[8];
  end_with_idx(a, 1, LW_SUCCESS);
  assert_int_equal(lw_account_ended(a, out, 8), 0); /* off by default */
  lw_account_drop_ended(a, 0);
  lw_account_keep_ended(a, true);
  end_with_idx(a, -1, LW_SUCCESS);
  end_with_idx(a, 2, LW_ERROR);
  lw_record r;
  lw_account_reject(a, &r, -1, 3, 1);
  assert_int_equal(lw_account_ended(a, out, 8), 2);
  assert_int_equal(lw_account_ended(a, out, 8), 2); /* a peek removes nothing */
  assert_true(out[0].request_idx == 2 && out[0].outcome == LW_ERROR);
  assert_true(out[0].received_at > 0 && out[0].working_at > 0 && out[0].ended_at > 0);
  assert_true(out[1].request_idx == 3 && out[1].outcome == LW_REJECTED && out[1].working_at == 0);
  assert_int_equal(lw_account_ended(a, out, 1), 1);
  lw_account_drop_ended(a, 1);
  assert_int_equal(lw_account_ended(a, out, 8), 1);
  assert_int_equal(out[0].request_idx, 3);
  lw_account_keep_ended(a, false);
  assert_int_equal(lw_account_ended(a, out, 8), 0);
  lw_account_drop_ended(a, 1);
  lw_account_free(a);
}

static void the_ring_of_ended_requests_wraps_and_grows(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_account_keep_ended(a, true);
  int64_t told = 0, ended = 0;
  lw_ended out[700];
  srand(3);
  for (int round = 0; round < 400; round++) {
    for (int k = rand() % 600; k > 0; k--) end_with_idx(a, ended++, LW_SUCCESS);
    size_t n = lw_account_ended(a, out, (size_t)(rand() % 700));
    for (size_t i = 0; i < n; i++) assert_int_equal(out[i].request_idx, told + (int64_t)i);
    lw_account_drop_ended(a, n);
    told += (int64_t)n;
  }
  lw_account_free(a);
}

static void a_full_ring_drops_the_oldest_also_between_peek_and_drop(void **state) {
  (void)state;
  enum {
    RING = 65536
  };
  lw_account *a = lw_account_new();
  lw_account_keep_ended(a, true);
  lw_ended *out = malloc(sizeof(*out) * (RING + 10));
  for (int64_t i = 0; i < RING + 3; i++) end_with_idx(a, i, LW_SUCCESS);
  assert_int_equal(lw_account_ended(a, out, RING + 10), RING);
  assert_int_equal(out[0].request_idx, 3);
  assert_int_equal(out[RING - 1].request_idx, RING + 2);
  assert_int_equal(lw_account_ended(a, out, 100), 100); /* told: 3 .. 102 */
  for (int64_t i = RING + 3; i < RING + 43; i++) end_with_idx(a, i, LW_SUCCESS); /* drops 3 .. 42 */
  lw_account_drop_ended(a, 100);
  assert_int_equal(lw_account_ended(a, out, RING + 10), RING - 60);
  assert_int_equal(out[0].request_idx, 103);
  assert_int_equal(out[RING - 61].request_idx, RING + 42);
  free(out);
  lw_account_free(a);
}

/* Everything made anew from the records after each step. */
enum {
  SLOTS = 40
};
static void compare_with_records(const lw_account *a, const lw_record *r, const bool *runs,
                                 uint64_t ends, double ended_workload) {
  unsigned in_flight = 0, queued = 0, calling = 0, told = 0;
  double load = 0, wait_load = 0;
  for (int i = 0; i < SLOTS; i++) {
    if (!runs[i]) continue;
    in_flight++;
    queued += !r[i].working && r[i].kind != LW_RECORD_SESSION;
    calling += r[i].working;
    told += r[i].kind != LW_RECORD_IN_SESSION;
    load += r[i].workload;
    if (r[i].kind == LW_RECORD_REQUEST) wait_load += r[i].workload;
  }
  assert_int_equal(lw_account_in_flight(a), in_flight);
  assert_int_equal(lw_account_queued(a), queued);
  assert_int_equal(lw_account_calling(a), calling);
  assert_int_equal(lw_account_told(a), told);
  assert_close(lw_account_load(a), load);
  assert_close(lw_account_wait_load(a), wait_load);
  assert_true(lw_account_load(a) >= 0 && lw_account_wait_load(a) >= 0);
  const lw_totals *t = lw_account_totals(a);
  assert_int_equal(t->received, in_flight + ends);
  assert_int_equal(t->success + t->error + t->cancelled + t->rejected, ends);
  assert_close(t->received_workload, load + ended_workload);
  assert_true(lw_account_consistent(a));
}

static void random_walk_agrees_with_the_records(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r[SLOTS];
  bool runs[SLOTS] = {false};
  uint64_t ends = 0;
  double ended_workload = 0, served = 0, reported = 0;
  lw_report_sums taken = lw_account_sums(a);
  srand(99);
  for (int step = 0; step < 30000; step++) {
    int i = rand() % SLOTS;
    double workload = (rand() % 1000) * 0.37;
    if (!runs[i] && rand() % 8 == 0) {
      lw_account_reject(a, &r[i], rand(), rand(), workload);
      ends++;
      ended_workload += workload;
    } else if (!runs[i]) {
      lw_account_receive(a, &r[i], (lw_record_kind)(rand() % 3), rand(), rand(), workload);
      runs[i] = true;
    } else if (rand() % 3 == 0) {
      lw_account_reweigh(a, &r[i], workload);
    } else if (rand() % 2 && r[i].kind != LW_RECORD_SESSION) {
      lw_account_working(a, &r[i]);
    } else {
      lw_account_end(a, &r[i], LW_SUCCESS + (lw_outcome)(rand() % 4));
      runs[i] = false;
      ends++;
      ended_workload += r[i].workload;
      if (r[i].outcome == LW_SUCCESS) served += r[i].workload;
    }
    compare_with_records(a, r, runs, ends, ended_workload);
    if (rand() % 50 == 0) taken = lw_account_sums(a);
    if (rand() % 50 == 0 && taken.changes) {
      lw_account_reported(a, &taken);
      reported += taken.cur_perf;
      taken = (lw_report_sums){0};
    }
    assert_close(reported + lw_account_sums(a).cur_perf, served);
  }
  for (int i = 0; i < SLOTS; i++) {
    if (runs[i]) lw_account_end(a, &r[i], LW_CANCELLED_OUTCOME);
  }
  assert_true(lw_account_load(a) == 0 && lw_account_consistent(a));
  lw_account_free(a);
}

static void a_session_and_the_requests_in_it(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_account_keep_ended(a, true);
  lw_record session, inside, other;
  int64_t idxs[4];
  lw_ended ended[4];
  lw_account_receive(a, &session, LW_RECORD_SESSION, 1, 11, 50);
  lw_account_receive(a, &inside, LW_RECORD_IN_SESSION, 2, 12, 8);
  assert_int_equal(lw_account_in_flight(a), 2);
  assert_int_equal(lw_account_queued(a), 1);
  assert_int_equal(lw_account_calling(a), 0);
  assert_int_equal(lw_account_told(a), 1);
  assert_true(lw_account_load(a) == 58 && lw_account_wait_load(a) == 0);
  assert_int_equal(lw_account_distinct_reqnums(a), 1);
  assert_true(session.working_at == session.received_at && inside.working_at == 0);
  lw_account_receive(a, &other, LW_RECORD_REQUEST, 3, 13, 5);
  lw_account_working(a, &inside);
  assert_true(lw_account_load(a) == 63 && lw_account_wait_load(a) == 5);
  assert_int_equal(lw_account_calling(a), 1);
  assert_int_equal(lw_account_told(a), 2);
  assert_int_equal(lw_account_working_idxs(a, idxs, 4), 2);
  assert_true(idxs[0] == 11 && idxs[1] == 13);
  lw_account_reweigh(a, &inside, 9);
  assert_true(lw_account_load(a) == 64 && lw_account_wait_load(a) == 5);
  lw_account_end(a, &inside, LW_SUCCESS);
  assert_int_equal(lw_account_ended(a, ended, 4), 0);
  assert_true(lw_account_consistent(a));
  lw_account_end(a, &session, LW_SUCCESS);
  lw_account_end(a, &other, LW_CANCELLED_OUTCOME);
  assert_int_equal(lw_account_ended(a, ended, 4), 2);
  assert_true(ended[0].request_idx == 11 && ended[0].outcome == LW_SUCCESS);
  assert_true(ended[0].working_at == ended[0].received_at && ended[0].ended_at > 0);
  assert_int_equal(ended[1].request_idx, 13);
  assert_true(lw_account_load(a) == 0 && lw_account_wait_load(a) == 0);
  assert_true(lw_account_sums(a).cur_perf == 59);
  assert_true(lw_account_consistent(a));
  lw_account_free(a);
}

static void a_record_changed_behind_the_books_is_noticed(void **state) {
  (void)state;
  lw_account *a = lw_account_new();
  lw_record r;
  lw_account_receive(a, &r, LW_RECORD_REQUEST, -1, -1, 10);
  r.workload = 11;
  assert_false(lw_account_consistent(a));
  r.workload = 10;
  r.working = true;
  assert_false(lw_account_consistent(a));
  r.working = false;
  assert_true(lw_account_consistent(a));
  lw_account_end(a, &r, LW_SUCCESS);
  lw_account_free(a);
}

int main(void) {
  lw_log_setup(2, LW_LOG_OFF, LW_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_request_from_received_to_success),
      cmocka_unit_test(each_outcome_has_its_own_counters),
      cmocka_unit_test(names),
      cmocka_unit_test(a_rejected_workload_counts_in_rej_load_alone),
      cmocka_unit_test(sums_stay_until_a_report_was_taken),
      cmocka_unit_test(new_load_is_not_below_0_and_owes_nothing_to_the_next_report),
      cmocka_unit_test(every_event_moves_changes),
      cmocka_unit_test(a_reweighed_request_counts_with_its_new_workload_everywhere),
      cmocka_unit_test(a_senseless_workload_spoils_no_sum),
      cmocka_unit_test(the_load_does_not_drift),
      cmocka_unit_test(distinct_reqnums),
      cmocka_unit_test(reqnums_are_remembered_as_long_as_promised),
      cmocka_unit_test(idxs_of_those_in_flight),
      cmocka_unit_test(ended_requests_wait_to_be_told),
      cmocka_unit_test(the_ring_of_ended_requests_wraps_and_grows),
      cmocka_unit_test(a_full_ring_drops_the_oldest_also_between_peek_and_drop),
      cmocka_unit_test(random_walk_agrees_with_the_records),
      cmocka_unit_test(a_session_and_the_requests_in_it),
      cmocka_unit_test(a_record_changed_behind_the_books_is_noticed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

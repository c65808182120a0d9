/* SPDX-License-Identifier: MIT
 * The one record of each request's life, and every figure made from it: received → queued → working
 * → exactly one of success, error, cancelled, rejected. Reports, metrics and the log line read only
 * from here. Pure bookkeeping: no loop, no sockets. */
#pragma once

#include "floor/base.h"
#include "floor/list.h"

typedef enum lw_outcome {
  LW_RUNNING,
  LW_SUCCESS,
  LW_ERROR,
  LW_CANCELLED_OUTCOME,
  LW_REJECTED
} lw_outcome;
const char *lw_outcome_name(lw_outcome o); /* "running" "success" "error" "cancelled" "rejected" */
const char *lw_outcome_wire_name(
    lw_outcome o); /* protocol §4: "Success" "Error" "Cancelled" "Rejected" */

/* Protocol §6: a session is one request in flight for as long as it is open; neither it nor the
 * requests inside it delay others' estimate, and these are not counted and told one by one. */
typedef enum lw_record_kind {
  LW_RECORD_REQUEST,
  LW_RECORD_SESSION,
  LW_RECORD_IN_SESSION
} lw_record_kind;

/* Embedded in the owner of a request; in the account's list from receive to end. */
typedef struct lw_record {
  lw_list node; /* private */
  lw_outcome outcome;
  lw_record_kind kind;
  bool working; /* its call to the model has begun */
  double workload;
  int64_t request_idx, reqnum; /* -1: not known */
  /* Seconds since the epoch; 0: not yet. The wall clock is read once, at received_at: what follows
   * is as much later as it was by the monotonic clock, which nobody sets. */
  double received_at, working_at, ended_at;
  uint64_t received_ns; /* private: monotonic */
} lw_record;

typedef struct lw_totals {
  uint64_t received, success, error, cancelled, rejected; /* requests since start */
  double received_workload, success_workload, error_workload, cancelled_workload, rejected_workload;
} lw_totals;

/* What the autoscaler is told once: protocol §4 delete_requests. */
typedef struct lw_ended {
  int64_t request_idx;
  lw_outcome outcome;
  double received_at, working_at, ended_at;
} lw_ended;

typedef struct lw_account lw_account;
lw_account *lw_account_new(void);
void lw_account_free(lw_account *a); /* asserts that nothing runs */

/* Counts a request in. The record (any content) becomes RUNNING and counts in flight. Workloads are
 * made finite here: negative or NaN counts as 0, more than 1e15 as 1e15. The numbers of a request
 * within a session are not kept. */
void lw_account_receive(lw_account *a, lw_record *r, lw_record_kind kind, int64_t reqnum,
                        int64_t request_idx, double workload);
/* A request the worker refuses before it was taken in (bad signature): received and rejected in
 * one. */
void lw_account_reject(lw_account *a, lw_record *r, int64_t reqnum, int64_t request_idx,
                       double workload);
/* The workload became known or changed while running. */
void lw_account_reweigh(lw_account *a, lw_record *r, double workload);
void lw_account_working(lw_account *a,
                        lw_record *r); /* its call to the model begins; once counts; no session */
/* Ends it, once: asserts that it was running. */
void lw_account_end(lw_account *a, lw_record *r, lw_outcome outcome);

double lw_account_load(const lw_account *a);        /* workload in flight */
double lw_account_wait_load(const lw_account *a);   /* of that, what estimates of waits count */
unsigned lw_account_in_flight(const lw_account *a); /* queued, working, and open sessions */
unsigned lw_account_queued(const lw_account *a);    /* in flight, and their turn has not come */
unsigned lw_account_calling(const lw_account *a);   /* in flight, and their call has begun */
unsigned lw_account_told(const lw_account *a);      /* in flight, without those inside sessions */
const lw_totals *lw_account_totals(const lw_account *a);
/* received = success + error + cancelled + rejected + in flight, and the same for workloads within
 * rounding; also that the list agrees with the counters. */
bool lw_account_consistent(const lw_account *a);

/* Protocol §4: sums since the last successful report. new_load is received − cancelled, not below
 * 0. A rejected workload counts in rej_load alone: lw_account_reject() never adds to new_load, and
 * ending a received request as rejected takes its workload out again. cur_perf is what ended as a
 * success. */
typedef struct lw_report_sums {
  double new_load, rej_load, cur_perf;
  uint64_t changes;           /* grows with every event; a report is due when it moved */
  double received, cancelled; /* what new_load was made of, for lw_account_reported() */
} lw_report_sums;
lw_report_sums lw_account_sums(const lw_account *a);
/* A report that carried `taken` was accepted: those amounts are subtracted; events that came while
 * it was under way stay. */
void lw_account_reported(lw_account *a, const lw_report_sums *taken);
uint64_t lw_account_distinct_reqnums(const lw_account *a); /* bounded set: see account.c */
/* request_idx of those in flight, at most max; returns how many were written. */
size_t lw_account_working_idxs(const lw_account *a, int64_t *out, size_t max);

/* Ended requests not yet told to the autoscaler (ring of 65,536; the oldest is dropped with a log
 * line when full; request_idx < 0 is not recorded). Oldest first. A peek does not remove; a drop of
 * n means the first n of the last peek, also when the ring overflowed since then. */
void lw_account_keep_ended(lw_account *a, bool keep); /* off by default: nothing to report to */
size_t lw_account_ended(lw_account *a, lw_ended *out, size_t max);
void lw_account_drop_ended(lw_account *a, size_t n);

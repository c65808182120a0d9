/* SPDX-License-Identifier: MIT
 * Every event is a few additions; nothing is looked up but the reqnum. Called by server and
 * session; read by the report, the admin port and the log line. Owns the counters, the set of
 * reqnums and the ring of ended requests; the records belong to their requests. Sums of workloads
 * are kept in two doubles each (value and rounding error), because they live as long as the process
 * and a single one would drift. */
#include "worker/account.h"

#include <math.h>
#include <stdlib.h>
#include <sys/random.h>

#include "floor/log.h"

#define MAX_WORKLOAD 1e15
#define RING_MAX 65536u
#define RING_MIN 64u

/* The reqnums seen, in two generations. New ones go to the young one; when that holds GENERATION
 * numbers, the old one is forgotten and the young one takes its place. A number found only in the
 * old one is carried over, so one that keeps coming is never forgotten.
 *
 *   exact     while fewer than GENERATION other distinct numbers came between two uses of the same
 *             number: always remembered, in whatever order or range the numbers come.
 *   not exact beyond that: a number that comes back may be counted a second time (never missed).
 *
 * Autoscalers count upwards and clients repeat a number within minutes, so in practice it is exact.
 * A window below the highest number would be smaller, but under scheme `url` the number is not
 * signed: one forged 2^62 would close such a window for good. */
#define GENERATION 16384u
#define SLOTS (2 * GENERATION)

typedef struct reqnum_set {
  uint64_t *young, *old; /* SLOTS each, open addressing; 0 is free, else reqnum + 1 */
  unsigned young_count;
  uint64_t seed; /* numbers are a peer's choice: without it they could be made to collide */
  uint64_t distinct;
} reqnum_set;

typedef struct sum {
  double value, error;
} sum;

struct lw_account {
  lw_list running;
  unsigned in_flight, working, sessions, in_sessions; /* the others: of those in flight */
  sum load, wait_load;
  lw_totals totals; /* the workloads are the rounded values of `by_outcome` and `received` */
  sum received, by_outcome[LW_REJECTED + 1];
  struct {
    sum received, cancelled, rejected, served;
  } since; /* the last report */
  uint64_t changes;
  reqnum_set reqnums;
  struct {
    bool keep;
    lw_ended *items; /* ring, a power of two */
    unsigned size, first, count;
    uint64_t lost;       /* dropped because the ring was full */
    unsigned lost_since; /* of those, since the last peek */
  } ended;
};

const char *lw_outcome_name(lw_outcome o) {
  static const char *const names[] = {"running", "success", "error", "cancelled", "rejected"};
  assert((unsigned)o < LW_ARRAY_SIZE(names));
  return names[o];
}

const char *lw_outcome_wire_name(lw_outcome o) {
  static const char *const names[] = {"Running", "Success", "Error", "Cancelled", "Rejected"};
  assert((unsigned)o < LW_ARRAY_SIZE(names));
  return names[o];
}

/* Knuth's two-sum gives what rounding lost; value and error together carry about 106 bits. */
static void sum_add(sum *s, double x) {
  double total = s->value + x;
  double x_part = total - s->value;
  double error = s->error + ((s->value - (total - x_part)) + (x - x_part));
  s->value = total + error;
  s->error = error - (s->value - total);
}

static double at_least_0(double x) { return x > 0 ? x : 0; }

/* Workloads come from scripts and clients; one inf or NaN would spoil every sum for good. */
static double bounded(double workload) { return LW_MIN(at_least_0(workload), MAX_WORKLOAD); }

static uint64_t slot_of(const reqnum_set *s, uint64_t key) {
  uint64_t h = (key ^ s->seed) * 0x9e3779b97f4a7c15u;
  h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u;
  return (h ^ (h >> 32)) & (SLOTS - 1);
}

/* Where key is, or the free slot where it would go: at most half of the slots are taken. */
static uint64_t *find_slot(const reqnum_set *s, uint64_t *slots, uint64_t key) {
  uint64_t i = slot_of(s, key);
  while (slots[i] && slots[i] != key) i = (i + 1) & (SLOTS - 1);
  return &slots[i];
}

static void see_reqnum(reqnum_set *s, int64_t reqnum) {
  if (reqnum < 0) return;
  uint64_t key = (uint64_t)reqnum + 1;
  uint64_t *slot = find_slot(s, s->young, key);
  if (*slot) return;
  if (!*find_slot(s, s->old, key)) s->distinct++;
  *slot = key;
  if (++s->young_count < GENERATION) return;
  uint64_t *forgotten = s->old;
  s->old = s->young;
  s->young = memset(forgotten, 0, SLOTS * sizeof(*forgotten));
  s->young_count = 0;
}

lw_account *lw_account_new(void) {
  lw_account *a = lw_calloc(1, sizeof(*a));
  lw_list_init(&a->running);
  a->reqnums.young = lw_calloc(SLOTS, sizeof(uint64_t));
  a->reqnums.old = lw_calloc(SLOTS, sizeof(uint64_t));
  if (getrandom(&a->reqnums.seed, sizeof(a->reqnums.seed), GRND_NONBLOCK) < 0) {
    a->reqnums.seed = lw_now_ns();
  }
  return a;
}

void lw_account_free(lw_account *a) {
  if (!a) return;
  assert(lw_list_empty(&a->running));
  free(a->reqnums.young);
  free(a->reqnums.old);
  free(a->ended.items);
  free(a);
}

static void grow_ring(lw_account *a) {
  unsigned size = a->ended.size ? a->ended.size * 2 : RING_MIN;
  lw_ended *items = lw_alloc(size * sizeof(*items));
  for (unsigned i = 0; i < a->ended.count; i++) {
    items[i] = a->ended.items[(a->ended.first + i) & (a->ended.size - 1)];
  }
  free(a->ended.items);
  a->ended.items = items;
  a->ended.size = size;
  a->ended.first = 0;
}

static void remember_ended(lw_account *a, const lw_record *r) {
  if (!a->ended.keep || r->request_idx < 0) return;
  if (a->ended.count == a->ended.size && a->ended.size < RING_MAX) grow_ring(a);
  if (a->ended.count == a->ended.size) {
    if (a->ended.lost++ % RING_MAX == 0) {
      lw_warn(
          "more than %u ended requests wait to be told to the autoscaler; the oldest are dropped "
          "(%llu until now)",
          RING_MAX, (unsigned long long)a->ended.lost);
    }
    a->ended.lost_since++;
    a->ended.first = (a->ended.first + 1) & (a->ended.size - 1);
    a->ended.count--;
  }
  unsigned at = (a->ended.first + a->ended.count++) & (a->ended.size - 1);
  a->ended.items[at] =
      (lw_ended){r->request_idx, r->outcome, r->received_at, r->working_at, r->ended_at};
}

static void begin(lw_account *a, lw_record *r, lw_record_kind kind, int64_t reqnum,
                  int64_t request_idx, double workload) {
  if (kind == LW_RECORD_IN_SESSION) reqnum = request_idx = -1;
  *r = (lw_record){.outcome = LW_RUNNING,
                   .kind = kind,
                   .workload = bounded(workload),
                   .request_idx = request_idx,
                   .reqnum = reqnum,
                   .received_at = lw_wall_s(),
                   .received_ns = lw_now_ns()};
  lw_list_init(&r->node);
  see_reqnum(&a->reqnums, reqnum);
  a->changes++;
  a->totals.received++;
  sum_add(&a->received, r->workload);
  a->totals.received_workload = a->received.value;
}

static double now_for(const lw_record *r) {
  return r->received_at + (double)(lw_now_ns() - r->received_ns) / 1e9;
}

static void count_outcome(lw_account *a, const lw_record *r) {
  uint64_t *counts[] = {NULL, &a->totals.success, &a->totals.error, &a->totals.cancelled,
                        &a->totals.rejected};
  double *workloads[] = {NULL, &a->totals.success_workload, &a->totals.error_workload,
                         &a->totals.cancelled_workload, &a->totals.rejected_workload};
  ++*counts[r->outcome];
  sum_add(&a->by_outcome[r->outcome], r->workload);
  *workloads[r->outcome] = a->by_outcome[r->outcome].value;
  if (r->outcome == LW_SUCCESS) sum_add(&a->since.served, r->workload);
  if (r->outcome == LW_CANCELLED_OUTCOME) sum_add(&a->since.cancelled, r->workload);
  if (r->outcome == LW_REJECTED) sum_add(&a->since.rejected, r->workload);
}

static void count_kind(lw_account *a, const lw_record *r, int step) {
  a->sessions += (unsigned)(r->kind == LW_RECORD_SESSION ? step : 0);
  a->in_sessions += (unsigned)(r->kind == LW_RECORD_IN_SESSION ? step : 0);
}

void lw_account_receive(lw_account *a, lw_record *r, lw_record_kind kind, int64_t reqnum,
                        int64_t request_idx, double workload) {
  begin(a, r, kind, reqnum, request_idx, workload);
  lw_list_append(&a->running, &r->node);
  a->in_flight++;
  count_kind(a, r, 1);
  if (kind == LW_RECORD_SESSION) r->working_at = r->received_at; /* it waits for nothing */
  sum_add(&a->load, r->workload);
  if (kind == LW_RECORD_REQUEST) sum_add(&a->wait_load, r->workload);
  sum_add(&a->since.received, r->workload);
}

void lw_account_reject(lw_account *a, lw_record *r, int64_t reqnum, int64_t request_idx,
                       double workload) {
  begin(a, r, LW_RECORD_REQUEST, reqnum, request_idx, workload);
  r->outcome = LW_REJECTED;
  r->ended_at = r->received_at;
  count_outcome(a, r);
  remember_ended(a, r);
}

void lw_account_reweigh(lw_account *a, lw_record *r, double workload) {
  assert(r->outcome == LW_RUNNING && lw_list_linked(&r->node));
  double next = bounded(workload);
  /* Out and in rather than by the difference, which would be rounded before the sums see it. */
  sum *sums[] = {&a->load, &a->received, &a->since.received, &a->wait_load};
  size_t n = LW_ARRAY_SIZE(sums) - (r->kind != LW_RECORD_REQUEST);
  for (size_t i = 0; i < n; i++) {
    sum_add(sums[i], -r->workload);
    sum_add(sums[i], next);
  }
  a->totals.received_workload = a->received.value;
  r->workload = next;
  a->changes++;
}

void lw_account_working(lw_account *a, lw_record *r) {
  assert(r->outcome == LW_RUNNING && lw_list_linked(&r->node));
  assert(r->kind != LW_RECORD_SESSION);
  if (r->working) return;
  r->working = true;
  r->working_at = now_for(r);
  a->working++;
  a->changes++;
}

void lw_account_end(lw_account *a, lw_record *r, lw_outcome outcome) {
  assert(r->outcome == LW_RUNNING && lw_list_linked(&r->node));
  assert(outcome > LW_RUNNING && outcome <= LW_REJECTED);
  lw_list_remove(&r->node);
  a->in_flight--;
  if (r->working) a->working--;
  count_kind(a, r, -1);
  sum_add(&a->load, -r->workload);
  if (r->kind == LW_RECORD_REQUEST) sum_add(&a->wait_load, -r->workload);
  if (a->in_flight == 0) a->load = a->wait_load = (sum){0, 0};
  r->outcome = outcome;
  r->ended_at = now_for(r);
  a->changes++;
  count_outcome(a, r);
  if (outcome == LW_REJECTED) sum_add(&a->since.received, -r->workload);
  remember_ended(a, r);
}

double lw_account_load(const lw_account *a) { return at_least_0(a->load.value); }
double lw_account_wait_load(const lw_account *a) { return at_least_0(a->wait_load.value); }
unsigned lw_account_in_flight(const lw_account *a) { return a->in_flight; }
unsigned lw_account_queued(const lw_account *a) { return a->in_flight - a->working - a->sessions; }
unsigned lw_account_calling(const lw_account *a) { return a->working; }
unsigned lw_account_told(const lw_account *a) { return a->in_flight - a->in_sessions; }
const lw_totals *lw_account_totals(const lw_account *a) { return &a->totals; }

static bool is_close(double a, double b) {
  return fabs(a - b) <= 1e-9 * LW_MAX(1.0, LW_MAX(fabs(a), fabs(b)));
}

bool lw_account_consistent(const lw_account *a) {
  unsigned running = 0, working = 0, sessions = 0, in_sessions = 0;
  sum load = {0, 0}, wait_load = {0, 0};
  for (const lw_list *l = a->running.next; l != &a->running; l = l->next) {
    const lw_record *r = LW_CONTAINER_OF(l, lw_record, node);
    if (r->outcome != LW_RUNNING) return false;
    running++;
    working += r->working;
    sessions += r->kind == LW_RECORD_SESSION;
    in_sessions += r->kind == LW_RECORD_IN_SESSION;
    sum_add(&load, r->workload);
    if (r->kind == LW_RECORD_REQUEST) sum_add(&wait_load, r->workload);
  }
  if (running != a->in_flight || working != a->working) return false;
  if (sessions != a->sessions || in_sessions != a->in_sessions) return false;
  if (!is_close(wait_load.value, a->wait_load.value)) return false;
  const lw_totals *t = &a->totals;
  if (t->received != t->success + t->error + t->cancelled + t->rejected + running) return false;
  sum whole = load;
  for (int o = LW_SUCCESS; o <= LW_REJECTED; o++) sum_add(&whole, a->by_outcome[o].value);
  return is_close(load.value, a->load.value) && is_close(whole.value, a->received.value);
}

lw_report_sums lw_account_sums(const lw_account *a) {
  return (lw_report_sums){
      .new_load = at_least_0(a->since.received.value - a->since.cancelled.value),
      .rej_load = at_least_0(a->since.rejected.value),
      .cur_perf = at_least_0(a->since.served.value),
      .changes = a->changes,
      .received = a->since.received.value,
      .cancelled = a->since.cancelled.value,
  };
}

void lw_account_reported(lw_account *a, const lw_report_sums *taken) {
  if (taken->changes == a->changes) {
    memset(&a->since, 0, sizeof(a->since)); /* exactly 0, where a subtraction might leave 1e-17 */
    return;
  }
  sum_add(&a->since.received, -taken->received);
  sum_add(&a->since.cancelled, -taken->cancelled);
  sum_add(&a->since.rejected, -taken->rej_load);
  sum_add(&a->since.served, -taken->cur_perf);
}

uint64_t lw_account_distinct_reqnums(const lw_account *a) { return a->reqnums.distinct; }

size_t lw_account_working_idxs(const lw_account *a, int64_t *out, size_t max) {
  size_t n = 0;
  for (const lw_list *l = a->running.next; l != &a->running && n < max; l = l->next) {
    const lw_record *r = LW_CONTAINER_OF(l, lw_record, node);
    if (r->request_idx >= 0) out[n++] = r->request_idx;
  }
  return n;
}

void lw_account_keep_ended(lw_account *a, bool keep) {
  a->ended.keep = keep;
  if (keep) return;
  free(a->ended.items);
  a->ended.items = NULL;
  a->ended.size = a->ended.first = a->ended.count = a->ended.lost_since = 0;
}

size_t lw_account_ended(lw_account *a, lw_ended *out, size_t max) {
  size_t n = LW_MIN(max, (size_t)a->ended.count);
  for (size_t i = 0; i < n; i++) {
    out[i] = a->ended.items[(a->ended.first + (unsigned)i) & (a->ended.size - 1)];
  }
  a->ended.lost_since = 0;
  return n;
}

void lw_account_drop_ended(lw_account *a, size_t n) {
  if (!a->ended.keep) return;
  /* What the full ring dropped since the peek was at its front: it is among the n told. */
  size_t gone = LW_MIN(n, (size_t)a->ended.lost_since);
  a->ended.lost_since -= (unsigned)gone;
  n -= gone;
  assert(n <= a->ended.count);
  if (n == 0) return;
  a->ended.first = (a->ended.first + (unsigned)n) & (a->ended.size - 1);
  a->ended.count -= (unsigned)n;
}

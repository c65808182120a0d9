/* SPDX-License-Identifier: MIT
 * Posts to the autoscaler: worker_status and delete_requests, each one at a time, each with its own
 * round over the addresses. Called by program/serve. Every attempt is written anew from the
 * account, so nothing piles up here while the autoscaler is away; the account's bounded ring keeps
 * what has ended. Owns the two calls and the batch of ended requests that is being told. */
#include "worker/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "exchange/upstream.h"
#include "floor/log.h"
#include "wire/json_put.h"
#include "worker/pace.h"

enum {
  LOOK_MS = 1000,
  STATUS_MS = 10000, /* a report at least so often */
  ATTEMPTS = 3,      /* per address */
  RETRY_MS = 2000,
  ANSWER_MS = 10000,
  BATCH_MAX = 500, /* ended requests in one post */
  FLUSH_MS = 2000, /* for the last posts */
};

/* In v1 a batch is told in two posts, of the good and of the bad; else in one. */
typedef enum batch_part {
  PART_GOOD,
  PART_BAD,
  PART_ALL
} batch_part;

/* What is posted to one path, and the round over the addresses that is under way. */
typedef struct post {
  const char *path;
  lw_body *(*write)(void);
  void (*taken)(void);
  bool skips_cloud;
  lw_wake wake;
  lw_timer retry;
  lw_upstream *call;
  lw_span rest, address; /* of report.addresses */
  unsigned attempt;
  bool busy;     /* a round is under way: a call or a wait for the next attempt */
  bool failing;  /* the last round was taken by nobody, and that was logged */
  bool given_up; /* an attempt of the flush has failed */
  char error[300];
} post;

static struct {
  lw_account *account;
  char *addresses, *master_token, *url, *error_msg;
  int64_t worker_id;
  bool delete_requests_v1, running;
  double loadtime_s, max_perf;
  lw_timer tick;
  lw_wake look;
  bool ticked, more; /* why to look: a second has passed; more ended requests are known to wait */
  bool tells_ended;  /* some address takes delete_requests */
  uint64_t taken, failures;
  double taken_s;
  post status, ended;

  void (*flushed)(void); /* to call when the last posts are over; NULL: not flushing */
  lw_timer flush_limit;
  bool flush_is_late;

  /* status */
  uint64_t revision; /* grows when the worker became loaded or errored */
  uint64_t tried_revision, told_revision, told_changes, tried_ms;
  lw_report_sums sums; /* as in the running attempt */
  double disk_gb, disk_tried_gb;

  /* delete_requests */
  lw_ended batch[BATCH_MAX];
  size_t batch_n;
  batch_part part;
} report;

uint64_t lw_report_taken(void) { return report.taken; }
uint64_t lw_report_failures(void) { return report.failures; }
double lw_report_taken_s(void) { return report.taken_s; }
const char *lw_report_last_failure(void) {
  return report.status.failing  ? report.status.error
         : report.ended.failing ? report.ended.error
                                : "";
}

/* -- writing -- */

static double used_disk_gb(void) {
  struct statvfs v;
  if (statvfs("/", &v) != 0) return report.disk_gb;
  return (double)(v.f_blocks - v.f_bfree) * (double)v.f_frsize / (1024.0 * 1024 * 1024);
}

static void put_working_idxs(lw_body *b) {
  size_t max = lw_account_in_flight(report.account);
  int64_t *idxs = lw_alloc((max + 1) * sizeof *idxs);
  size_t n = lw_account_working_idxs(report.account, idxs, max);
  lw_put(b, "[");
  for (size_t i = 0; i < n; i++) {
    if (i) lw_put(b, ",");
    lw_put_integer(b, idxs[i]);
  }
  lw_put(b, "]");
  free(idxs);
}

static lw_body *write_status(void) {
#ifdef LW_DEBUG
  assert(lw_account_consistent(report.account));
#endif
  report.sums = lw_account_sums(report.account);
  report.tried_revision = report.revision;
  report.tried_ms = lw_now_ms();
  report.disk_tried_gb = used_disk_gb();
  lw_body *b = lw_body_new();
  lw_put(b, "{\"id\":");
  lw_put_integer(b, report.worker_id);
  lw_put(b, ",\"mtoken\":");
  lw_put_text(b, report.master_token);
  lw_put(b, ",\"version\":\"1.1.0\",\"error_msg\":");
  lw_put_text(b, report.error_msg);
  lw_put(b, ",\"url\":");
  lw_put_text(b, report.url);
  const struct {
    const char *key;
    double value;
  } numbers[] = {
      {"loadtime", report.loadtime_s},
      {"new_load", report.sums.new_load},
      {"cur_load", lw_account_load(report.account)},
      {"rej_load", report.sums.rej_load},
      {"max_perf", report.max_perf},
      {"cur_perf", report.sums.cur_perf},
      {"num_requests_working", lw_account_told(report.account)},
      {"num_requests_recieved", (double)lw_account_distinct_reqnums(report.account)},
      {"disk_usage", report.disk_tried_gb},
      {"additional_disk_usage", report.disk_tried_gb - report.disk_gb},
      {"cur_capacity", 0},
      {"max_capacity", 0},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(numbers); i++) {
    lw_put(b, ",\"");
    lw_put(b, numbers[i].key);
    lw_put(b, "\":");
    lw_put_number(b, numbers[i].value);
  }
  lw_put(b, ",\"working_request_idxs\":");
  put_working_idxs(b);
  lw_put(b, "}");
  return b;
}

static bool is_good(const lw_ended *e) {
  return e->outcome == LW_SUCCESS || e->outcome == LW_CANCELLED_OUTCOME;
}

static void put_ended(lw_body *b, const lw_ended *e) {
  lw_put(b, "{\"request_idx\":");
  lw_put_integer(b, e->request_idx);
  lw_put(b, is_good(e) ? ",\"success\":true,\"status\":\"" : ",\"success\":false,\"status\":\"");
  lw_put(b, lw_outcome_wire_name(e->outcome));
  lw_put(b, "\",\"entered_queue_at\":");
  lw_put_number(b, e->received_at);
  lw_put(b, ",\"work_started_at\":");
  lw_put_number(b, e->working_at);
  lw_put(b, ",\"work_completed_at\":");
  lw_put_number(b, e->ended_at);
  lw_put(b, "}");
}

static bool is_in_part(const lw_ended *e, batch_part part) {
  return part == PART_ALL || is_good(e) == (part == PART_GOOD);
}

static bool batch_holds(batch_part part) {
  for (size_t i = 0; i < report.batch_n; i++) {
    if (is_in_part(&report.batch[i], part)) return true;
  }
  return false;
}

static lw_body *write_ended(void) {
  bool v1 = report.delete_requests_v1;
  lw_body *b = lw_body_new();
  lw_put(b, "{\"worker_id\":");
  lw_put_integer(b, report.worker_id);
  lw_put(b, ",\"mtoken\":");
  lw_put_text(b, report.master_token);
  if (v1) lw_put(b, report.part == PART_GOOD ? ",\"success\":true" : ",\"success\":false");
  lw_put(b, v1 ? ",\"request_idxs\":[" : ",\"requests\":[");
  bool first = true;
  for (size_t i = 0; i < report.batch_n; i++) {
    const lw_ended *e = &report.batch[i];
    if (!is_in_part(e, report.part)) continue;
    if (!first) lw_put(b, ",");
    first = false;
    if (v1) {
      lw_put_integer(b, e->request_idx);
    } else {
      put_ended(b, e);
    }
  }
  lw_put(b, "]}");
  return b;
}

/* -- one round: each address in turn, until one takes it -- */

static void send_attempt(post *p) {
  lw_body *body = p->write();
  char *url = lw_printf_dup("%.*s%s", (int)p->address.n, p->address.p, p->path);
  p->call = lw_upstream_open(LW_SPAN("POST"), lw_span_of(url), &p->wake);
  free(url);
  lw_upstream_set_role(p->call, "autoscaler");
  lw_code ok = lw_upstream_header(p->call, LW_SPAN("Content-Type"), LW_SPAN("application/json"));
  assert(ok == LW_OK);
  (void)ok;
  lw_upstream_body(p->call, body, (lw_span){body->p, body->n});
  lw_body_unref(body);
  lw_upstream_set_timeouts(p->call, &(lw_upstream_timeouts){.total_ms = ANSWER_MS});
  lw_upstream_start(p->call);
}

static bool is_cloud(lw_span address) {
  return lw_span_eq(address, LW_SPAN("https://cloud.vast.ai/api/v0"));
}

static bool next_address(const post *p, lw_span *rest, lw_span *address) {
  while (lw_span_next(rest, ',', address)) {
    while (address->n && address->p[address->n - 1] == '/') address->n--;
    if (address->n && !(p->skips_cloud && is_cloud(*address))) return true;
  }
  return false;
}

static void ask_next(post *p) {
  p->attempt = 0;
  p->busy = next_address(p, &p->rest, &p->address);
  if (p->busy) {
    send_attempt(p);
  } else if (!p->failing) {
    p->failing = true;
    lw_warn("no address of REPORT_ADDR takes %s: %s; trying on", p->path, p->error);
  }
}

static void begin_round(post *p) {
  p->rest = lw_span_of(report.addresses);
  ask_next(p);
}

static void drop_call(post *p) {
  if (p->call) lw_upstream_close(p->call);
  p->call = NULL;
  lw_wake_cancel(&p->wake); /* or what is left of the old call would count as the end of the wait */
}

static void end_attempt(post *p, bool taken) {
  drop_call(p);
  if (taken) {
    if (p->failing) lw_info("%s is taken again", p->path);
    p->failing = false;
    p->busy = false;
    report.taken++;
    report.taken_s = lw_wall_s();
    p->taken();
    lw_loop_wake(&report.look); /* there may be more by now */
    return;
  }
  report.failures++;
  lw_debug("%s: %s", p->path, p->error);
  if (report.flushed) { /* no time for retries */
    ask_next(p);
    p->given_up = !p->busy;
    lw_loop_wake(&report.look);
  } else if (++p->attempt < ATTEMPTS) {
    lw_timer_start(&p->retry, lw_pace_ms(RETRY_MS));
  } else {
    ask_next(p);
  }
}

/* What the answer says beyond its status is read and dropped, so that the connection can be kept. A
 * report is taken once its 2xx came, also when the rest of that answer does not. */
static void run_post(post *p) {
  if (!p->call) {
    send_attempt(p); /* the wait between two attempts is over */
    return;
  }
  if (lw_upstream_skip_body(p->call) == LW_AGAIN) return;
  int status = lw_upstream_status(p->call);
  if (!status) {
    snprintf(p->error, sizeof p->error, "%s", lw_upstream_error(p->call));
    end_attempt(p, false);
    return;
  }
  snprintf(p->error, sizeof p->error, "autoscaler %.*s answered with status %d",
           (int)LW_MIN(p->address.n, (size_t)200), p->address.p, status);
  end_attempt(p, status >= 200 && status < 300);
}

static void run_woken(lw_wake *w) { run_post(LW_CONTAINER_OF(w, post, wake)); }

static void on_retry(lw_timer *t) { lw_loop_wake(&LW_CONTAINER_OF(t, post, retry)->wake); }

/* -- looking whether something is due -- */

static void status_taken(void) {
  report.told_revision = report.tried_revision;
  report.told_changes = report.sums.changes;
  report.disk_gb = report.disk_tried_gb;
  lw_account_reported(report.account, &report.sums);
}

static bool has_news(void) {
  return report.revision != report.told_revision ||
         lw_account_sums(report.account).changes != report.told_changes;
}

/* What was not taken waits for the next tick, what is new about loaded and errored for nothing. */
static bool status_is_due(void) {
  if (report.revision != report.tried_revision) return true;
  if (!report.ticked) return false;
  return has_news() || lw_now_ms() - report.tried_ms >= lw_pace_ms(STATUS_MS);
}

static void look_at_status(void) {
  post *p = &report.status;
  if (p->call || !status_is_due()) return;
  if (p->busy) {
    if (report.revision == report.tried_revision) return;
    lw_timer_stop(&p->retry); /* the news don't wait for the next attempt of the old */
    lw_wake_cancel(&p->wake);
  }
  begin_round(p);
}

/* The batch stays as it was first peeked until it was taken, so that what counts as told is exactly
 * what was told, also when the account's ring overflows meanwhile. */
static void ended_taken(void) {
  if (report.part == PART_GOOD && batch_holds(PART_BAD)) {
    report.part = PART_BAD;
    report.more = true;
    return;
  }
  report.more = report.batch_n == BATCH_MAX;
  lw_account_drop_ended(report.account, report.batch_n);
  report.batch_n = 0;
}

static bool take_batch(void) {
  if (report.batch_n > 0) return true;
  report.batch_n = lw_account_ended(report.account, report.batch, BATCH_MAX);
  if (report.batch_n == 0) return false;
  report.part = !report.delete_requests_v1 ? PART_ALL
                : batch_holds(PART_GOOD)   ? PART_GOOD
                                           : PART_BAD;
  return true;
}

static void look_at_ended(void) {
  if (report.ended.busy || !(report.ticked || report.more)) return;
  report.more = false;
  if (take_batch()) begin_round(&report.ended);
}

/* -- the last posts -- */

/* A wait for the next attempt is cut short; a call that is under way is awaited. */
static bool flush_post(post *p, bool has_more) {
  if (p->call) return true;
  if (p->given_up || !has_more) return false;
  lw_timer_stop(&p->retry);
  lw_wake_cancel(&p->wake);
  begin_round(p);
  return p->busy;
}

static void flush(void) {
  bool more = flush_post(&report.status, has_news());
  if (report.tells_ended) more |= flush_post(&report.ended, take_batch());
  if (more && !report.flush_is_late) return;
  void (*done)(void) = report.flushed;
  lw_report_stop();
  done();
}

void lw_report_flush(void (*on_done)(void)) {
  if (!report.running) {
    on_done();
    return;
  }
  report.flushed = on_done;
  lw_timer_stop(&report.tick);
  lw_timer_start(&report.flush_limit, FLUSH_MS);
  lw_loop_wake(&report.look);
}

static void on_flush_limit(lw_timer *t) {
  (void)t;
  report.flush_is_late = true;
  lw_loop_wake(&report.look);
}

static void run_look(lw_wake *w) {
  (void)w;
  if (report.flushed) {
    flush();
    return;
  }
  look_at_status();
  if (report.tells_ended) look_at_ended();
  report.ticked = false;
}

static void on_tick(lw_timer *t) {
  lw_timer_start(t, lw_pace_ms(LOOK_MS));
  report.ticked = true;
  lw_loop_wake(&report.look);
}

void lw_report_loaded(double loadtime_s, double max_perf) {
  if (!report.running) return;
  report.loadtime_s = loadtime_s;
  report.max_perf = max_perf;
  report.revision++;
  lw_loop_wake(&report.look);
}

void lw_report_error(const char *error_msg) {
  if (!report.running || strcmp(error_msg, report.error_msg) == 0) return;
  free(report.error_msg);
  report.error_msg = lw_strdup(error_msg);
  report.revision++;
  lw_loop_wake(&report.look);
}

/* -- start and stop -- */

static void open_post(post *p, const char *path, lw_body *(*write)(void), void (*taken)(void)) {
  *p = (post){.path = path, .write = write, .taken = taken, .error = "it names none"};
  lw_wake_init(&p->wake, run_woken);
  lw_timer_init(&p->retry, on_retry);
}

static void close_post(post *p) {
  drop_call(p);
  lw_timer_fini(&p->retry);
}

void lw_report_start(const lw_report_settings *s, lw_account *account) {
  assert(!report.running);
  memset(&report, 0, sizeof report);
  report.account = account;
  report.addresses = lw_strdup(s->addresses);
  report.master_token = lw_strdup(s->master_token ? s->master_token : "");
  report.url = lw_strdup(s->url ? s->url : "");
  report.error_msg = lw_strdup("");
  report.worker_id = s->worker_id;
  report.delete_requests_v1 = s->delete_requests_v1;
  report.revision = 1; /* the first report goes at once */
  report.running = true;
  report.disk_gb = used_disk_gb();
  open_post(&report.status, "/worker_status/", write_status, status_taken);
  open_post(&report.ended, "/delete_requests/", write_ended, ended_taken);
  report.ended.skips_cloud = true;
  lw_span rest = lw_span_of(report.addresses), address;
  report.tells_ended = next_address(&report.ended, &rest, &address);
  lw_account_keep_ended(account, report.tells_ended);
  lw_wake_init(&report.look, run_look);
  lw_timer_init(&report.tick, on_tick);
  lw_timer_init(&report.flush_limit, on_flush_limit);
  lw_timer_start(&report.tick, lw_pace_ms(LOOK_MS));
  lw_loop_wake(&report.look);
}

void lw_report_stop(void) {
  if (!report.running) return;
  report.running = false;
  close_post(&report.status);
  close_post(&report.ended);
  lw_timer_fini(&report.tick);
  lw_timer_fini(&report.flush_limit);
  lw_wake_cancel(&report.look);
  lw_account_keep_ended(report.account, false);
  free(report.addresses);
  free(report.master_token);
  free(report.url);
  free(report.error_msg);
}

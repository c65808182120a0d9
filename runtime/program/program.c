/* SPDX-License-Identifier: MIT
 * The end of every command, and the counters that prove it clean. Called by serve and run. */
#include "program/program.h"

#include <dirent.h>
#include <sys/resource.h>

#include "exchange/server.h"
#include "exchange/upstream.h"
#include "floor/buf.h"
#include "floor/log.h"
#include "loop/conn.h"
#include "loop/timer.h"
#include "script/budget.h"
#include "script/generation.h"
#include "script/task.h"
#include "wire/doc.h"
#include "worker/complaint.h"
#include "worker/service.h"

enum {
  QUIET_POLL_MS = 2,
  QUIET_LIMIT_MS = 5000
};

/* A function of a script that calls itself through string.gsub takes 9 KB of C's stack each time,
 * and Lua's own limit comes after some 6,000 times. The kernel keeps 128 MB free for the stack. */
static void raise_stack(void) {
  struct rlimit limit;
  const rlim_t wanted = 112 << 20;
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = LW_MIN(wanted, limit.rlim_max);
  if (setrlimit(RLIMIT_STACK, &limit) != 0) lw_warn("the limit of the stack can't be raised");
}

void lw_program_raise_limits(void) {
  struct rlimit limit;
  raise_stack();
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) lw_warn("the limit of open files can't be raised");
}

static int64_t count_descriptors(void) {
  DIR *dir = opendir("/proc/self/fd");
  int64_t n = 0;
  if (!dir) return -1;
  while (readdir(dir)) n++;
  closedir(dir);
  return n - 3; /* ".", ".." and the directory itself */
}

void lw_program_log_counters(void) {
  lw_service *s = lw_service_get();
  const lw_totals *t = lw_account_totals(s->account);
  lw_field f[] = {
      lw_field_int("connections", lw_conn_count()),
      lw_field_int("requests", lw_request_count()),
      lw_field_int("upstreams", lw_upstream_open_count()),
      lw_field_int("tasks", lw_task_count()),
      lw_field_int("timers", lw_timers_active()),
      lw_field_int("generations", lw_generation_count()),
      lw_field_int("queued", lw_account_queued(s->account)),
      lw_field_int("in_flight", lw_account_in_flight(s->account)),
      lw_field_int("received", (int64_t)t->received),
      lw_field_int("success", (int64_t)t->success),
      lw_field_int("error", (int64_t)t->error),
      lw_field_int("cancelled", (int64_t)t->cancelled),
      lw_field_int("rejected", (int64_t)t->rejected),
      lw_field_int("descriptors", count_descriptors()),
      lw_field_int("signatures_verified", (int64_t)lw_auth_rsa_verifications(s->auth)),
      lw_field_int("signatures_cached", (int64_t)lw_auth_cache_hits(s->auth)),
  };
  lw_log_fields(LW_LOG_INFO, "counters", f, LW_ARRAY_SIZE(f));
  assert(lw_account_consistent(s->account));
}

static lw_timer quiet_timer;
static uint64_t quiet_limit_ms;

static void on_quiet_timer(lw_timer *t) {
  bool quiet = lw_task_count() == 0 && lw_generation_count() == 0 && lw_conn_count() == 0;
  if (!quiet && lw_now_ms() < quiet_limit_ms) {
    lw_timer_start(t, QUIET_POLL_MS);
    return;
  }
  if (!quiet) lw_warn("%u tasks ignored their cancellation", lw_task_count());
  lw_loop_stop();
}

void lw_program_stop_when_quiet(void) {
  quiet_limit_ms = lw_now_ms() + QUIET_LIMIT_MS;
  lw_timer_init(&quiet_timer, on_quiet_timer);
  lw_timer_start(&quiet_timer, 0);
}

void lw_program_close(void) {
  lw_vm_free_rest();
  lw_budget_fini();
  lw_complaint_close();
  lw_upstream_shutdown();
  lw_loop_fini();
  lw_service_fini();
  lw_doc_drop_spares();
  lw_buf_drop_spares();
}

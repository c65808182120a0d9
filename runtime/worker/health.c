/* SPDX-License-Identifier: MIT
 * The checks of the model and the watchdog that calls for them. Called by worker/startup, which
 * makes gates of what it says. Owns its one call at a time. */
#include "worker/health.h"

#include <stdio.h>
#include <stdlib.h>

#include "exchange/address.h"
#include "exchange/upstream.h"
#include "floor/log.h"
#include "worker/pace.h"

enum {
  WELL_MS = 10000, /* between two checks */
  BAD_MS = 2000,
  FIRST_MS = 300000, /* so long without a first good one: an error */
  ANSWER_MS = 10000,
  WATCH_MS = 1000,
};

typedef enum verdict {
  AWAITED, /* no good check yet, and no error either */
  WELL,
  FAILED
} verdict;

static struct {
  lw_health_events events;
  const lw_account *account;
  char *url, *probe_url, *shown; /* the last: which of them is asked, without its secrets */
  bool running, had_good;
  verdict said;
  uint64_t started_ms;

  lw_upstream *call;
  lw_wake wake;
  lw_timer next, watch;
  bool check_due, watch_due; /* what a timer has marked */
  uint64_t bytes_at_check;
  bool stalled; /* the watchdog has called for the check under way */

  uint64_t stall_ms, moved_ms; /* the model's last sign of work */
  uint64_t moved_bytes, moved_successes;
  char last[400], told[600];
} health;

static uint64_t checks, failures;

uint64_t lw_health_checks(void) { return checks; }
uint64_t lw_health_failures(void) { return failures; }
const char *lw_health_last(void) { return health.last; }

/* -- one check -- */

static void begin_check(void) {
  const char *url = health.url ? health.url : health.probe_url;
  health.check_due = false;
  if (health.call || !url) return;
  lw_timer_stop(&health.next);
  checks++;
  health.bytes_at_check = lw_upstream_model_bytes();
  health.call = lw_upstream_open(LW_SPAN("GET"), lw_span_of(url), &health.wake);
  lw_upstream_set_role(health.call, "health check");
  lw_upstream_set_timeouts(health.call, &(lw_upstream_timeouts){.total_ms = ANSWER_MS});
  lw_upstream_start(health.call);
}

static void end_check(void) {
  if (health.call) lw_upstream_close(health.call);
  health.call = NULL;
  health.stalled = false;
}

static void check_later(void) {
  if (!health.url && health.said == WELL) return;
  lw_timer_start(&health.next, lw_pace_ms(health.said == WELL ? WELL_MS : BAD_MS));
}

static void take_good(bool stalled) {
  verdict before = health.said;
  bool first = health.url && !health.had_good;
  if (stalled) {
    lw_warn("requests are at work and the model has sent no byte for %g s, but it lives: %s",
            (double)health.stall_ms / 1000, health.last);
  }
  health.said = WELL;
  health.had_good = true;
  health.told[0] = 0;
  check_later();
  if (before == WELL) return;
  if (first) {
    health.events.on_first();
  } else {
    health.events.on_well();
  }
}

static void take_bad(bool stalled) {
  char why[sizeof health.told];
  failures++;
  bool early = lw_now_ms() - health.started_ms < lw_pace_ms(FIRST_MS);
  if (health.said != AWAITED || !early) health.said = FAILED;
  check_later();
  if (health.said == AWAITED) return;
  if (health.url && !health.had_good) {
    snprintf(why, sizeof why, "no good health check within %d s: %s", FIRST_MS / 1000, health.last);
  } else if (stalled) {
    snprintf(why, sizeof why, "the model has sent no byte for %g s to the requests at work; %s",
             (double)health.stall_ms / 1000, health.last);
  } else {
    snprintf(why, sizeof why, "%s", health.last);
  }
  if (strcmp(why, health.told) == 0) return;
  memcpy(health.told, why, sizeof why);
  health.events.on_failed(why);
}

/* The answer's body is read and dropped, so that the connection can be kept; its head decides. */
static void look_at_call(void) {
  lw_code code = lw_upstream_skip_body(health.call);
  if (code == LW_AGAIN) return;
  int status = lw_upstream_status(health.call);
  if (status) {
    snprintf(health.last, sizeof health.last, "health check %.300s answered with status %d",
             health.shown, status);
  } else {
    snprintf(health.last, sizeof health.last, "%s", lw_upstream_error(health.call));
  }
  bool stalled = health.stalled;
  bool moved = lw_upstream_model_bytes() != health.bytes_at_check;
  end_check();
  if (status == 200 || (status && !health.url)) {
    take_good(stalled);
  } else if (!status && code == LW_TIMEOUT && moved) {
    lw_info("%s, but the model is sending answers: that proves nothing", health.last);
    check_later();
  } else {
    take_bad(stalled);
  }
}

/* -- the watchdog -- */

/* A long silent generation is legal, so silence alone is no error: it only calls for a check. */
static void watch_progress(void) {
  uint64_t bytes = lw_upstream_model_bytes(), now_ms = lw_now_ms();
  uint64_t successes = lw_account_totals(health.account)->success;
  bool idle = lw_account_calling(health.account) == 0;
  health.watch_due = false;
  if (idle || bytes != health.moved_bytes || successes != health.moved_successes) {
    health.moved_bytes = bytes;
    health.moved_successes = successes;
    health.moved_ms = now_ms;
  } else if (now_ms - health.moved_ms >= health.stall_ms) {
    health.moved_ms = now_ms; /* at most one check in this time */
    begin_check();
    health.stalled = health.call != NULL;
  }
}

static void run_health(lw_wake *w) {
  (void)w;
  if (health.watch_due) watch_progress();
  if (health.call) {
    look_at_call();
  } else if (health.check_due) {
    begin_check();
  }
}

static void on_next(lw_timer *t) {
  (void)t;
  health.check_due = true;
  lw_loop_wake(&health.wake);
}

static void on_watch(lw_timer *t) {
  lw_timer_start(t, lw_pace_ms(WATCH_MS));
  health.watch_due = true;
  lw_loop_wake(&health.wake);
}

/* -- start and stop -- */

void lw_health_start(const lw_health_settings *s, const lw_health_events *events,
                     const lw_account *account) {
  lw_health_stop();
  memset(&health, 0, sizeof health);
  health.running = true;
  health.events = *events;
  health.account = account;
  health.url = s->url ? lw_strdup(s->url) : NULL;
  health.probe_url = s->probe_url ? lw_strdup(s->probe_url) : NULL;
  const char *asked = s->url ? s->url : s->probe_url;
  health.shown = asked ? lw_address_shown(lw_span_of(asked)) : NULL;
  health.had_good = s->is_well;
  health.said = s->is_well ? WELL : s->url ? AWAITED : FAILED;
  health.started_ms = health.moved_ms = lw_now_ms();
  health.moved_bytes = lw_upstream_model_bytes();
  health.stall_ms = (uint64_t)(s->stall_timeout_s * 1000);
  lw_wake_init(&health.wake, run_health);
  lw_timer_init(&health.next, on_next);
  lw_timer_init(&health.watch, on_watch);
  if (health.stall_ms) lw_timer_start(&health.watch, lw_pace_ms(WATCH_MS));
  if (health.url || health.said != WELL) begin_check();
}

void lw_health_probe(void) {
  if (health.running && health.said == WELL) begin_check();
}

void lw_health_stop(void) {
  if (!health.running) return;
  health.running = false;
  end_check();
  lw_timer_fini(&health.next);
  lw_timer_fini(&health.watch);
  lw_wake_cancel(&health.wake);
  free(health.url);
  free(health.probe_url);
  free(health.shown);
  health.last[0] = 0;
}
